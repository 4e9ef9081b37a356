"""SQL of emptying tables and dropping everything in SQLite."""

from __future__ import annotations

from collections.abc import Sequence

from katax_cli.engines.sql import TableSql

_REFERENCES = """SELECT NULL, m.name, NULL, p.name FROM sqlite_master m, pragma_foreign_key_list(m.name) f
    JOIN sqlite_master p ON p.type = 'table' AND lower(p.name) = lower(f."table") WHERE m.type = 'table'"""
# Virtual tables first: they take the tables behind them along. Indexes and triggers go with their table.
_OBJECTS = """
SELECT type, name, 'DROP ' || upper(type) || ' IF EXISTS "' || replace(name, '"', '""') || '"' FROM sqlite_master
WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
ORDER BY type = 'table', sql NOT LIKE 'CREATE VIRTUAL%', name"""


def _truncation(tables: Sequence[str]) -> list[str]:
    return [f"DELETE FROM {table}" for table in tables]


SQL = TableSql(
    references=_REFERENCES,
    objects=_OBJECTS,
    truncation=_truncation,
    atomic=True,
    counters=(
        "SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'",
        "DELETE FROM sqlite_sequence WHERE name = ?",
    ),
    unchecked=("PRAGMA foreign_keys = OFF", "PRAGMA foreign_keys = ON"),
)
