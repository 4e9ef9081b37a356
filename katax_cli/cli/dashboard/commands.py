"""`katax dashboard`: the services of a profile on one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from katax_cli.cli.dashboard.collecting import collecting
from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.options import limit, one_of

if TYPE_CHECKING:
    from katax_cli.snapshot import Snapshot

group = Group(default="show")

SHORTEST = 0.1
"""Shortest seconds between two refreshes, which cost the servers time."""


@group.command("show")
def show(
    call: Invocation,
    interval: Annotated[
        str, typer.Option("--interval", metavar="DURATION", help="Time between refreshes.")
    ] = "2s",
    once: Annotated[bool, typer.Option("--once", help="Print one snapshot, and end.")] = False,
) -> int:
    """Watch connections, pools, circuits, calls, jobs, Socket.IO servers and sessions on one screen.

    Data of other processes comes from the state database. --once prints the same for scripts (-f json).
    """
    every = _interval(interval)
    if not once:
        from katax_cli.cli.dashboard.run import interactive

        return interactive(call, every=every)
    one_of("format of --once", ("table", "json"))(call.out.format)
    _write(call, _look(call))
    return ExitCode.DONE


def _interval(value: str) -> float:
    seconds = limit(value)
    if seconds < SHORTEST:
        raise typer.BadParameter(f"it is {value}, expected 100 ms or more")
    return seconds


def _look(call: Invocation) -> Snapshot:
    """One Snapshot, when all have answered or their time is over."""
    with collecting(call) as collector:
        return collector(patience=collector.longest, whole=True)


def _write(call: Invocation, snapshot: Snapshot) -> None:
    from katax_cli.core.text.text import to_json
    from katax_cli.services.dashboard.snapshot_json import as_dict

    if call.out.format == "json":
        call.out.text(to_json(as_dict(snapshot)))
        return
    from katax_cli.cli.dashboard.views import tables

    for title, columns, rows in tables(snapshot):
        call.out.text(title)
        if rows:
            call.out.rows(columns, [rows])
        call.out.text("")
