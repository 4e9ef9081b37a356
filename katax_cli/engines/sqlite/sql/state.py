"""SQL of katax's own tables in SQLite."""

from __future__ import annotations

from katax_cli.engines.sql import StateSql

SQL = StateSql(
    long_text="TEXT",
    for_update="",
    insert="INSERT",
    insert_end=" ON CONFLICT DO NOTHING",
)
