"""The load of a PostgreSQL server, and the statements that it found slow (pg_stat_statements)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg

from katax_cli.core.sql import redact
from katax_cli.engines.base import SlowQuery
from katax_cli.engines.parts import SqlPart
from katax_cli.engines.postgresql.session import PostgresConnection
from katax_cli.engines.postgresql.sessions import IS_CLIENT
from katax_cli.errors import ConfigError

# A session's state is hidden from users without pg_read_all_stats; the total is not.
_LOAD = f"""
SELECT count(*) FILTER (WHERE state LIKE 'active%' OR state = 'fastpath function call'),
    count(*) FILTER (WHERE state LIKE 'idle%'), count(*), current_setting('max_connections')::int,
    pg_database_size(current_database()),
    (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
            AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp_)')
FROM pg_stat_activity WHERE {IS_CLIENT}"""
_VIEW = """
SELECT quote_ident(n.nspname) || '.pg_stat_statements'
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'"""
_HERE = "dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
_COUNT = "SELECT sum(calls)::bigint, sum(total_exec_time) / nullif(sum(calls), 0) FROM {view} WHERE " + _HERE
_SLOW = f"""
SELECT query, sum(calls)::bigint, sum(total_exec_time) / sum(calls), max(max_exec_time), sum(total_exec_time)
FROM {{view}} WHERE {_HERE} AND max_exec_time >= $1 AND query IS NOT NULL
GROUP BY query ORDER BY 4 DESC LIMIT 100"""
_MISSING = (
    "{name!r} keeps no slow queries: {why}; put pg_stat_statements into shared_preload_libraries, "
    "restart the server and run CREATE EXTENSION pg_stat_statements"
)


class PostgresMetrics(SqlPart):
    """ReportsMetrics and SlowQueries."""

    def metrics(self, connection: PostgresConnection, timeout: float | None = None) -> Mapping[str, object]:
        """Connections of the whole server, size and tables of this database; `queries` from the extension."""
        [(active, idle, total, most, size, tables)] = self._rows(connection, _LOAD, timeout)
        count, average = self._statements(connection, timeout)
        return {
            "connections": {"active": active, "idle": idle, "total": total, "max": most},
            "queries": {"count": count, "avg_ms": None if average is None else round(average, 3)},
            "size_bytes": size,
            "tables": tables,
        }

    def slow_queries(
        self, connection: PostgresConnection, over_ms: float, timeout: float | None = None
    ) -> list[SlowQuery]:
        view = self._view(connection, timeout)
        if view is None:
            raise self._missing("the extension pg_stat_statements is not installed in this database")
        try:
            rows = self._rows(connection, _SLOW.format(view=view), timeout, (over_ms,))
        except psycopg.errors.ObjectNotInPrerequisiteState as error:
            raise self._missing("the server did not load pg_stat_statements") from error
        # Its own normalisation leaves the literals of utility statements (a new role's password) as they are.
        return [SlowQuery(redact(sql, "postgresql"), *map(_rounded, numbers)) for sql, *numbers in rows]

    def _statements(
        self, connection: PostgresConnection, timeout: float | None
    ) -> tuple[int | None, float | None]:
        view = self._view(connection, timeout)
        if view is None:
            return None, None
        try:
            [(count, average)] = self._rows(connection, _COUNT.format(view=view), timeout)
        except psycopg.errors.ObjectNotInPrerequisiteState:
            return None, None
        return count, average

    def _view(self, connection: PostgresConnection, timeout: float | None) -> str | None:
        found = self._rows(connection, _VIEW, timeout)
        return str(found[0][0]) if found else None

    def _missing(self, why: str) -> ConfigError:
        return ConfigError(_MISSING.format(name=self._engine.settings.name, why=why))


def _rounded(number: Any) -> Any:
    return round(number, 3) if isinstance(number, float) else number


create = PostgresMetrics
