"""`katax shutdown-test`: does a program stop cleanly, as its servers see it?"""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.options import duration, limit
from katax_cli.cli.shutdown_drill.views import (
    CHOOSABLE,
    drill_own,
    drill_program,
    faults_of,
    signal_of,
)

group = Group(default="run")

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[-- CMD...]", help="The program; none: katax's own services on the profile."),
]


@group.command("run")
def run(
    call: Invocation,
    command: Words = None,
    signal: Annotated[str, typer.Option("--signal", metavar="NAME", help="Signal that stops it.")] = "TERM",
    grace: Annotated[
        str | None,
        typer.Option("--grace", metavar="DURATION", help="Time from the signal to its end; else 30s."),
    ] = None,
    load: Annotated[int, typer.Option("--load", min=0, help="Number of concurrent pieces of work.")] = 0,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="URL to GET as a piece of work.")
    ] = None,
    work: Annotated[
        str | None, typer.Option("--work", metavar="CMD", help="Command to run as a piece of work.")
    ] = None,
    fault: Annotated[
        list[str] | None, typer.Option("--fault", metavar="FAULT", help=f"Fault to inject: {CHOOSABLE}.")
    ] = None,
    after: Annotated[str, typer.Option("--after", metavar="DURATION", help="Time before the signal.")] = "2s",
    drain: Annotated[
        str, typer.Option("--drain", metavar="DURATION", help="Time to go on taking work.")
    ] = "1s",
    exit_code: Annotated[
        list[int] | None, typer.Option("--exit-code", help="A clean exit status; else 0.")
    ] = None,
    client: Annotated[
        str | None, typer.Option("--client", metavar="GLOB", help="Names of its sessions.")
    ] = None,
    temporary: Annotated[
        list[str] | None,
        typer.Option("--temporary", metavar="GLOB", help="Keys that must be gone afterwards."),
    ] = None,
    kubernetes: Annotated[
        float | None,
        typer.Option(
            "--kubernetes", metavar="SECONDS", min=0.1, help="terminationGracePeriodSeconds to keep within."
        ),
    ] = None,
) -> ExitCode:
    """Stop a program and check the servers for what it left behind; exit 0 only if every check holds."""
    from katax_cli.services.shutdown_drill.values import GRACE_SECONDS, DrillPlan

    plan = DrillPlan(
        command=tuple(command or ()),
        signal=signal_of(signal),
        grace=(kubernetes or GRACE_SECONDS) if grace is None else limit(grace),
        after=duration(after),
        drain=duration(drain),
        load=load,
        url=url,
        work=tuple(shlex.split(work or "")),
        faults=faults_of(fault),
        expected=tuple(exit_code or (0,)),
        client=client,
        temporary=tuple(temporary or ()),
        period=kubernetes,
    )
    return drill_program(call, plan) if plan.command else drill_own(call, plan)
