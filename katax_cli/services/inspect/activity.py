"""The sessions of a server, and who of them waits for whom."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from katax_cli.core.engine_names import SQL_SERVERS
from katax_cli.core.text.duration import Duration
from katax_cli.engines.activity import (
    HIDDEN,
    ActivityList,
    ListsActivity,
    ListsLockWaits,
    LockWait,
    Pid,
    SessionActivity,
)
from katax_cli.engines.registry import part
from katax_cli.errors import WrongEngine
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.database import Database


class Blocked(NamedTuple):
    """A session in the tree of waits: `level` 0 waits for nobody, the others for the one that they stand below.

    `blocked_by` are all that it waits for; of a holder that the server does not name the pid is None. `lock` and
    `waiting_seconds` are about what it waits for.
    """

    pid: Pid | None
    blocked_by: tuple[Pid, ...]
    level: int
    session: SessionActivity
    lock: str | None = None
    waiting_seconds: float | None = None


class BlockingTree(NamedTuple):
    """The rows of the tree from the roots on; `circles` are pids that wait for each other; `unseen` as of activity."""

    rows: tuple[Blocked, ...]
    circles: tuple[tuple[Pid, ...], ...] = ()
    unseen: tuple[str, ...] = ()


def activity(database: Database, *, timeout: Duration | None = None) -> ActivityList:
    """The sessions of the server, without katax's own."""
    inspection: ListsActivity = part(database.engine, "activity")
    return database.ask(
        inspection.activity, safety=Safety.READ, timeout=timeout, doing="asking for the sessions"
    )


def blocking(database: Database, *, timeout: Duration | None = None) -> BlockingTree:
    """The sessions that wait for locks, below those that hold them. Empty: none waits.

    Raises WrongEngine for a server without locks, ConfigError where this user cannot see who waits.
    """
    inspection = part(database.engine, "activity")
    if not isinstance(inspection, ListsLockWaits):
        raise WrongEngine(
            database.engine.name, "locks between sessions", wanted_by="db blocking", works_on=SQL_SERVERS
        )

    def question(connection: object, seconds: float | None) -> BlockingTree:
        waits = inspection.lock_waits(connection, seconds)
        return tree(waits, inspection.activity(connection, seconds)) if waits else BlockingTree(())

    return database.ask(question, safety=Safety.READ, timeout=timeout, doing="asking who waits")


def tree(waits: Sequence[LockWait], activity: ActivityList) -> BlockingTree:
    """Orders waits as a forest in which each session stands once: roots wait for nobody, the others for their parent.

    A session that waits for several stands below one that waits for nobody, where there is one: its end helps both.
    Those that wait for each other have no root; one of them stands for it.
    """
    sessions = {session.pid: session for session in activity.sessions}
    holders: dict[Pid, list[Pid | None]] = defaultdict(list)
    for wait in waits:
        holders[wait.waiter].append(wait.holder)
    parents = {waiter: _parent(held_by, holders) for waiter, held_by in holders.items()}
    rows = {wait.waiter: _blocked(wait, holders[wait.waiter], sessions) for wait in waits}
    below: dict[Pid | None, list[Pid]] = defaultdict(list)
    for waiter, parent in parents.items():
        below[parent].append(waiter)

    roots = sorted(
        (pid for pid in below if pid not in parents), key=lambda pid: len(below[pid]), reverse=True
    )
    placed = [
        row
        for root in roots
        for row in (Blocked(root, (), 0, sessions.get(root) or _unknown(root)), *_placed(root, below, rows))
    ]
    circles = []
    while left := parents.keys() - {row.pid for row in placed}:
        circles.append(_circle(min(left, key=str), parents))
        first = circles[-1][0]
        placed += [rows[first], *_placed(first, below, rows)]
    return BlockingTree(tuple(placed), tuple(circles), activity.unseen)


def _parent(held_by: Sequence[Pid | None], holders: Mapping[Pid, object]) -> Pid | None:
    return next((holder for holder in held_by if holder not in holders), held_by[0])


def _placed(
    root: Pid | None, below: Mapping[Pid | None, Sequence[Pid]], rows: Mapping[Pid, Blocked]
) -> Iterator[Blocked]:
    """All that stands below `root`, at any depth; nothing stands below itself."""
    waiting = [(pid, 1) for pid in reversed(below.get(root, ()))]
    while waiting:
        pid, level = waiting.pop()
        if pid != root:
            yield rows[pid]._replace(level=level)
            waiting += [(lower, level + 1) for lower in reversed(below.get(pid, ()))]


def _blocked(
    wait: LockWait, held_by: Sequence[Pid | None], sessions: Mapping[Pid | None, SessionActivity]
) -> Blocked:
    session = sessions.get(wait.waiter) or _unknown(wait.waiter)
    waiting = session.age_seconds if wait.waiting_seconds is None else wait.waiting_seconds
    named = tuple(holder for holder in held_by if holder is not None)
    return Blocked(wait.waiter, named, 0, session, wait.lock, waiting)


def _circle(start: Pid, parents: Mapping[Pid, Pid | None]) -> tuple[Pid, ...]:
    """The pids that wait for each other, each for the next one, the lowest first, as reached from `start`."""
    path = [start]
    while (following := parents[path[-1]]) not in path:
        assert following is not None, "who waits for a session that is not named is no part of a circle"
        path.append(following)
    circle = path[path.index(following) :]
    lowest = circle.index(min(circle, key=str))
    return (*circle[lowest:], *circle[:lowest])


def _unknown(pid: Pid | None) -> SessionActivity:
    """A holder that the server does not list: a prepared transaction, or a session that ended in between."""
    return SessionActivity(pid, None, None, None, HIDDEN, None, None, None, None)
