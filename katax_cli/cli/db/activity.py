"""`katax db activity|blocking|cancel|terminate`: what runs on a server, who waits for whom, and how to end it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from katax_cli.cli.db.views import (
    ACTIVITY,
    ACTIVITY_HEADER,
    BLOCKING,
    BLOCKING_HEADER,
    blocking_row,
    outcome_facts,
    session_line,
)
from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import INTERACTIVE_SECONDS, Invocation
from katax_cli.cli.shell.options import duration, limit
from katax_cli.cli.shell.scope import Scope, Target, scope
from katax_cli.core.engine_names import SERVER_ENGINES, SQL_SERVERS
from katax_cli.core.roles import Tier
from katax_cli.errors import OutcomeUnknown, SessionNotEnded

if TYPE_CHECKING:
    from katax_cli.services.databases.database import Database
    from katax_cli.services.inspect.ending import EndAction

group = Group()

SESSIONS = Target(types=SERVER_ENGINES, preferred="main", lacks="sessions to list or end")
LOCKS = Target(types=SQL_SERVERS, preferred="main", lacks="locks between sessions")

Pid = Annotated[str, typer.Argument(metavar="PID", help="As 'katax db activity' lists it.")]
Wait = Annotated[
    str, typer.Option("--wait", metavar="DURATION", help="Time in which it must be seen to have ended.")
]


@group.command("activity")
def activity(
    call: Invocation,
    watching: Annotated[bool, typer.Option("--watch", help="Look again and again until Ctrl-C.")] = False,
    interval: Annotated[
        str, typer.Option("--interval", metavar="DURATION", help="Time between looks under --watch.")
    ] = "2s",
) -> ExitCode:
    """List the sessions of a server and what they run, the busiest first; statements without their values.

    A session that this user may not look into has the state 'hidden'.
    """
    every = limit(interval)
    if watching:
        from katax_cli.cli.shell.watch import watch_answers

        watch_answers(call, SESSIONS, every=every, answer=lambda chosen, seconds: _list(chosen, seconds)[1])
    with scope(call, SESSIONS) as chosen:
        code, unseen = _list(chosen)
    for note in unseen:
        call.diagnostics.note(note)
    return code


@group.command("blocking")
def blocking(call: Invocation) -> ExitCode:
    """Show who waits for whose lock as a tree, what for, and for how long; no rows: none waits."""
    from katax_cli.services.inspect.activity import blocking

    notes: list[str] = []

    def work(database: Database) -> list[tuple[object, ...]]:
        waiting = blocking(database)
        notes.extend(waiting.unseen)
        for circle in waiting.circles:
            pids = ", ".join(map(str, circle))
            notes.append(f"{pids} wait for each other on {database.name!r}: a deadlock, unless one gives up")
        return [
            blocking_row(row, drawn=call.out.wants_text and call.out.format not in ("csv", "tsv"))
            for row in waiting.rows
        ]

    with scope(call, LOCKS) as chosen:
        code = chosen.answer_each(BLOCKING_HEADER, work, manner=BLOCKING)
    for note in dict.fromkeys(notes):
        call.diagnostics.note(note)
    return code


@group.command("cancel")
def cancel(call: Invocation, pid: Pid, wait: Wait = "5s") -> ExitCode:
    """Cancel the statement that a session runs, and look whether it ended; exit 1 still running, 6 unknown.

    The session goes on.
    """
    return _end(call, pid, "cancel", duration(wait))


@group.command("terminate")
def terminate(call: Invocation, pid: Pid, wait: Wait = "5s") -> ExitCode:
    """End a session, which rolls its transaction back, and look whether it ended; exit 1 still running, 6 unknown."""
    return _end(call, pid, "terminate", duration(wait))


def _list(chosen: Scope, seconds: float | None = None) -> tuple[ExitCode, list[str]]:
    """Prints the sessions of each server; returns also what could not be seen."""
    from katax_cli.services.inspect.activity import activity

    unseen: list[str] = []

    def work(database: Database) -> list[Sequence[object]]:
        listed = activity(database, timeout=seconds)
        unseen.extend(listed.unseen)
        return [session[: len(ACTIVITY_HEADER)] for session in listed.sessions]

    code = chosen.answer_each(ACTIVITY_HEADER, work, manner=ACTIVITY)
    return code, list(dict.fromkeys(unseen))


def _end(call: Invocation, pid: str, action: EndAction, wait: float) -> ExitCode:
    from katax_cli.services.inspect.ending import end, find

    with scope(call, SESSIONS, seconds=INTERACTIVE_SECONDS + wait) as chosen:
        database = chosen.runtime.open(chosen.one)
        target = find(database, pid, action)
        chosen.confirm(Tier.DISRUPTIVE, f"{action} {session_line(target)}")
        if call.only_planned(**outcome_facts(target, "not told to end")):
            return ExitCode.DONE
        outcome = end(database, target, action, settle=wait)
    call.out.action(outcome_facts(target, outcome.fate))
    if outcome.fate == "unknown":
        raise OutcomeUnknown(chosen.one.name, f"session {pid}: {outcome.reason}")
    if outcome.fate == "still running":
        raise SessionNotEnded(
            chosen.one.name, pid, "it was told to end and still runs; look again, or --wait longer"
        )
    return ExitCode.DONE
