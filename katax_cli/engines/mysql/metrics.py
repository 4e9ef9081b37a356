"""The load of a MySQL or MariaDB server, and the statements that it found slow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from katax_cli.core.sql import redact
from katax_cli.engines.base import Engine, SlowQuery
from katax_cli.engines.mysql.rows import rows_of
from katax_cli.engines.mysql.session import MysqlSession
from katax_cli.engines.parts import EnginePart, slow_queries
from katax_cli.errors import ConfigError

_STATUS = """
SELECT lower(variable_name), variable_value FROM {schema}.global_status
WHERE variable_name IN ('Threads_connected', 'Threads_running', 'Questions')"""
_TABLES = """
SELECT sum(data_length + index_length), count(*) FROM information_schema.tables
WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE'"""
_VARIABLES = """
SELECT @@GLOBAL.max_connections, @@GLOBAL.performance_schema, @@GLOBAL.slow_query_log, @@GLOBAL.log_output"""
# Timers count picoseconds.
_AVERAGE = """
SELECT sum(sum_timer_wait) / nullif(sum(count_star), 0) / 1e9
FROM performance_schema.events_statements_summary_global_by_event_name WHERE event_name LIKE 'statement/%'"""
_DIGESTS = """
SELECT digest_text, count_star, avg_timer_wait / 1e9, max_timer_wait / 1e9, sum_timer_wait / 1e9, last_seen
FROM performance_schema.events_statements_summary_by_digest
WHERE max_timer_wait >= ? * 1e9 AND digest_text IS NOT NULL AND (schema_name = DATABASE() OR DATABASE() IS NULL)
ORDER BY max_timer_wait DESC LIMIT 100"""
_LOGGED = """
SELECT CONVERT(sql_text USING utf8mb4), time_to_sec(query_time) * 1000, start_time FROM mysql.slow_log
WHERE time_to_sec(query_time) * 1000 >= ? AND (db = DATABASE() OR DATABASE() IS NULL)
ORDER BY query_time DESC LIMIT 1000"""


class MysqlMetrics(EnginePart[Engine]):
    """ReportsMetrics and SlowQueries."""

    def metrics(self, connection: MysqlSession, timeout: float | None = None) -> Mapping[str, object]:
        """Connections and statements of the whole server; an average only where performance_schema is on."""
        schema = "information_schema" if connection.is_mariadb else "performance_schema"
        status: dict[str, Any] = dict(rows_of(connection, _STATUS.format(schema=schema), timeout))
        [(size, tables)] = rows_of(connection, _TABLES, timeout)
        most, has_schema, _, _ = _variables(connection, timeout)
        total, running = int(status["threads_connected"]), int(status["threads_running"])
        return {
            "connections": {"active": running, "idle": max(0, total - running), "total": total, "max": most},
            "queries": {
                "count": int(status["questions"]),
                "avg_ms": _average(connection, timeout) if has_schema else None,
            },
            "size_bytes": None if size is None else int(size),
            "tables": tables,
        }

    def slow_queries(
        self, connection: MysqlSession, over_ms: float, timeout: float | None = None
    ) -> list[SlowQuery]:
        """From performance_schema, else from the slow query log where it is a table."""
        _, has_schema, logs, output = _variables(connection, timeout)
        if has_schema:
            return [_digest(row) for row in rows_of(connection, _DIGESTS, timeout, (over_ms,))]
        if logs and "TABLE" in str(output).upper():
            # A row for each run, with its values.
            logged = rows_of(connection, _LOGGED, timeout, (over_ms,))
            return slow_queries((redact(sql, "mysql"), float(took), _aware(at)) for sql, took, at in logged)
        raise ConfigError(
            f"{self._engine.settings.name!r} keeps no slow queries: performance_schema is off and the slow query "
            "log is no table; start the server with performance_schema=ON, or run "
            "SET GLOBAL slow_query_log=1, GLOBAL log_output='TABLE'"
        )


def _variables(session: MysqlSession, timeout: float | None) -> tuple[int, bool, bool, str]:
    [(most, has_schema, logs, output)] = rows_of(session, _VARIABLES, timeout)
    return int(most), bool(has_schema), bool(logs), str(output)


def _average(session: MysqlSession, timeout: float | None) -> float | None:
    [(average,)] = rows_of(session, _AVERAGE, timeout)
    return None if average is None else _ms(average)


def _digest(row: Sequence[Any]) -> SlowQuery:
    text, calls, average, longest, total, seen = row
    return SlowQuery(redact(text, "mysql"), int(calls), _ms(average), _ms(longest), _ms(total), _aware(seen))


def _ms(number: Any) -> float:
    return round(float(number), 3)


def _aware(moment: datetime) -> datetime:
    """The server's times have no offset; the session's time zone is taken for the machine's own."""
    return moment.astimezone()


create = MysqlMetrics
