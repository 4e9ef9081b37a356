"""Ending a statement or a session of a server, and looking again whether it ended."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.engines.activity import HIDDEN, ActivityList, EndsSessions, SessionActivity
from katax_cli.engines.registry import part
from katax_cli.errors import ConfigError, KataxError, Refused, SessionNotEnded
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.database import Database
from katax_cli.services.inspect.activity import activity

EndAction = Literal["cancel", "terminate"]
Fate = Literal["cancelled", "terminated", "still running", "unknown"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5
# What `activity` shows: a number, in a cluster with the server's address, on a mongos with the shard's name.
_PID = re.compile(r"(?:[^\s:]+:)?[0-9]{1,20}(?:@\S+)?|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


class ObservedFate(NamedTuple):
    """The fate of the target, as the server shows it; `reason` says why it is not known."""

    fate: Fate
    reason: str | None = None


def find(database: Database, pid: str, action: EndAction) -> SessionActivity:
    """The session with this pid, as `activity` shows it.

    Raises ConfigError for what is no pid, Refused on a read-only connection and for the session that asks,
    SessionNotEnded when there is none, or nothing that could be cancelled.
    """
    database.settings.refuse_read_only()
    if not _PID.fullmatch(pid):
        raise ConfigError(f"{pid!r} is no pid; 'katax db activity' lists them")
    listed = activity(database)
    if pid == str(listed.own):
        raise Refused(f"{pid} is the session of this command itself; 'katax db activity' lists the others")
    target = next((session for session in listed.sessions if str(session.pid) == pid), None)
    if target is None:
        raise SessionNotEnded(database.name, pid, _absent(listed))
    if action == "cancel" and target.work is None and target.state != HIDDEN:
        raise SessionNotEnded(
            database.name, pid, f"it runs no statement ({target.state}); 'db terminate' ends the session"
        )
    return target


def end(
    database: Database,
    target: SessionActivity,
    action: EndAction,
    *,
    settle: float,
    clock: Clock = SYSTEM,
) -> ObservedFate:
    """Tells the server to end the target's statement or session, and looks again for up to `settle` seconds.

    Raises SessionNotEnded when it had ended before, Refused on a read-only connection, and OutcomeUnknown when the
    order was not answered.
    """
    database.settings.refuse_read_only()
    inspection: EndsSessions = part(database.engine, "activity")
    order = inspection.cancel if action == "cancel" else inspection.terminate
    taken = database.ask(
        lambda connection, seconds: order(connection, target, seconds),
        safety=Safety.WRITE,
        doing=f"{action} of {target.pid}",
    )
    if not taken:
        what = "the session" if action == "terminate" else "its statement"
        raise SessionNotEnded(database.name, str(target.pid), f"{what} ended before it was told to")
    return _watched(database, target, action, settle, clock)


def _watched(
    database: Database, target: SessionActivity, action: EndAction, settle: float, clock: Clock
) -> ObservedFate:
    give_up_at, pause = clock.monotonic() + settle, _FIRST_PAUSE
    while True:
        try:
            fate = fate_of(target, action, activity(database))
        except KataxError as error:
            return ObservedFate("unknown", str(error))
        if fate == "unknown":
            return ObservedFate(fate, "this user may not look into the session")
        if fate != "still running" or clock.monotonic() >= give_up_at:
            return ObservedFate(fate)
        clock.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


def fate_of(target: SessionActivity, action: EndAction, later: ActivityList) -> Fate:
    """The fate that a later look proves. A statement that runs no more is cancelled, whatever its session runs now."""
    same = (session for session in later.sessions if session.pid == target.pid)
    now = next((session for session in same if session.session == target.session), None)
    if action == "terminate":
        return "terminated" if now is None else "still running"
    if now is None:
        return "cancelled"
    if HIDDEN in (now.state, target.state):
        return "unknown"
    return "still running" if now.work == target.work else "cancelled"


def _absent(listed: ActivityList) -> str:
    unseen = f"; {'; '.join(listed.unseen)}" if listed.unseen else ""
    return f"there is no such session, it may have ended; 'katax db activity' lists them{unseen}"
