"""`katax health`: does what the profile names work?"""

from __future__ import annotations

from typing import Annotated

import typer

from katax_cli.cli.exits import ExitCode
from katax_cli.cli.group import Group
from katax_cli.cli.health_views import EXTRA_FORMATS, exit_code, view
from katax_cli.cli.invocation import Invocation
from katax_cli.cli.options import duration, one_of
from katax_cli.cli.watch import watch
from katax_cli.services.health import PROBE_SECONDS, HealthChecker

group = Group(default="check")


@group.command("check", formats=EXTRA_FORMATS)
def check(
    call: Invocation,
    connections: Annotated[
        list[str] | None, typer.Argument(metavar="[CONN]...", help="Connections or globs; none: all.")
    ] = None,
    watching: Annotated[bool, typer.Option("--watch", help="Check again and again until Ctrl-C.")] = False,
    interval: Annotated[
        str, typer.Option("--interval", metavar="DURATION", help="Time between checks under --watch.")
    ] = "2s",
    fail_on: Annotated[
        str, typer.Option(metavar="degraded|unhealthy", help="From which status on the exit code is not 0.")
    ] = "degraded",
) -> ExitCode:
    """See whether the servers of the profile work; exit 0 healthy, 1 degraded, 3 unhealthy."""
    one_of("status", ("degraded", "unhealthy"))(fail_on)
    seconds = PROBE_SECONDS if call.shared.timeout is None else call.shared.timeout
    with call.runtime(probing=True, endless=True) as runtime:
        policy = runtime.profile.health
        databases = [runtime.open(settings) for settings in call.chosen(runtime, connections or [])]
        checker = HealthChecker(runtime.profile.name, databases, policy=policy, steady=watching)

        if watching:
            watch(
                call,
                every=duration(interval),
                work=lambda: view(call.out, checker.check(seconds=seconds), policy),
            )
        report = checker.check(seconds=seconds)
        call.out.raw(view(call.out, report, policy))
    return exit_code(report, call.out.format, fail_on)
