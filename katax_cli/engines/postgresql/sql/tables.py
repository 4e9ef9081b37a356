"""SQL of emptying tables and dropping everything on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from katax_cli.engines.sql import TableSql

_REFERENCES = """SELECT n.nspname, c.relname, fn.nspname, f.relname FROM pg_constraint k
    JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class f ON f.oid = k.confrelid JOIN pg_namespace fn ON fn.oid = f.relnamespace
    WHERE k.contype = 'f' AND NOT c.relispartition AND NOT f.relispartition"""
_OF_EXTENSIONS = """SELECT n.nspname, c.relname FROM pg_depend d
    JOIN pg_class c ON c.oid = d.objid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE d.classid = 'pg_class'::regclass AND d.deptype = 'e'"""
_OURS = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
_NOT_OF_EXTENSIONS = """NOT EXISTS (SELECT FROM pg_depend d
    WHERE d.objid = {oid} AND d.classid = '{c}'::regclass AND d.deptype = 'e')"""
# kind, name, statement, in the order in which they are dropped. Whole schemas but `public`, whose rights and
# comments are the administrator's: of that what is in it. Types before routines: a range has some of its own.
_OBJECTS = f"""
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


def _truncation(tables: Sequence[str]) -> list[str]:
    """One statement, so that tables that refer to each other go together, and nothing but them."""
    return [f"TRUNCATE TABLE {', '.join(tables)} RESTART IDENTITY"]


SQL = TableSql(
    references=_REFERENCES,
    objects=_OBJECTS,
    truncation=_truncation,
    atomic=True,
    of_extensions=_OF_EXTENSIONS,
    short_wait="SET LOCAL lock_timeout = '100ms'",
    default_schema="public",
)
