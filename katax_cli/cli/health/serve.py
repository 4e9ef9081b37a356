"""The part of `katax health serve` that is about words, signals and streams."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.scope import probing_scope
from katax_cli.cli.shell.signals import ended_by_signals
from katax_cli.core.clock import SYSTEM
from katax_cli.core.settings import LOOPBACK
from katax_cli.errors import Refused
from katax_cli.services.health.probe import PROBE_SECONDS

if TYPE_CHECKING:
    from katax_cli.services.health.serve import HealthService


def serve(call: Invocation, connections: Sequence[str], *, host: str, port: int, insecure: bool) -> ExitCode:
    """Serves until a signal. Raises Refused for a host beyond loopback that was not meant."""
    if host not in LOOPBACK and not insecure:
        raise Refused(
            f"{host} is open to other machines, and health serve has no token; repeat with --insecure"
        )
    from katax_cli.services.health.serve import HealthService
    from katax_cli.services.http import HttpServer
    from katax_cli.services.state.reporter import report

    seconds = PROBE_SECONDS if call.shared.timeout is None else call.shared.timeout
    with probing_scope(call, connections) as chosen, ended_by_signals() as ending:
        databases = chosen.databases
        reporter = report(chosen.runtime, "health serve")
        service = HealthService(chosen.profile, databases, seconds=seconds, reporter=reporter)
        with closing(HttpServer(service.routes(), name="katax-health-http", host=host, port=port)) as server:
            service.start()
            call.diagnostics.note(f"health of {chosen.profile.name!r} on {server.url}/ready")
            ending.wait()
            _end(call, service)
            chosen.runtime.close()
    return ExitCode.DONE


def _end(call: Invocation, service: HealthService) -> None:
    """Readiness goes first; /live and /metrics answer until everything else is closed."""
    from katax_cli.services.health.serve import LINGER_SECONDS

    service.drain()
    call.diagnostics.note("health serve is ending; /ready fails from now on")
    SYSTEM.sleep(min(LINGER_SECONDS, service.profile.shutdown.timeout / 2))
    service.stop()
