"""SQL of katax's own tables in MySQL and MariaDB."""

from __future__ import annotations

from katax_cli.engines.sql import StateSql

SQL = StateSql(
    long_text="MEDIUMTEXT",
    for_update=" FOR UPDATE",
    insert="INSERT IGNORE",
    insert_end="",
    index_in_table=True,
)
