"""The database of a connection as a whole: whether it is there, creating it, dropping it.

A server is asked from its maintenance database, for a database that is not there cannot be connected to.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.settings import ConnectionSettings
from katax_cli.core.sql import quote_identifier
from katax_cli.engines.base import Engine
from katax_cli.engines.registry import load, sql_part
from katax_cli.engines.sql import DatabaseSql
from katax_cli.errors import ConfigError, QueryError, Refused, Unavailable
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.sql import SqlDatabase

Open = Callable[[ConnectionSettings], SqlDatabase]
JOURNALS = ("-wal", "-shm", "-journal")
"""SQLite's files beside that of a database, by what their names end with."""


def database_name(settings: ConnectionSettings) -> str:
    """The name of the database, of SQLite its file. Raises ConfigError for a connection that names none."""
    name = settings.path if settings.type == "sqlite" else settings.database
    if not name or name == ":memory:":
        what = "lives in memory" if name else "names no database; name the one that is meant in the profile"
        raise ConfigError(f"{settings.name!r} {what}")
    return name


def exists(settings: ConnectionSettings, open_database: Open) -> bool:
    """True when the database exists. Changes nothing."""
    name = database_name(settings)
    if settings.type == "sqlite":
        return os.path.exists(name)
    with open_database(_maintenance(settings)) as server:
        return is_listed(server, name)


def create(settings: ConnectionSettings, open_database: Open) -> bool:
    """Creates the database; False when it is there already."""
    if exists(settings, open_database):
        return False
    name = database_name(settings)
    if settings.type == "sqlite":
        with open_database(settings) as database:
            database.ping()
        return True
    with open_database(_maintenance(settings)) as server:
        return _changed(server, name, f"CREATE DATABASE {_quoted(server, name)}", wanted=True)


def drop(settings: ConnectionSettings, open_database: Open) -> bool:
    """Drops the database with all that is in it; False when there is none. PostgreSQL and SQLite refuse while it
    is in use. Raises Refused for a database that the server itself needs."""
    name = database_name(settings)
    sql = _sql_of(load(settings))
    if sql is not None and name.lower() in sql.own:
        raise Refused(f"{name!r} is a database of the server's own; it is not dropped")
    if not exists(settings, open_database):
        return False
    if sql is None:
        return _remove_file(settings, os.path.realpath(name), open_database)
    with open_database(_maintenance(settings)) as server:
        return _changed(server, name, f"DROP DATABASE {_quoted(server, name)}", wanted=False)


def _maintenance(settings: ConnectionSettings) -> ConnectionSettings:
    """The server's maintenance database: past a pooler, which knows only configured databases."""
    direct = settings.past_pooler()
    sql = _sql_of(load(settings))
    assert sql is not None
    return replace(direct, name=settings.name, database=sql.maintenance, replicas=())


def _sql_of(engine: Engine) -> DatabaseSql | None:
    """None where a database is a file."""
    made: DatabaseSql | None = sql_part(engine, "databases")
    return made


def _quoted(server: SqlDatabase, name: str) -> str:
    return quote_identifier(name, server.engine.dialect)


def is_listed(server: SqlDatabase, name: str) -> bool:
    """True when the server has a database of that name."""
    sql = _sql_of(server.engine)
    assert sql is not None
    return bool(server.run(sql.exists, [name]).rows)


def _changed(server: SqlDatabase, name: str, statement: str, *, wanted: bool) -> bool:
    """Runs the statement and asks the server for what it led to; False when others did it in between."""
    try:
        server.execute(statement)
    except QueryError:
        if is_listed(server, name) is not wanted:
            raise
        return False
    if is_listed(server, name) is not wanted:
        state = "is not" if wanted else "is still"
        raise Unavailable(server.name, f"database {name!r} {state} there after {statement.partition(' ')[0]}")
    return True


def _remove_file(settings: ConnectionSettings, path: str, open_database: Open) -> bool:
    """Removes the file while it is locked, so that no process goes on writing to a file without a name."""
    with (
        open_database(replace(settings, path=path)) as database,
        locked_file(database, settings.connect_timeout, "locking"),
    ):
        remove_file(path)
    return not os.path.lexists(path)


def remove_file(path: str) -> None:
    """Removes a file of SQLite, and its journals."""
    for end in ("", *JOURNALS):
        with suppress(FileNotFoundError):
            os.remove(path + end)


@contextmanager
def locked_file(database: SqlDatabase, limit: float, doing: str) -> Iterator[None]:
    """While the block runs nobody else works on the file of a SQLite database, which is to be closed afterwards."""
    database.connect()
    connection = database.get_client()
    try:
        with database.guard.translating(deadline=Deadline(limit), safety=Safety.READ, doing=doing):
            # Leaving the write-ahead log needs the file alone: a session of anybody else is an error.
            database.engine.execute(connection, "PRAGMA journal_mode = DELETE", None, limit)
            database.engine.execute(connection, "BEGIN EXCLUSIVE", None, limit)
        yield
    finally:
        # Not back into the pool, which would open the file again.
        database.engine.close(connection)
        database.release(connection)
