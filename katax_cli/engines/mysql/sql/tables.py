"""SQL of emptying tables and dropping everything on MySQL and MariaDB."""

from __future__ import annotations

from collections.abc import Sequence

from katax_cli.engines.sql import TableSql

_REFERENCES = """SELECT constraint_schema, table_name, unique_constraint_schema, referenced_table_name
    FROM information_schema.referential_constraints"""
_OBJECTS = """
SELECT kind, name, concat('DROP ', upper(kind), ' IF EXISTS `', replace(name, '`', '``'), '`') FROM (
    SELECT 1 AS place, CASE table_type WHEN 'VIEW' THEN 'view' WHEN 'SEQUENCE' THEN 'sequence' ELSE 'table' END AS kind,
        table_name AS name FROM information_schema.tables WHERE table_schema = DATABASE()
    UNION ALL
    SELECT 2, lower(routine_type), routine_name FROM information_schema.routines
    WHERE routine_schema = DATABASE() AND routine_type IN ('FUNCTION', 'PROCEDURE')
    UNION ALL
    SELECT 3, 'event', event_name FROM information_schema.events WHERE event_schema = DATABASE()
) AS found ORDER BY place, kind = 'table', name"""


def _truncation(tables: Sequence[str]) -> list[str]:
    return [f"TRUNCATE TABLE {table}" for table in tables]


SQL = TableSql(
    references=_REFERENCES,
    objects=_OBJECTS,
    truncation=_truncation,
    atomic=False,
    unchecked=("SET FOREIGN_KEY_CHECKS = 0", "SET FOREIGN_KEY_CHECKS = 1"),
)
