"""Emptying tables: what would be lost first, then in each server's own way, references respected."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from katax_cli.core.resilience.failure import FailureKind
from katax_cli.core.sql import quote_identifier
from katax_cli.core.text.duration import FOREVER
from katax_cli.engines.base import Table
from katax_cli.engines.registry import sql_part
from katax_cli.engines.sql import TableSql
from katax_cli.errors import ConfigError, KataxError, Refused, unknown_name
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.databases.session import Session
from katax_cli.services.databases.sql import SqlDatabase

Place = tuple[str | None, str]
"""Schema and name of a table."""

_HOLD_ROWS = ("table", "partitioned table", "collection")
_LEDGERS = ("katax_migrations", "schema_migrations")
_COUNTED_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class Doomed:
    """A table about to be emptied: its name, as SQL too, and the rows that it holds (None: not known)."""

    name: str
    sql: str
    rows: int | None


def plan(
    database: SqlDatabase | MongoDatabase,
    names: Sequence[str] = (),
    *,
    keep: Sequence[str] = (),
    cascade: bool = False,
) -> list[Doomed]:
    """The tables that `names` say; without names all that hold rows, but for the ledgers of migrations.

    `keep` are more tables that stay. With `cascade` those that refer to them come too. Raises ConfigError for a
    name that is no table, Refused for a ledger and for a table that another one refers to.
    """
    refuse_without_database(database)
    kept = {*_LEDGERS, *keep}
    kept |= {f"{name}_lock" for name in kept}  # where MongoDB's runners hold their lock
    there = [table for table in _tables(database) if table.kind in _HOLD_ROWS]
    wanted = [_find(there, name, kept) for name in dict.fromkeys(names)]
    if not names:
        wanted = [one for one in there if not _is_kept(one, kept)]
    if isinstance(database, SqlDatabase):
        wanted = _with_referring(there, wanted, _references(database), kept, cascade=cascade)
    return [_doomed(database, one) for one in wanted]


def refuse_without_database(database: SqlDatabase | MongoDatabase) -> None:
    """Raises ConfigError for a MySQL connection that sees all databases of its server."""
    settings = database.settings
    if settings.type == "mysql" and not settings.database:
        raise ConfigError(f"{database.name!r} names no database; name the one that is meant in the profile")


def truncate(
    database: SqlDatabase | MongoDatabase,
    doomed: Sequence[Doomed],
    *,
    on_done: Callable[[str], object] = lambda _: None,
) -> None:
    """Empties the tables and starts their counters again; `on_done` hears the name of each.

    All of them or none on PostgreSQL and SQLite, one after the other on MySQL and MongoDB.
    """
    if not doomed:
        return
    if isinstance(database, MongoDatabase):
        for table in doomed:
            every = {"q": {}, "limit": 0}  # the collection's indexes and rules stay
            database.command({"delete": table.name, "deletes": [every]}, timeout=FOREVER)
            on_done(table.name)
        return
    _truncate_sql(database, doomed, on_done)


def _tables(database: SqlDatabase | MongoDatabase) -> list[Table]:
    """All but those that an extension brought, which are its own."""
    foreign: set[Place] = set()
    if isinstance(database, SqlDatabase) and (sql := sql_of(database).of_extensions):
        foreign = {(row[0], row[1]) for row in database.run(sql).rows}
    return [table for table in database.tables() if (table.schema, table.name) not in foreign]


def _references(database: SqlDatabase) -> Mapping[Place, set[Place]]:
    """Table → those that refer to it."""
    references: dict[Place, set[Place]] = {}
    for schema, name, to_schema, to_name in database.run(sql_of(database).references).rows:
        references.setdefault((to_schema, to_name), set()).add((schema, name))
    return references


def _find(there: Sequence[Table], name: str, kept: set[str]) -> Table:
    table = next((one for one in there if name in (one.name, _joined(one))), None)
    if table is None:
        raise ConfigError(unknown_name("table", name, [one.name for one in there], "tables"))
    if _is_kept(table, kept):
        raise Refused(f"{name!r} is the ledger of migrations; see 'katax migrate status'")
    return table


def _is_kept(table: Table, kept: set[str]) -> bool:
    return table.name in kept or _joined(table) in kept


def _with_referring(
    there: Sequence[Table],
    wanted: Sequence[Table],
    references: Mapping[Place, set[Place]],
    kept: set[str],
    *,
    cascade: bool,
) -> list[Table]:
    """`wanted` and, with `cascade`, all that refer to them. Raises Refused for one that would be left."""
    chosen = {(one.schema, one.name): one for one in wanted}
    by_place = {(one.schema, one.name): one for one in there}
    queue = list(chosen)
    while queue:
        place = queue.pop()
        for referring in sorted(references.get(place, set()) - set(chosen), key=str):
            other = by_place.get(referring)
            if not cascade or other is None or _is_kept(other, kept):
                raise Refused(f"{referring[1]!r} refers to {place[1]!r}; name both, or repeat with --cascade")
            chosen[referring] = other
            queue.append(referring)
    return list(chosen.values())


def _doomed(database: SqlDatabase | MongoDatabase, table: Table) -> Doomed:
    if isinstance(database, MongoDatabase):
        return Doomed(table.name, "", table.rows_estimate)
    dialect = database.engine.dialect
    sql = ".".join(quote_identifier(name, dialect) for name in (table.schema, table.name) if name)
    usual = sql_of(database).default_schema in (None, table.schema)
    rows = _count(database, sql) if table.rows_estimate is None else table.rows_estimate
    return Doomed(table.name if usual else _joined(table), sql, rows)


def _joined(table: Table) -> str:
    return f"{table.schema}.{table.name}"


def _count(database: SqlDatabase, sql: str) -> int | None:
    """The rows of a table of which the server has no estimate; None where counting would take long, or wait."""
    counted = f"SELECT count(*) FROM (SELECT 1 FROM {sql} LIMIT {_COUNTED_ROWS + 1}) AS some_rows"
    try:
        with database.transaction() as transaction:
            if (short_wait := sql_of(database).short_wait) and not database.settings.read_only:
                transaction.execute(short_wait)
            rows = int(transaction.run(counted).rows[0][0])
    except KataxError as error:
        if error.__cause__ is None or database.engine.classify(error.__cause__).kind is not FailureKind.BUSY:
            raise
        return None
    return rows if rows <= _COUNTED_ROWS else None


OnDone = Callable[[str], object]


def _truncate_sql(database: SqlDatabase, doomed: Sequence[Doomed], on_done: OnDone) -> None:
    sql = sql_of(database)
    statements = sql.truncation([table.sql for table in doomed])
    with database.session(timeout=FOREVER) as session, unchecked(session, sql):
        if not sql.atomic:
            for table, statement in zip(doomed, statements, strict=True):
                session.execute(statement)
                on_done(table.name)
            return
        with session.transaction() as transaction:
            for statement in statements:
                transaction.execute(statement)
            if sql.counters is not None and transaction.run(sql.counters[0]).rows:
                transaction.execute_many(sql.counters[1], [[table.name] for table in doomed])
    for table in doomed:
        on_done(table.name)


def sql_of(database: SqlDatabase) -> TableSql:
    made: TableSql = sql_part(database.engine, "tables")
    return made


@contextmanager
def unchecked(session: Session, sql: TableSql) -> Iterator[None]:
    """References are not looked at on this connection, which is set right again before others get it."""
    if sql.unchecked is None:
        yield
        return
    off, on = sql.unchecked
    session.execute(off)
    try:
        yield
    except BaseException:
        # On a connection that broke there is nothing to set right, and the first error is the one to see.
        with suppress(KataxError):
            session.execute(on)
        raise
    session.execute(on)
