"""SQL of the databases of a MySQL or MariaDB server."""

from __future__ import annotations

from katax_cli.engines.sql import DatabaseSql

_IDLE = """SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE ?
    AND schema_name NOT IN (SELECT db FROM information_schema.processlist WHERE db IS NOT NULL)"""

SQL = DatabaseSql(
    maintenance=None,
    own=("mysql", "information_schema", "performance_schema", "sys"),
    exists="SELECT 1 FROM information_schema.schemata WHERE schema_name = ?",
    idle=_IDLE,
    drop="DROP DATABASE IF EXISTS {name}",
)
