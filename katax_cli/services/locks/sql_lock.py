"""Locks of a session: PostgreSQL's advisory locks and MySQL's named ones, which end when their holder's session does.

They have no lifetime: a holder that hangs keeps its lock, one whose connection breaks loses it at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from importlib import import_module
from typing import Any, Protocol

from katax_cli.core.clock import SYSTEM
from katax_cli.engines.migrations import CUT, ListsNotes, LockSession, SessionLocks
from katax_cli.errors import ConfigError, LockHeld, Unavailable
from katax_cli.services.databases.held import HeldConnection
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.locks.lock import PREFIX, HeldLock
from katax_cli.services.locks.migration_lock import holder_of, note


class _Locks(SessionLocks, ListsNotes, Protocol):
    """The methods of both engines."""


class SqlBackend:
    """One lock on a connection of its own, for `Lock`; see Backend there. The connection's own limits hold."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database
        self._locks = _locks_of(database)
        self._name = self._note = ""
        self._open = ExitStack()
        self._session: HeldConnection | None = None

    def acquire(self, name: str, ttl: float, timeout: float | None = None) -> int:
        """`ttl` says only how often it is looked after."""
        if self._session is None:
            self._session = self._open.enter_context(HeldConnection(self._database))
        self._name = f"{PREFIX}{name}"
        self._note = note(self._name, SYSTEM.now())
        if not self._session.ask(self._locks.lock, self._name, self._note):
            holder = self._session.ask(self._locks.holder, self._name)
            who = "a session that has just ended" if holder is None else holder_of(holder)._replace(file=None)
            raise LockHeld(name, holder=str(who))
        # Fencing tokens are the server's time: they grow from holder to holder while its clock does.
        (row,) = self._session.run(f"SELECT {self._database.engine.facts.now_us}").rows
        # PostgreSQL shows the whole of a note in a session's last statement only.
        self.renew(ttl, ttl)
        return int(row[0])

    def renew(self, ttl: float, timeout: float) -> bool:
        assert self._session is not None
        try:
            return bool(self._session.ask(self._locks.renew, self._name, self._note))
        except Unavailable:
            return False  # with its session the lock is gone

    def release(self, timeout: float | None = None) -> bool:
        assert self._session is not None
        held = self.renew(0.0, 0.0)
        if held:
            self._session.ask(self._locks.unlock, self._name)
        return held

    def give_back(self, interrupt: BaseException) -> None:
        """The lock ends with its session."""

    def close(self) -> None:
        self._open.close()


def release_session(database: SqlDatabase, name: str) -> bool:
    """Ends the session that holds a lock; False when it is free."""
    locks = _locks_of(database)
    with HeldConnection(database) as session:
        holder = session.ask(locks.holder, f"{PREFIX}{name}")
        return holder is not None and bool(session.ask(locks.end_session, holder.session))


def held_locks(database: SqlDatabase, names: Sequence[str] = ()) -> list[HeldLock]:
    """The holders of the locks of these names, or of all that the server lists; also on a read-only connection.

    Raises ConfigError when no names are given and the server keeps no list of them.
    """
    locks = _locks_of(database)
    noted = database.examine(lambda connection, _seconds: locks.noted(connection), doing="listing the locks")
    if noted is None and not names:
        raise ConfigError(
            f"{database.name!r} lists no locks (its performance_schema is off, or not for this user); "
            "name them: katax lock ls NAME"
        )
    told = {name: one for one in noted or () if (name := _name_in(one))}
    return [
        _described(name, holder, told.get(name))
        for name in sorted(set(names or told))
        if (holder := _holder(database, locks, name) or (told[name] if name.endswith(CUT) else None))
    ]


def _holder(database: SqlDatabase, locks: _Locks, name: str) -> LockSession | None:
    return database.examine(
        lambda connection, _seconds: locks.holder(connection, PREFIX + name), doing="asking for a lock"
    )


def _name_in(noted: LockSession) -> str:
    """The lock's name in a session's note; empty when the session does something else."""
    file = holder_of(noted).file or ""
    return file.removeprefix(PREFIX) if file.startswith(PREFIX) else ""


def _described(name: str, found: LockSession, noted: LockSession | None) -> HeldLock:
    """By the note, if it is the holder's: one that let the lock go may have left its own behind."""
    holder = holder_of(noted if noted is not None and noted.session == found.session else found)
    since = None if holder.since is None else datetime.fromisoformat(holder.since)
    return HeldLock(name, None, host=holder.host, pid=holder.pid, acquired_at=since, session=holder.session)


def _locks_of(database: SqlDatabase) -> _Locks:
    module = import_module(f"katax_cli.engines.{database.settings.type}.migrate")
    locks: Any = module.create(database.engine)
    return locks  # type: ignore[no-any-return]
