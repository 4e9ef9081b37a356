"""`katax db journal`: the writes that commands made or tried."""

from __future__ import annotations

from dataclasses import astuple, fields
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.options import duration
from katax_cli.cli.shell.output import GREEN, RED, YELLOW, Manner

group = Group()

_SHADES = {
    "outcome": {"done": GREEN, "unknown": RED, "failed": RED, "refused": YELLOW, "rolled back": YELLOW}
}
_BRIEF = ("started_at", "user", "connection", "command", "outcome", "rows", "statement")


@group.command("journal")
def journal(
    call: Invocation,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Maximum number of rows.")] = 50,
    since: Annotated[
        str | None, typer.Option("--since", metavar="DURATION", help="Only writes of the last 30m, 12h, 7d …")
    ] = None,
) -> None:
    """Show what commands wrote, the newest first: who, where, how many rows, and the outcome.

    Statements are without their values. -c shows the writes of these connections only. A katax that was killed
    leaves no line.
    """
    from katax_cli.services.calls.journal import Journal, JournalEntry

    start = None if since is None else datetime.now(UTC) - timedelta(seconds=duration(since))
    with call.logged_profile() as profile:
        wanted = {settings.name for word in call.connections for settings in profile.match(word)}
        entries, unreadable = Journal(profile.journal.path(profile.home)).entries(
            limit=limit, since=start, connections=wanted or None
        )
    names = [field.name for field in fields(JournalEntry)]
    call.out.rows(names, [[astuple(entry) for entry in entries]], Manner(shades=_SHADES, brief=_BRIEF))
    if unreadable:
        call.diagnostics.note(f"{unreadable} lines are no entries of the journal and were left out")
