"""The questions of a verbose health check beyond a ping. See base."""

from __future__ import annotations

from typing import Any, Protocol

from katax_cli.snapshot import Headroom, ServerStanding


class ReportsHeadroom(Protocol):
    """Reports the server's role and limits; made by `create(engine)` of the engine's module `headroom`.

    What the user of the connection may not see is left out.
    """

    def standing(self, connection: Any, timeout: float | None = None) -> ServerStanding:
        """The server's present role, after any failover, and its lag."""
        ...

    def headroom(self, connection: Any, timeout: float | None = None) -> list[Headroom]:
        """Resources that have a limit or grow without one."""
        ...
