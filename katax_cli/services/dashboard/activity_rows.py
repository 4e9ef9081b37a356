"""The sessions of a server as a dashboard shows them. Pure."""

from __future__ import annotations

from katax_cli.engines.activity import ActivityList, SessionActivity
from katax_cli.snapshot import RunningSession

SHOWN = 200
"""Sessions of all servers together, as far as each has its share; the busiest are kept."""
_LEAST = 5
"""Sessions of one server, however many connections there are: all of them may be to one server that lists them all."""
UNSEEN = "unseen"
"""The state of a row that stands for what this user cannot see."""


def share(connections: int) -> int:
    """The number of sessions that are shown of each server."""
    return max(_LEAST, SHOWN // max(1, connections))


def activity_rows(
    connection: str, listed: ActivityList, now: float, *, shown: int = SHOWN
) -> tuple[RunningSession, ...]:
    """The busy sessions first, the longest on top, then those with a transaction; at the end what is not seen."""
    ordered = sorted(listed.sessions, key=_urgency)
    rows = [_row(connection, session, now) for session in ordered[:shown]]
    notes = [*listed.unseen]
    if len(ordered) > shown:
        notes.append(f"{len(ordered) - shown} more sessions; katax db activity -c {connection} lists them")
    return (*rows, *(_note(connection, note, now) for note in notes))


def _urgency(session: SessionActivity) -> tuple[bool, bool, float, str]:
    """Of one age in whole seconds by their pids, so that idle ones do not change places with each look."""
    waited = session.transaction_age_seconds or session.age_seconds or 0.0
    return (session.work is None, session.transaction_age_seconds is None, -(waited // 1), str(session.pid))


def _row(connection: str, session: SessionActivity, now: float) -> RunningSession:
    return RunningSession(
        connection,
        session.pid,
        session.user,
        session.host,
        session.database,
        session.state,
        session.wait,
        session.age_seconds,
        session.transaction_age_seconds,
        session.statement,
        session.work is not None,
        now,
    )


def _note(connection: str, note: str, now: float) -> RunningSession:
    unseen = SessionActivity(None, None, None, None, UNSEEN, None, None, None, note)
    return _row(connection, unseen, now)
