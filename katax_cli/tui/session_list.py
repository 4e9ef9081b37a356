"""The sessions of servers as rows. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from katax_cli.snapshot import RunningSession
from katax_cli.tui.glyphs import FADED, ODD, is_fresh, said, span
from katax_cli.tui.table import TableRow, faded


def session_rows(sessions: Sequence[RunningSession], now: float) -> Iterator[TableRow]:
    """Those that run a statement first, then those with a transaction, the oldest on top; last what cannot be seen.

    Those of one age in whole seconds stay in the order in which they come, so that a quiet screen stays quiet.
    """
    for session in sorted(sessions, key=_urgency):
        row = _unseen(session) if session.pid is None else _session(session)
        yield row if is_fresh(session.seen_at, now) else row._replace(cells=faded(row.cells))


def _urgency(session: RunningSession) -> tuple[bool, bool, bool, float]:
    waited = session.transaction_age_seconds or session.age_seconds or 0.0
    return (session.pid is None, not session.busy, session.transaction_age_seconds is None, -(waited // 1))


def _session(session: RunningSession) -> TableRow:
    cells = (
        said(str(session.pid), "bold"),
        said(session.connection),
        said(session.user or ""),
        _state(session),
        said(session.wait or "", ODD),
        _age(session.age_seconds),
        _age(session.transaction_age_seconds),
        said(session.statement or ""),
        said(session.database or ""),
        said(session.host or ""),
    )
    name = str(session.pid)
    return TableRow(f"{session.connection} {name}", name, cells, ("-c", session.connection))


def _unseen(session: RunningSession) -> TableRow:
    """A row that nothing can be done with."""
    empty = Text("")
    what = (said(session.connection), empty, said(f"? {session.state}", FADED), empty, empty, empty)
    cells = (empty, *what, said(session.statement or "", FADED), empty, empty)
    return TableRow(f"{session.connection} {session.statement}", "", cells)


def _state(session: RunningSession) -> Text:
    """A session that holds its transaction open and runs nothing keeps locks from others."""
    if session.busy:
        return said(f"▶ {session.state}")
    if session.transaction_age_seconds is not None:
        return said(f"▲ {session.state.replace('transaction', 'tx')}", ODD)
    return said(f"○ {session.state}", FADED)


def _age(seconds: float | None) -> Text:
    return Text("" if seconds is None else span(max(0.0, seconds)), justify="right")
