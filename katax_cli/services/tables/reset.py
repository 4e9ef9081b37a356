"""Back to an empty database: everything in it is dropped, but for what extensions brought."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from katax_cli.core.text.duration import FOREVER
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.tables.truncate import refuse_without_database, sql_of, unchecked


@dataclass(frozen=True, slots=True)
class Object:
    """Something that a reset drops, and how."""

    kind: str
    name: str
    statement: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def objects(database: SqlDatabase | MongoDatabase) -> list[Object]:
    """All that is in the database, in the order in which it is dropped. Changes nothing."""
    refuse_without_database(database)
    if isinstance(database, MongoDatabase):
        return [Object(table.kind, table.name) for table in database.tables()]
    return [Object(*row) for row in database.run(sql_of(database).objects).rows]


def drop(
    database: SqlDatabase | MongoDatabase,
    doomed: Sequence[Object],
    *,
    on_done: Callable[[Object], object] = lambda _: None,
) -> None:
    """Drops them: all or none on PostgreSQL and SQLite, one after the other on MySQL and MongoDB."""
    if isinstance(database, MongoDatabase):
        for one in doomed:
            database.command({"drop": one.name}, timeout=FOREVER)
            on_done(one)
        return
    sql = sql_of(database)
    with database.session(timeout=FOREVER) as session, unchecked(session, sql):
        if sql.atomic:
            with session.transaction() as transaction:
                for one in doomed:
                    transaction.execute(one.statement)
            return
        for one in doomed:
            session.execute(one.statement)
            on_done(one)
