"""The clock of MySQL and MariaDB."""

from __future__ import annotations

from katax_cli.engines.base import SqlEngine
from katax_cli.engines.sql import ClockSql


def create(engine: SqlEngine) -> ClockSql:
    return ClockSql(
        milliseconds="CAST(unix_timestamp(now(3)) * 1000 AS signed)",
        microseconds="CAST(unix_timestamp(now(6)) * 1000000 AS unsigned)",
    )
