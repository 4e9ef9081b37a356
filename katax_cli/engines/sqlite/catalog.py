"""The tables of a SQLite file, from its own schema table and pragmas."""

from __future__ import annotations

from typing import Any, Literal

from katax_cli.engines.base import Index, Table, TableColumn, TableDescription
from katax_cli.engines.sqlite.session import SqliteSession

# dbstat reads every page of the file; above this, sizes of single tables are not worth it.
MEASURED_BYTES = 256 * 1024 * 1024

# The tables behind a full-text index are not the user's: their names are its name, `_` and more.
_TABLES = r"""
SELECT t.name, t.type FROM sqlite_master t
WHERE t.type IN ('table', 'view') AND t.name NOT LIKE 'sqlite\_%' ESCAPE '\'
AND NOT EXISTS (SELECT 1 FROM sqlite_master v WHERE v.sql LIKE 'CREATE VIRTUAL TABLE%'
    AND t.sql NOT LIKE 'CREATE VIRTUAL TABLE%' AND t.name LIKE replace(v.name, '_', '\_') || '\_%' ESCAPE '\')
ORDER BY t.name
"""
_SIZES = """
SELECT m.tbl_name, sum(s.pgsize) FROM dbstat('main', 1) s JOIN sqlite_master m ON m.name = s.name
GROUP BY m.tbl_name
"""
_COLUMNS = """SELECT name, type, "notnull", CASE WHEN hidden IN (2, 3) THEN 'generated always' ELSE dflt_value END, pk
FROM pragma_table_xinfo(?) WHERE hidden <> 1"""
_REFERENCES = 'SELECT "from", "table" || coalesce(\'.\' || "to", \'\') FROM pragma_foreign_key_list(?)'
_INDEXES = """
SELECT l.name, l."unique", m.sql, i.name FROM pragma_index_list(?) l
LEFT JOIN sqlite_master m ON m.type = 'index' AND m.name = l.name
JOIN pragma_index_info(l.name) i ORDER BY l.name, i.seqno
"""


def tables(session: SqliteSession, timeout: float | None) -> list[Table]:
    """Row counts are those of the last ANALYZE; sizes are known where SQLite was built with dbstat."""
    rows, sizes = _row_counts(session, timeout), _sizes(session, timeout)
    return [
        Table(None, name, kind, rows.get(name), sizes.get(name))
        for name, kind in _all(session, _TABLES, (), timeout)
    ]


def _row_counts(session: SqliteSession, timeout: float | None) -> dict[str, int]:
    if not _all(session, "SELECT 1 FROM sqlite_master WHERE name = 'sqlite_stat1'", (), timeout):
        return {}
    statistics = _all(session, "SELECT tbl, stat FROM sqlite_stat1 WHERE stat IS NOT NULL", (), timeout)
    return {table: int(stat.split()[0]) for table, stat in statistics}


def _sizes(session: SqliteSession, timeout: float | None) -> dict[str, int]:
    has_dbstat = _all(session, "SELECT 1 FROM pragma_module_list WHERE name = 'dbstat'", (), timeout)
    [(pages, page_size)] = _all(
        session, "SELECT page_count, page_size FROM pragma_page_count, pragma_page_size", (), timeout
    )
    if not has_dbstat or pages * page_size > MEASURED_BYTES:
        return {}
    return dict(_all(session, _SIZES, (), timeout))


def describe(session: SqliteSession, name: str, timeout: float | None) -> TableDescription | None:
    """Names are found as SQLite does, in any case; `main.` in front is allowed."""
    wanted = name.removeprefix("main.").lower()
    table = next((one for one in tables(session, timeout) if one.name.lower() == wanted), None)
    if table is None:
        return None
    indexes = _indexes(session, table.name, timeout)
    references = dict(_all(session, _REFERENCES, (table.name,), timeout))
    columns = [
        TableColumn(
            column,
            kind,
            nullable=not (not_null or pk),
            default=default,
            key=_key(column, pk, references, indexes),
            references=references.get(column),
        )
        for column, kind, not_null, default, pk in _all(session, _COLUMNS, (table.name,), timeout)
    ]
    return TableDescription(table, tuple(columns), indexes)


def _indexes(session: SqliteSession, table: str, timeout: float | None) -> tuple[Index, ...]:
    indexes: dict[str, Index] = {}
    for name, unique, sql, column in _all(session, _INDEXES, (table,), timeout):
        before = indexes[name].columns if name in indexes else ()
        indexes[name] = Index(name, (*before, column or "(expression)"), bool(unique), sql)
    return tuple(indexes.values())


def _key(
    column: str, pk: int, references: dict[str, str], indexes: tuple[Index, ...]
) -> Literal["primary", "unique", "foreign", "index"] | None:
    if pk:
        return "primary"
    if any(index.unique and index.columns == (column,) for index in indexes):
        return "unique"
    if column in references:
        return "foreign"
    return "index" if any(column in index.columns for index in indexes) else None


def _all(
    session: SqliteSession, sql: str, params: tuple[Any, ...], timeout: float | None
) -> list[tuple[Any, ...]]:
    return session.run(sql, params, timeout).fetchall()
