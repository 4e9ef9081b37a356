"""The parts of `katax shutdown-test` that are about words and streams."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from signal import Signals

import typer

from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.options import one_of
from katax_cli.cli.shell.output import Manner
from katax_cli.cli.shell.scope import Scope, probing_scope
from katax_cli.core.roles import Tier
from katax_cli.errors import ConfigError
from katax_cli.services.shutdown_drill.values import FAULTS, DrillPlan, DrillReport, Fault

CHOOSABLE = ", ".join(FAULTS)
HEADER = ("check", "status", "detail", "at_ms")
_MANNER = Manner(below="detail")


def signal_of(name: str) -> Signals:
    """A signal by its name, with or without SIG."""
    with suppress(KeyError):
        return Signals[f"SIG{name.upper().removeprefix('SIG')}"]
    raise typer.BadParameter(f"no signal named {name!r}; expected a name as TERM, INT or QUIT")


def faults_of(names: Iterable[str] | None) -> tuple[Fault, ...]:
    """The faults in the order of the menu, each once."""
    asked = {one_of("fault", FAULTS)(name) for name in names or ()}
    return tuple(name for name in FAULTS if name in asked)


def drill_program(call: Invocation, plan: DrillPlan) -> ExitCode:
    """Drills one program; the timeline goes to stderr, or with the checks into JSON."""
    from katax_cli.services.shutdown_drill.drill import drill

    with probing_scope(call) as chosen:
        report = drill(plan, witnesses(chosen).databases, sink=lambda line: _echo(call, line))
    if call.out.format == "json":
        call.out.action(as_dict(report))
    else:
        call.out.rows(HEADER, [report.verdicts], _MANNER)
        _narrate(call, report)
    return ExitCode.DONE if report.passed else ExitCode.NO


def drill_own(call: Invocation, plan: DrillPlan) -> ExitCode:
    """Drills every service of katax that the profile could run, one after the other."""
    if plan.url is not None or plan.work or plan.load:
        raise typer.BadParameter("--load, --url and --work are for a program; name it after --")
    with probing_scope(call, named=True) as chosen:
        state = chosen.profile.state.connection
        chosen.confirm(Tier.DISRUPTIVE, "start and stop its services", of=state)
        reports = dict(_own_reports(witnesses(chosen), plan))
    if call.out.format == "json":
        checks = [{"service": name, **as_dict(report)} for name, report in reports.items()]
        call.out.action({"passed": _passed(reports), "services": checks})
    else:
        rows = [(name, *verdict) for name, report in reports.items() for verdict in report.verdicts]
        call.out.rows(("service", *HEADER), [rows], _MANNER)
    return ExitCode.DONE if _passed(reports) else ExitCode.NO


def _own_reports(chosen: Scope, plan: DrillPlan) -> Iterator[tuple[str, DrillReport]]:
    from katax_cli.engines.tunnel import free_port
    from katax_cli.services.shutdown_drill.drill import drill
    from katax_cli.services.shutdown_drill.own import own_services

    call = chosen.call
    for service in own_services(chosen.profile, port=free_port):
        call.diagnostics.note(f"drilling {service.name}")
        asked = replace(plan, command=service.command, url=service.url, load=1)
        report = drill(asked, chosen.databases, sink=lambda line: _echo(call, line))
        _narrate(call, report)
        yield service.name, report


def _passed(reports: Mapping[str, DrillReport]) -> bool:
    return all(report.passed for report in reports.values())


def witnesses(chosen: Scope) -> Scope:
    """The connections whose servers list their sessions; others are named on stderr. Raises ConfigError for none."""
    from katax_cli.core.engine_names import SERVER_ENGINES

    for settings in chosen.settings:
        if settings.type not in SERVER_ENGINES:
            chosen.call.diagnostics.note(
                f"{settings.name!r} is left out: {settings.type} has no sessions to ask for"
            )
    servers = tuple(settings for settings in chosen.settings if settings.type in SERVER_ENGINES)
    if not servers:
        raise ConfigError(
            f"profile {chosen.profile.name!r} has no server to ask; shutdown-test asks {', '.join(SERVER_ENGINES)}"
        )
    return chosen._replace(settings=servers)


def as_dict(report: DrillReport) -> dict[str, object]:
    """The report with the keys of `katax shutdown-test -f json`."""
    return {
        "passed": report.passed,
        "checks": [verdict._asdict() for verdict in report.verdicts],
        "timeline": [event._asdict() for event in report.timeline],
    }


def _narrate(call: Invocation, report: DrillReport) -> None:
    for event in report.timeline:
        call.diagnostics.note(f"{event.at_ms} ms: {event.event}")


def _echo(call: Invocation, line: bytes) -> None:
    """The program's output is narration here; beside JSON it is dropped."""
    if not (call.diagnostics.json or call.shared.quiet):
        call.streams.stderr.write(line.decode(errors="replace"))
        call.streams.stderr.flush()
