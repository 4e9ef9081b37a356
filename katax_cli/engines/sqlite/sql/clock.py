"""The clock of SQLite."""

from __future__ import annotations

from katax_cli.engines.base import SqlEngine
from katax_cli.engines.sql import ClockSql


def create(engine: SqlEngine) -> ClockSql:
    return ClockSql(
        milliseconds="CAST((julianday('now') - 2440587.5) * 86400000 AS integer)",
        microseconds="CAST((julianday('now') - 2440587.5) * 86400000000 AS integer)",
    )
