"""The collector of the dashboard, for the connections that were chosen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.scope import probing_scope

if TYPE_CHECKING:
    from katax_cli.services.dashboard.collector import Collector


@contextmanager
def collecting(call: Invocation) -> Iterator[Collector]:
    """The collector of the chosen connections and of the state database."""
    from katax_cli.services.dashboard.collector import Collector
    from katax_cli.services.health.probe import PROBE_SECONDS

    seconds = PROBE_SECONDS if call.shared.timeout is None else call.shared.timeout
    with (
        probing_scope(call) as chosen,
        closing(Collector(chosen.runtime, chosen.databases, seconds=seconds)) as collector,
    ):
        yield collector
