"""What a verbose health check asks of an engine beyond a ping."""

from __future__ import annotations

from typing import Any, Protocol

from katax_cli.snapshot import Headroom, Standing


class ReportsHeadroom(Protocol):
    """Knows its place and its limits; made by `create(engine)` of the engine's module `headroom`.

    What the user of the connection may not see is left out.
    """

    def standing(self, connection: Any, timeout: float | None = None) -> Standing:
        """Which role the server has now, after any failover, and how far it is behind."""
        ...

    def headroom(self, connection: Any, timeout: float | None = None) -> list[Headroom]:
        """What has a limit, or grows until it hurts."""
        ...
