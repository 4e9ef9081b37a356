"""Locks of a session: PostgreSQL's advisory locks and MySQL's named ones, which end when their holder's session does.

They have no lifetime: a holder that hangs keeps its lock, one whose connection breaks loses it at once.
"""

from __future__ import annotations

from contextlib import ExitStack
from importlib import import_module
from typing import Any

from katax_cli.core.clock import SYSTEM
from katax_cli.engines.migrations import SessionLocks
from katax_cli.errors import LockHeld, Unavailable
from katax_cli.services.migrate.lock import holder_of, note
from katax_cli.services.migrate.session import Session
from katax_cli.services.sql import SqlDatabase

_TOKEN = {
    "postgresql": "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
    "mysql": "SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS UNSIGNED)",
}
"""Fencing tokens are the server's time in microseconds: they grow from holder to holder while its clock does."""
ENGINES = tuple(_TOKEN)


class SqlBackend:
    """One lock on a connection of its own, for `Lock`; see Backend there."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database
        self._locks = _locks_of(database)
        self._name = ""
        self._open = ExitStack()
        self._session: Session | None = None

    def acquire(self, name: str, ttl: float) -> int:
        """`ttl` says only how often it is looked after."""
        if self._session is None:
            self._session = self._open.enter_context(Session(self._database))
        self._name = f"lock:{name}"
        if not self._session.ask(self._locks.lock, self._name, note("", SYSTEM.now())):
            found = self._session.ask(self._locks.holder, self._name)
            raise LockHeld(name, holder=str(holder_of(found)) if found else "a session that has just ended")
        (row,) = self._session.run(_TOKEN[self._database.settings.type]).rows
        return int(row[0])

    def renew(self, ttl: float, timeout: float) -> bool:
        assert self._session is not None
        try:
            return bool(self._session.ask(self._locks.renew, self._name, note("", SYSTEM.now())))
        except Unavailable:
            return False  # with its session the lock is gone

    def release(self) -> bool:
        assert self._session is not None
        held = self.renew(0.0, 0.0)
        if held:
            self._session.ask(self._locks.unlock, self._name)
        return held

    def close(self) -> None:
        self._open.close()


def release_session(database: SqlDatabase, name: str) -> bool:
    """Ends the session that holds a lock; False when nobody holds it."""
    locks = _locks_of(database)
    with Session(database) as session:
        found = session.ask(locks.holder, f"lock:{name}")
        return found is not None and bool(session.ask(locks.end_session, found.session))


def _locks_of(database: SqlDatabase) -> SessionLocks:
    module = import_module(f"katax_cli.engines.{database.settings.type}.migrate")
    locks: Any = module.create(database.engine)
    return locks  # type: ignore[no-any-return]
