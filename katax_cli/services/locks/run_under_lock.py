"""A program under a lock, on any engine that has locks: it stops when the lock is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from katax_cli.core.engine_names import LOCK_ENGINES, SQL_SERVERS
from katax_cli.errors import LockLost, WrongEngine
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.databases.database import Database
from katax_cli.services.locks import lock as locks
from katax_cli.services.locks.lock import Backend, HeldLock, Lock
from katax_cli.services.processes.supervised import Supervised

if TYPE_CHECKING:
    from katax_cli.services.databases.sql import SqlDatabase

TOKEN_VARIABLE = "KATAX_LOCK_TOKEN"


def run_under(
    database: Database,
    name: str,
    command: Sequence[str],
    *,
    ttl: float,
    wait: float,
    max_hold: float,
    tell: Callable[[str], object] = lambda _: None,
) -> int:
    """Runs a program while holding a lock; returns its status as a shell gives it.

    Raises LockHeld when another held it for `wait` seconds, LockLost when it was lost while the program ran:
    the program's whole process group has ended by then.
    """
    with _backend(database) as backend:
        lock = Lock(backend, name, ttl=ttl, wait=wait, max_hold=max_hold)
        token = lock.acquire()
        try:
            with Supervised(command, environment={TOKEN_VARIABLE: str(token)}) as program:
                lock.on_lost(lambda error: _stop(program, error, tell))
                status = program.wait()
        except BaseException:
            lock.release_quietly()
            raise
        lock.release()
        return status


def release_by_force(database: Database, name: str) -> bool:
    """Releases a lock by force: its key on Redis, elsewhere the session that holds it; False when it is free."""
    if isinstance(database, RedisDatabase):
        return locks.release_by_force(database, name)
    from katax_cli.services.locks.sql_lock import release_session

    return release_session(_sql(database), name)


def held_locks(database: Database, names: Sequence[str] = ()) -> list[HeldLock]:
    """The holders of the locks of these names, or all that the server lists. Raises ConfigError when it lists none."""
    if isinstance(database, RedisDatabase):
        return locks.held_locks(database, names)
    from katax_cli.services.locks import sql_lock

    return sql_lock.held_locks(_sql(database), names)


@contextmanager
def _backend(database: Database) -> Iterator[Backend]:
    if isinstance(database, RedisDatabase):
        yield locks.RedisBackend(database)
        return
    from katax_cli.services.locks.sql_lock import SqlBackend

    backend = SqlBackend(_sql(database))
    try:
        yield backend
    finally:
        backend.close()


def _sql(database: Database) -> SqlDatabase:
    from katax_cli.services.databases.sql import SqlDatabase

    if not isinstance(database, SqlDatabase) or database.settings.type not in SQL_SERVERS:
        raise WrongEngine(database.settings.type, "locks", wanted_by="lock", works_on=LOCK_ENGINES)
    return database


def _stop(program: Supervised, error: LockLost, tell: Callable[[str], object]) -> None:
    tell(f"{error}; stopping the command")
    program.stop()
