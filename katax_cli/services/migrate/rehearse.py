"""Up, down and up again on a throwaway database: what `down` leaves behind, and whether `up` can be repeated."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from tempfile import gettempdir
from typing import cast

from katax_cli.core.settings import ConnectionSettings
from katax_cli.core.sql import quote_identifier
from katax_cli.errors import MigrationError, QueryError, RolledBack
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.migrate.ledger.intent import changed_lines
from katax_cli.services.migrate.migrator import Migrator
from katax_cli.services.tables.scratch import (
    AnyDatabase,
    Open,
    is_file,
    new_name,
    open_settings,
    remove_abandoned,
    sql_of,
)


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """The differences afterwards, one line each (`-` was before, `+` is after); empty when all is well.

    What `down` left behind makes a second `up` pointless, so there is none then.
    """

    migrations: tuple[str, ...]
    copied: bool
    """True for a copy of the database; False where its history was run on an empty one."""
    left_by_down: tuple[str, ...]
    second_up: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not (self.left_by_down or self.second_up)


def rehearse(migrator: Migrator, open_database: Open) -> Rehearsal:
    """Runs the pending migrations up, down, up on a throwaway database and compares the schemas.

    SQLite and PostgreSQL get a copy, with data (PostgreSQL only without other connections); otherwise
    the history of migrations is run on an empty database first. Nothing is pending: the last one is taken.
    Closes the migrator's own database: PostgreSQL copies none that has sessions. Removes the copies of rehearsals
    that were killed first.
    """
    remove_abandoned(migrator.db, open_database, "rehearsal")
    applied = [migration for migration in migrator.status() if migration.state == "applied"]
    with _throwaway(migrator.db) as (settings, copied), open_database(settings) as database:
        stage = Migrator(database, migrator.directory, table=migrator.table)
        if not copied and applied:
            stage.up(to=applied[-1].version)
        if not stage.pending():
            stage.down()
        before = _schema(stage)
        names = tuple(migration.name for migration in stage.up())
        first = _schema(stage)
        stage.down(steps=len(names)) if names else None
        left = tuple(changed_lines(before, _schema(stage)))
        return Rehearsal(names, copied, left, () if left else _second_up(stage, first))


def _second_up(stage: Migrator, first: dict[str, str]) -> tuple[str, ...]:
    try:
        stage.up()
    except MigrationError as error:
        return (str(error),)
    return tuple(changed_lines(first, _schema(stage)))


def _schema(migrator: Migrator) -> dict[str, str]:
    with migrator.session() as session:
        texts: dict[str, str] = session.ask(migrator.engine.definitions, None)
    return {key: text for key, text in texts.items() if migrator.table not in key}


@contextmanager
def _throwaway(original: AnyDatabase) -> Iterator[tuple[ConnectionSettings, bool]]:
    name = new_name("rehearsal")
    elsewhere = replace(original.settings, database=name)
    if original.settings.type == "mongodb":
        with closing(open_settings(elsewhere)) as stage:
            try:
                yield elsewhere, False
            finally:
                cast("MongoDatabase", stage).command({"dropDatabase": 1})
        return
    database = cast("SqlDatabase", original)
    if is_file(database):
        with _sqlite_copy(database) as settings:
            yield settings, True
        return
    copied = _create(database, name)
    try:
        yield elsewhere, copied
    finally:
        _drop(database, name)


@contextmanager
def _sqlite_copy(database: SqlDatabase) -> Iterator[ConnectionSettings]:
    folder = os.path.join(gettempdir(), new_name("rehearsal"))
    os.mkdir(folder, 0o700)
    try:
        path = os.path.join(folder, "copy.db")
        database.execute("VACUUM INTO ?", [path])
        yield replace(database.settings, path=path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _create(database: SqlDatabase, name: str) -> bool:
    """Makes the database; True when it is a copy. A template must have no other session."""
    sql = sql_of(database)
    quoted = quote_identifier(name, database.engine.dialect)
    if sql.create_copy is None:
        database.execute(f"CREATE DATABASE {quoted}")
        return False
    database.close()
    with _administrator(database) as other:
        template = quote_identifier(
            database.settings.database or str(sql.maintenance), database.engine.dialect
        )
        try:
            other.execute(sql.create_copy.format(name=quoted, template=template))
        except RolledBack:
            raise
        except QueryError:
            other.execute(f"CREATE DATABASE {quoted}")
            return False
    return True


@contextmanager
def _administrator(database: SqlDatabase) -> Iterator[SqlDatabase]:
    """Past the caller's deadline, too; to the server's own database where none is copied or dropped from within."""
    name = sql_of(database).maintenance or database.settings.database
    with closing(open_settings(replace(database.settings, database=name))) as other:
        yield cast("SqlDatabase", other)


def _drop(database: SqlDatabase, name: str) -> None:
    quoted = quote_identifier(name, database.engine.dialect)
    with _administrator(database) as other:
        other.execute(sql_of(database).drop.format(name=quoted))
