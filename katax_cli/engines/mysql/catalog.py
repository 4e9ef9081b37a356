"""The version of a MySQL or MariaDB server and its tables, from information_schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from katax_cli.engines.base import Index, Table, TableColumn, TableDescription
from katax_cli.engines.mysql.rows import rows_of
from katax_cli.engines.mysql.session import MysqlSession

KeyKind = Literal["primary", "unique", "foreign", "index"]

# Without a database of its own a connection sees those of the users.
_VISIBLE = """
CASE WHEN DATABASE() IS NULL THEN table_schema NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')
ELSE table_schema = DATABASE() END
"""
_TABLES = """
SELECT table_schema, table_name, CASE WHEN table_type LIKE '%VIEW' THEN 'view' ELSE 'table' END,
    table_rows, data_length + index_length
FROM information_schema.tables
WHERE table_type IN ('BASE TABLE', 'VIEW', 'SYSTEM VERSIONED', 'SYSTEM VIEW') AND
"""
# EXTRA says DEFAULT_GENERATED of defaults that are expressions, too.
_COLUMNS = """
SELECT column_name, column_type, is_nullable,
    CASE WHEN extra LIKE '%VIRTUAL%' OR extra LIKE '%STORED%' OR extra LIKE '%PERSISTENT%'
        THEN concat('generated always as (', generation_expression, ')') ELSE column_default END,
    column_key
FROM information_schema.columns
WHERE table_schema = ? AND table_name = ? ORDER BY ordinal_position
"""
_REFERENCES = """
SELECT column_name, concat(IF(referenced_table_schema = table_schema, '', concat(referenced_table_schema, '.')),
    referenced_table_name, '.', referenced_column_name)
FROM information_schema.key_column_usage
WHERE table_schema = ? AND table_name = ? AND referenced_table_name IS NOT NULL
"""
_INDEXES = """
SELECT index_name, non_unique = 0, column_name FROM information_schema.statistics
WHERE table_schema = ? AND table_name = ? ORDER BY index_name = 'PRIMARY' DESC, index_name, seq_in_index
"""
_SERVER = """
SELECT version(), @@GLOBAL.read_only, @@GLOBAL.max_connections, variable_value
FROM {status} WHERE variable_name = 'Threads_connected'
"""
_KEYS: dict[str, KeyKind] = {"PRI": "primary", "UNI": "unique"}


def tables(session: MysqlSession, timeout: float | None) -> list[Table]:
    """Those of the connection's database, or of all databases of users."""
    return [Table(*row) for row in rows_of(session, f"{_TABLES} {_VISIBLE} ORDER BY 1, 2", timeout)]


def describe(session: MysqlSession, name: str, timeout: float | None) -> TableDescription | None:
    """A name with a dot is first looked for as `schema.name`, then as a name."""
    schema, _, bare = name.rpartition(".")
    table = _find(session, schema, bare, timeout) or _find(session, "", name, timeout)
    if table is None:
        return None
    where = (table.schema, table.name)
    references: dict[str, str] = dict(rows_of(session, _REFERENCES, timeout, where))
    columns = tuple(
        TableColumn(
            column,
            kind,
            nullable=nullable == "YES",
            default=_default(default),
            key=_KEYS.get(key) or ("foreign" if column in references else "index" if key else None),
            references=references.get(column),
        )
        for column, kind, nullable, default, key in rows_of(session, _COLUMNS, timeout, where)
    )
    return TableDescription(table, columns, _indexes(session, where, timeout))


def server(session: MysqlSession, timeout: float | None) -> Mapping[str, object]:
    """`role` is what the server's read_only variable says: a replica is usually read-only."""
    schema = "information_schema" if session.is_mariadb else "performance_schema"
    [(version, read_only, most, now)] = rows_of(
        session, _SERVER.format(status=f"{schema}.global_status"), timeout
    )
    return {
        "version": version,
        "flavour": "mariadb" if session.is_mariadb else "mysql",
        "role": "replica" if read_only else "primary",
        "max_connections": most,
        "connections": int(now),
    }


def _find(session: MysqlSession, schema: str, name: str, timeout: float | None) -> Table | None:
    where = "table_schema = ? AND table_name = ?" if schema else f"table_name = ? AND {_VISIBLE}"
    tables = rows_of(session, f"{_TABLES} {where}", timeout, (schema, name) if schema else (name,))
    return Table(*tables[0]) if tables else None


def _default(text: str | None) -> str | None:
    # MariaDB says NULL in words where there is a default of NULL.
    return None if text == "NULL" else text


def _indexes(
    session: MysqlSession, where: tuple[str | None, str], timeout: float | None
) -> tuple[Index, ...]:
    indexes: dict[str, Index] = {}
    for name, unique, column in rows_of(session, _INDEXES, timeout, where):
        before = indexes[name].columns if name in indexes else ()
        indexes[name] = Index(name, (*before, column or "(expression)"), bool(unique))
    return tuple(indexes.values())
