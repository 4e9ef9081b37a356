"""SQL of katax's own tables in PostgreSQL."""

from __future__ import annotations

from katax_cli.engines.base import SqlEngine
from katax_cli.engines.sql import StateSql


def create(engine: SqlEngine) -> StateSql:
    return StateSql(
        long_text="TEXT",
        for_update=" FOR UPDATE",
        insert="INSERT",
        insert_end=" ON CONFLICT DO NOTHING",
    )
