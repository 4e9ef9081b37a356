"""Throwaway databases of rehearsals, restores and drills: their names, and removing those whose makers are gone.

A name says what it is for, which process made it, and in which world of process numbers. One is removed only where
that process is proven to be gone from here and no session works on it: of other hosts nothing can be proven.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from hashlib import blake2b
from tempfile import gettempdir
from typing import Literal, cast

from katax_cli.core.resilience.deadline import NEVER, Deadline
from katax_cli.core.settings import ConnectionSettings
from katax_cli.core.sql import quote_identifier
from katax_cli.core.text.duration import Duration
from katax_cli.engines.base import KeyValueEngine, SqlEngine
from katax_cli.engines.documents import DocumentEngine
from katax_cli.engines.registry import load, sql_part
from katax_cli.engines.sql import DatabaseSql
from katax_cli.errors import QueryError, RolledBack
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.processes.identity import is_running

AnyDatabase = SqlDatabase | MongoDatabase
Open = Callable[[ConnectionSettings], AnyDatabase]
Purpose = Literal["rehearsal", "restore", "drill"]
_NAME = re.compile(r"katax_(rehearsal|restore|drill)_([0-9a-f]{8})_(\d+)_[0-9a-f]{6}")


def open_settings(settings: ConnectionSettings, *, deadline: Deadline = NEVER) -> AnyDatabase:
    """A database for settings that no profile has; one attempt for each call, and none after the deadline."""
    from katax_cli.core.resilience.retry import ONCE
    from katax_cli.services.calls.guard import Guard
    from katax_cli.services.databases.database import classify_with

    engine = load(settings)
    guard = Guard(settings.name, classify_with(engine), retry=ONCE, breaker=None)

    def within(seconds: Duration | None) -> Deadline:
        return deadline.shorter(settings.statement_timeout if seconds is None else seconds)

    if settings.type == "mongodb":
        return MongoDatabase(cast("DocumentEngine", engine), guard, within)
    if settings.type == "redis":
        from katax_cli.services.databases.clients import RedisDatabase

        return cast("AnyDatabase", RedisDatabase(cast("KeyValueEngine", engine), guard, within))
    return SqlDatabase(cast("SqlEngine", engine), guard, within)


def new_name(purpose: Purpose) -> str:
    """For a database that this process makes."""
    return f"katax_{purpose}_{_world()}_{os.getpid()}_{os.urandom(3).hex()}"


def is_abandoned(name: str, purpose: Purpose) -> bool:
    """True if it is the name of a throwaway database of that purpose whose maker was here and is gone."""
    match = _NAME.fullmatch(name)
    if match is None or match[1] != purpose or match[2] != _world():
        return False
    try:
        return not is_running(int(match[3]))
    except OverflowError:
        return False


def _world() -> str:
    """Host and, on Linux, namespace of processes: containers of one name have numbers of their own."""
    namespace = 0
    with suppress(OSError):
        namespace = os.stat("/proc/self/ns/pid").st_ino
    return blake2b(f"{socket.gethostname()} {namespace}".encode(), digest_size=4).hexdigest()


def abandoned(
    database: AnyDatabase, open_database: Open, purpose: Purpose, *, folder: str | None = None
) -> list[str]:
    """The throwaway databases whose makers were killed; of files those in `folder`, by default that for temporary
    files."""
    if is_file(database):
        return [name for name in os.listdir(folder or gettempdir()) if is_abandoned(name, purpose)]
    with administrator(database, open_database) as server:
        return [name for name in _listed(server, purpose) if is_abandoned(name, purpose)]


def remove_abandoned(
    database: AnyDatabase, open_database: Open, purpose: Purpose, *, folder: str | None = None
) -> list[str]:
    """Removes them; returns the names of those that are gone now."""
    names = abandoned(database, open_database, purpose, folder=folder)
    if is_file(database):
        paths = {name: os.path.join(folder or gettempdir(), name) for name in names}
        for path in paths.values():
            shutil.rmtree(path, ignore_errors=True)
        return [name for name, path in paths.items() if not os.path.exists(path)]
    with administrator(database, open_database) as server:
        return [name for name in names if drop(server, name, open_database)]


def _listed(server: AnyDatabase, purpose: Purpose) -> list[str]:
    if isinstance(server, MongoDatabase):
        databases = server.command({"listDatabases": 1, "nameOnly": True})["databases"]
        return [str(database["name"]) for database in databases]
    pattern = f"katax\\_{purpose}\\_%"
    return [str(row[0]) for row in server.run(sql_of(server).idle, [pattern]).rows]


def drop(server: AnyDatabase, name: str, open_database: Open) -> bool:
    """Drops a database; False when it is in use after all."""
    if isinstance(server, MongoDatabase):
        with open_database(elsewhere(server.settings, name)) as copy:
            cast("MongoDatabase", copy).command({"dropDatabase": 1})
        return True
    try:
        drop_unbound(server, name, open_database, "DROP DATABASE IF EXISTS {name}")
    except RolledBack:
        raise
    except QueryError:
        return False
    return True


def drop_unbound(
    server: SqlDatabase, name: str, open_database: Open, statement: str, timeout: float | None = None
) -> None:
    """Drops a database by `statement`; of a throwaway one first what the server keeps it for, if it does.

    A subscription in it is a copy of one that others use: its slot stays.
    """
    sql = statement.format(name=quote_identifier(name, server.engine.dialect))
    try:
        server.execute(sql, timeout=timeout)
    except RolledBack:
        raise
    except QueryError:
        if not (_NAME.fullmatch(name) and _unbound(server, name, open_database)):
            raise
        server.execute(sql, timeout=timeout)


def _unbound(server: SqlDatabase, name: str, open_database: Open) -> bool:
    """True when something that kept the database was removed from it."""
    question = sql_of(server).unbind
    if question is None:
        return False
    with open_database(elsewhere(server.settings, name)) as there:
        statements = [str(row[0]) for row in cast("SqlDatabase", there).run(question).rows]
        for statement in statements:
            cast("SqlDatabase", there).execute(statement)
    return bool(statements)


def is_file(database: AnyDatabase) -> bool:
    return isinstance(database, SqlDatabase) and sql_part(database.engine, "databases") is None


def sql_of(server: SqlDatabase) -> DatabaseSql:
    made: DatabaseSql = sql_part(server.engine, "databases")
    return made


@contextmanager
def administrator(database: AnyDatabase, open_database: Open) -> Iterator[AnyDatabase]:
    """A session from which databases are made and dropped, also when the connection's own is not there."""
    if isinstance(database, MongoDatabase):
        yield database
        return
    with open_database(elsewhere(database.settings, sql_of(database).maintenance)) as server:
        yield server


def elsewhere(settings: ConnectionSettings, database: str | None) -> ConnectionSettings:
    """Another database of the same server (None: none), under a name of its own, past a pooler, which knows only those
    that it is told of."""
    direct = settings.past_pooler()
    return replace(direct, name=f"{settings.name}/{database or ''}", database=database, replicas=())
