"""Back to an empty database: everything in it is dropped, but for what extensions brought."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from katax_cli.core.sql import Dialect
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.tables.truncate import refuse_without_database, unchecked

_FOREVER = float("inf")
_OURS = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
_NOT_OF_EXTENSIONS = """NOT EXISTS (SELECT FROM pg_depend d
    WHERE d.objid = {oid} AND d.classid = '{c}'::regclass AND d.deptype = 'e')"""
# kind, name, statement, in the order in which they are dropped. Whole schemas but `public`, whose rights and
# comments are the administrator's: of that what is in it. Types before routines: a range has some of its own.
_POSTGRESQL = f"""
SELECT kind, name, format('DROP %s IF EXISTS %s CASCADE', upper(kind), name) FROM (
    SELECT 1 AS place, 'schema' AS kind, quote_ident(n.nspname) AS name FROM pg_namespace n
    WHERE {_OURS} AND n.nspname <> 'public' AND {_NOT_OF_EXTENSIONS.format(oid="n.oid", c="pg_namespace")}
    UNION ALL
    SELECT 2, CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table'
        WHEN 'S' THEN 'sequence' WHEN 'c' THEN 'type' ELSE 'table' END, format('%I.%I', n.nspname, c.relname)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c') AND NOT c.relispartition
        AND {_NOT_OF_EXTENSIONS.format(oid="c.oid", c="pg_class")}
        AND NOT EXISTS (SELECT FROM pg_depend o WHERE o.objid = c.oid AND o.classid = 'pg_class'::regclass
            AND c.relkind = 'S' AND o.deptype IN ('a', 'i') AND o.refobjsubid > 0)
    UNION ALL
    SELECT 4, 'routine', p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = 'public' AND {_NOT_OF_EXTENSIONS.format(oid="p.oid", c="pg_proc")}
    UNION ALL
    SELECT 3, 'type', format('%I.%I', n.nspname, t.typname)
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE n.nspname = 'public' AND t.typtype IN ('e', 'd', 'r')
        AND {_NOT_OF_EXTENSIONS.format(oid="t.oid", c="pg_type")}
) AS found ORDER BY place, name"""
_MYSQL = """
SELECT kind, name, concat('DROP ', upper(kind), ' IF EXISTS `', replace(name, '`', '``'), '`') FROM (
    SELECT 1 AS place, CASE table_type WHEN 'VIEW' THEN 'view' WHEN 'SEQUENCE' THEN 'sequence' ELSE 'table' END AS kind,
        table_name AS name FROM information_schema.tables WHERE table_schema = DATABASE()
    UNION ALL
    SELECT 2, lower(routine_type), routine_name FROM information_schema.routines
    WHERE routine_schema = DATABASE() AND routine_type IN ('FUNCTION', 'PROCEDURE')
    UNION ALL
    SELECT 3, 'event', event_name FROM information_schema.events WHERE event_schema = DATABASE()
) AS found ORDER BY place, kind = 'table', name"""
# Virtual tables first: they take the tables behind them along. Indexes and triggers go with their table.
_SQLITE = """
SELECT type, name, 'DROP ' || upper(type) || ' IF EXISTS "' || replace(name, '"', '""') || '"' FROM sqlite_master
WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
ORDER BY type = 'table', sql NOT LIKE 'CREATE VIRTUAL%', name"""
_OBJECTS: dict[Dialect, str] = {"postgresql": _POSTGRESQL, "mysql": _MYSQL, "sqlite": _SQLITE}


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
        return [Object(one.kind, one.name) for one in database.tables()]
    return [Object(*row) for row in database.run(_OBJECTS[database.engine.dialect]).rows]


def drop(
    database: SqlDatabase | MongoDatabase,
    found: Sequence[Object],
    *,
    on_done: Callable[[Object], object] = lambda _: None,
) -> None:
    """Drops them: all or none on PostgreSQL and SQLite, one after the other on MySQL and MongoDB."""
    if isinstance(database, MongoDatabase):
        for one in found:
            database.command({"drop": one.name}, timeout=_FOREVER)
            on_done(one)
    elif database.engine.dialect == "postgresql":
        with database.transaction(timeout=_FOREVER) as transaction:
            for one in found:
                transaction.execute(one.statement)
    else:
        _drop_unchecked(database, found, on_done)


def _drop_unchecked(
    database: SqlDatabase, found: Sequence[Object], on_done: Callable[[Object], object]
) -> None:
    with database.session(timeout=_FOREVER) as session, unchecked(session):
        if session.dialect == "sqlite":
            with session.transaction() as transaction:
                for one in found:
                    transaction.execute(one.statement)
            return
        for one in found:
            session.execute(one.statement)
            on_done(one)
