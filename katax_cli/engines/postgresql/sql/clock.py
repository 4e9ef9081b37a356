"""The clock of PostgreSQL."""

from __future__ import annotations

from katax_cli.engines.base import SqlEngine
from katax_cli.engines.sql import ClockSql


def create(engine: SqlEngine) -> ClockSql:
    return ClockSql(
        milliseconds="CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)",
        microseconds="CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)",
    )
