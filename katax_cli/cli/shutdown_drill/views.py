"""The parts of `katax shutdown-test` that are about words and streams."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from signal import Signals
from typing import TYPE_CHECKING

import typer

from katax_cli.cli.shell.confirm import Tier, confirm, refuse_unnamed
from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.options import one_of
from katax_cli.errors import ConfigError
from katax_cli.services.shutdown_drill.values import FAULTS, DrillPlan, DrillReport, Fault

if TYPE_CHECKING:
    from katax_cli.core.settings import ConnectionSettings
    from katax_cli.services.runtime.runtime import Runtime

CHOOSABLE = "|".join(FAULTS)
HEADER = ("check", "status", "detail", "at_ms")


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

    with call.runtime(probing=True, endless=True) as runtime:
        databases = [runtime.open(each) for each in witnesses(call, runtime)]
        report = drill(plan, databases, sink=lambda line: _echo(call, line))
    if call.out.format == "json":
        call.out.action(as_dict(report))
    else:
        call.out.rows(HEADER, [report.verdicts])
        _narrate(call, report)
    return ExitCode.DONE if report.passed else ExitCode.NO


def drill_own(call: Invocation, plan: DrillPlan) -> ExitCode:
    """Drills every service of katax that the profile could run, one after the other."""
    if plan.url is not None or plan.work or plan.load:
        raise typer.BadParameter("--load, --url and --work are for a program; name it after --")
    with call.runtime(probing=True, endless=True) as runtime:
        profile = runtime.profile
        refuse_unnamed(call, profile)
        confirm(call, profile, profile.state.connection, Tier.DISRUPTIVE, "start and stop its services")
        settings = witnesses(call, runtime)
        reports = dict(_own_reports(call, plan, runtime, settings))
    if call.out.format == "json":
        found = [{"service": name, **as_dict(report)} for name, report in reports.items()]
        call.out.action({"passed": _passed(reports), "services": found})
    else:
        rows = [(name, *each) for name, report in reports.items() for each in report.verdicts]
        call.out.rows(("service", *HEADER), [rows])
    return ExitCode.DONE if _passed(reports) else ExitCode.NO


def _own_reports(
    call: Invocation, plan: DrillPlan, runtime: Runtime, settings: Sequence[ConnectionSettings]
) -> Iterator[tuple[str, DrillReport]]:
    from katax_cli.services.shutdown_drill.drill import drill
    from katax_cli.services.shutdown_drill.own import free_port, own_services

    for service in own_services(runtime.profile, port=free_port):
        call.diagnostics.note(f"drilling {service.name}")
        asked = replace(plan, command=service.command, url=service.url, load=1)
        databases = [runtime.open(each) for each in settings]
        report = drill(asked, databases, sink=lambda line: _echo(call, line))
        _narrate(call, report)
        yield service.name, report


def _passed(reports: Mapping[str, DrillReport]) -> bool:
    return all(report.passed for report in reports.values())


def witnesses(call: Invocation, runtime: Runtime) -> list[ConnectionSettings]:
    """Connections whose servers list their sessions; others are named on stderr. Raises ConfigError for none."""
    from katax_cli.services.shutdown_drill.servers import ENGINES

    chosen = call.chosen(runtime, ())
    for each in chosen:
        if each.type not in ENGINES:
            call.diagnostics.note(f"{each.name!r} is left out: {each.type} has no sessions to ask for")
    found = [each for each in chosen if each.type in ENGINES]
    if not found:
        raise ConfigError(
            f"profile {runtime.profile.name!r} has no server to ask; shutdown-test asks {', '.join(ENGINES)}"
        )
    return found


def as_dict(report: DrillReport) -> dict[str, object]:
    """The report with the keys of `katax shutdown-test -f json`."""
    return {
        "passed": report.passed,
        "checks": [each._asdict() for each in report.verdicts],
        "timeline": [each._asdict() for each in report.timeline],
    }


def _narrate(call: Invocation, report: DrillReport) -> None:
    for event in report.timeline:
        call.diagnostics.note(f"{event.at_ms} ms: {event.event}")


def _echo(call: Invocation, line: bytes) -> None:
    """The program's output is narration here; beside JSON it is dropped."""
    if not (call.diagnostics.json or call.shared.quiet):
        call.streams.stderr.write(line.decode(errors="replace"))
        call.streams.stderr.flush()
