"""`katax health`: does what the profile names work?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Never

import typer

from katax_cli.cli.health.views import EXTRA_FORMATS, HISTORY, exit_code, history_row, view
from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.options import limit, one_of
from katax_cli.cli.shell.output import FORMATS, Manner
from katax_cli.cli.shell.scope import Scope, probing_scope
from katax_cli.cli.shell.watch import refuse_file, watch
from katax_cli.services.backup.age import backup_checker
from katax_cli.services.health.probe import PROBE_SECONDS, HealthChecker, Prober
from katax_cli.services.runtime.decisions import HostCopy

if TYPE_CHECKING:
    from katax_cli.profiles.model.model import Profile
    from katax_cli.services.databases.database import Database

group = Group(default="check")


@group.command("check", formats=EXTRA_FORMATS)
def check(
    call: Invocation,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[CONN]...", help="Connections or globs; none: all.")
    ] = None,
    watching: Annotated[bool, typer.Option("--watch", help="Repeat the check until Ctrl-C.")] = False,
    interval: Annotated[
        str, typer.Option("--interval", metavar="DURATION", help="Time between checks under --watch.")
    ] = "2s",
    fail_on: Annotated[
        str, typer.Option(metavar="degraded|unhealthy", help="Lowest status with an exit code other than 0.")
    ] = "degraded",
    history: Annotated[
        bool, typer.Option("--history", help="Show earlier results of --watch, the newest first.")
    ] = False,
) -> ExitCode:
    """Check the health of the profile's servers; exit 0 healthy, 1 degraded, 3 unhealthy.

    --verbose tries each layer (name, TCP, TLS, login, read, write role, lag), names the first that fails and its
    likely cause, and shows resources near their limit. A tripped circuit is degraded; with a reason the server is
    under maintenance, and its failures do not count.
    """
    if history:
        return show_history(call, names or [])
    one_of("status", ("degraded", "unhealthy"))(fail_on)
    every = limit(interval)
    if watching:
        refuse_file(call)
    seconds = PROBE_SECONDS if call.shared.timeout is None else call.shared.timeout
    with probing_scope(call, names or []) as chosen:
        call.note_unused(chosen.profile)
        for wrong in chosen.profile.cron.wrong.values():
            call.diagnostics.note(f"{wrong}; this job does not run, see 'katax cron check'")
        checker = checker_of(chosen, steady=watching)
        if watching:
            watch_health(chosen, checker, seconds=seconds, every=every)
        report = checker.check(seconds=seconds)
        call.out.raw(view(call.out, report, chosen.profile.health))
    return exit_code(report, call.out.format, fail_on)


@group.command("serve")
def serve(
    call: Invocation,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[CONN]...", help="Connections or globs; none: all.")
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, metavar="PORT", help="Port to listen on; 0: any.")
    ] = 9464,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond loopback, without authentication.")
    ] = False,
) -> ExitCode:
    """Serve /live, /ready, /startup and /metrics (OpenMetrics) until a signal; see docs/metrics.md.

    Checks the connections every [health] interval; answers come from the last checks. On TERM
    /ready fails first.
    """
    from katax_cli.cli.health.serve import serve

    return serve(call, names or [], host=host, port=port, insecure=insecure)


def checker_of(chosen: Scope, *, steady: bool) -> HealthChecker:
    """The checker of the connections; `steady`: a change of status shows only when it lasts."""
    profile = chosen.profile
    return HealthChecker(
        profile.name,
        chosen.databases,
        policy=profile.health,
        steady=steady,
        prober=prober(chosen.call, profile),
        tripped=HostCopy(profile.home, profile.name).refusal,
        backup=backup_checker(profile),
    )


def watch_health(chosen: Scope, checker: HealthChecker, *, seconds: float, every: float) -> Never:
    """Shows a report every so many seconds, and writes each to the state database."""
    from katax_cli.services.state.reporter import report

    call = chosen.call
    state = report(chosen.runtime, "health --watch")

    def look() -> list[bytes]:
        checked = checker.check(seconds=seconds)
        state.checked(checked)
        return [view(call.out, checked, chosen.profile.health)]

    watch(call, every=every, work=look)


def prober(call: Invocation, profile: Profile) -> Callable[[Database], Prober] | None:
    """The probe of each connection: a ping, or under --verbose every layer."""
    if not call.shared.verbose:
        return None
    from katax_cli.services.health.deep_probe import deep_prober

    return deep_prober(profile)


def show_history(call: Invocation, connections: list[str]) -> ExitCode:
    """Shows the results of long-lived processes, from the state database."""
    one_of("format of --history", FORMATS)(call.out.format)
    from katax_cli.services.state.store import StateStore

    with probing_scope(call, connections, endless=False) as chosen, StateStore(chosen.profile) as store:
        names = {settings.name for settings in chosen.settings}
        records = [record for record in store.health() if record.connection in names]
    manner = Manner(ages=("timestamp",), below="message")
    call.out.rows(HISTORY, [[history_row(record) for record in records]], manner)
    return ExitCode.DONE
