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
    signal: Annotated[str, typer.Option("--signal", metavar="NAME", help="What tells it to stop.")] = "TERM",
    grace: Annotated[
        str | None, typer.Option("--grace", metavar="DURATION", help="From the signal to its end; else 30s.")
    ] = None,
    load: Annotated[int, typer.Option("--load", min=0, help="So many pieces of work at a time.")] = 0,
    url: Annotated[str | None, typer.Option("--url", metavar="URL", help="Work is a GET of this.")] = None,
    work: Annotated[str | None, typer.Option("--work", metavar="CMD", help="Work is a run of this.")] = None,
    fault: Annotated[list[str] | None, typer.Option("--fault", metavar=CHOOSABLE, help="Goes wrong.")] = None,
    after: Annotated[
        str, typer.Option("--after", metavar="DURATION", help="How long it runs before the signal.")
    ] = "2s",
    drain: Annotated[
        str, typer.Option("--drain", metavar="DURATION", help="How long it may still take work.")
    ] = "1s",
    exit_code: Annotated[
        list[int] | None, typer.Option("--exit-code", help="A clean exit status; else 0.")
    ] = None,
    client: Annotated[
        str | None, typer.Option("--client", metavar="GLOB", help="Names that its sessions have.")
    ] = None,
    temporary: Annotated[
        list[str] | None, typer.Option("--temporary", metavar="GLOB", help="Keys that must not stay.")
    ] = None,
    kubernetes: Annotated[
        float | None,
        typer.Option(
            "--kubernetes", metavar="SECONDS", min=0.1, help="terminationGracePeriodSeconds to fit in."
        ),
    ] = None,
) -> ExitCode:
    """Stop a program and ask the servers what it left behind; exit 0 only if every check holds."""
    from katax_cli.services.shutdown_drill.values import GRACE_SECONDS, Plan

    plan = Plan(
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
