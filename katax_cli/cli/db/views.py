"""The rows of `katax db`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from katax_cli.cli.shell.output import Manner
from katax_cli.core.settings import ConnectionSettings
from katax_cli.engines.base import Table, TableColumn, TableDescription

if TYPE_CHECKING:
    from katax_cli.engines.activity import SessionActivity
    from katax_cli.services.inspect.activity import Blocked

TABLE_HEADER = ("schema", "name", "kind", "rows_estimate", "size_bytes")
SIZE_HEADER = ("connection", "type", "size_bytes", "tables")
METRICS_HEADER = ("connection", "type", "metrics")
TABLE_SIZE_HEADER = ("connection", "type", "table", "size_bytes", "rows_estimate")
SLOW_HEADER = ("query", "calls", "avg_ms", "max_ms", "total_ms", "last_seen", "source")
ACTIVITY_HEADER = (
    "pid",
    "user",
    "host",
    "database",
    "state",
    "wait",
    "age_seconds",
    "transaction_age_seconds",
    "statement",
)
BLOCKING_HEADER = (
    "pid",
    "blocked_by",
    "level",
    "user",
    "database",
    "state",
    "waiting_seconds",
    "transaction_age_seconds",
    "lock",
    "statement",
)
ACTIVITY = Manner(brief=tuple(name for name in ACTIVITY_HEADER if name not in ("host", "database")))
BLOCKING = Manner(brief=("pid", "user", "state", "waiting_seconds", "lock", "statement"))
COLUMN_HEADER = ("column", "type", "nullable", "default", "key", "references", "indexes")


def table_row(table: Table) -> tuple[object, ...]:
    return (table.schema, table.name, table.kind, table.rows_estimate, table.size_bytes)


def column_row(description: TableDescription, column: TableColumn) -> tuple[object, ...]:
    """A column, with the names of the indexes that cover it."""
    indexes = [index.name for index in description.indexes if column.name in index.columns]
    return (
        column.name,
        column.type,
        column.nullable,
        column.default,
        column.key,
        column.references,
        ", ".join(indexes) or None,
    )


def size_row(settings: ConnectionSettings, metrics: Mapping[str, object]) -> tuple[object, ...]:
    """Redis has no size on disk that it could say, but its memory, and no tables."""
    size = metrics.get("size_bytes", metrics.get("memory_bytes"))
    return (settings.name, settings.type, size, metrics.get("tables"))


def table_size_row(settings: ConnectionSettings, table: Table) -> tuple[object, ...]:
    name = f"{table.schema}.{table.name}" if table.schema and settings.type == "postgresql" else table.name
    return (settings.name, settings.type, name, table.size_bytes, table.rows_estimate)


def blocking_row(blocked: Blocked, *, drawn: bool) -> tuple[object, ...]:
    """`drawn`: the tree as people see it, by indentation and with the first of many holders."""
    session = blocked.session
    pid: object = blocked.pid
    holders: object = list(blocked.blocked_by)
    if drawn:
        pid = "  " * (blocked.level - 1) + "└ " * (blocked.level > 0) + str(pid or "not told")
        more = len(blocked.blocked_by) - 1
        holders = "" if more < 0 else f"{blocked.blocked_by[0]}{f' +{more}' if more else ''}"
    return (
        pid,
        holders,
        blocked.level,
        session.user,
        session.database,
        session.state,
        blocked.waiting_seconds,
        session.transaction_age_seconds,
        blocked.lock,
        session.statement,
    )


def session_line(session: SessionActivity) -> str:
    """`session 4711 (app at 10.0.0.7, database shop, active): UPDATE t SET n = ?`."""
    words = [f"{session.user or 'unknown user'} at {session.host or 'unknown host'}"]
    words += [f"database {session.database}"] if session.database else []
    statement = f": {session.statement}" if session.statement else ""
    return f"session {session.pid} ({', '.join([*words, session.state])}){statement}"


def outcome_facts(session: SessionActivity, fate: str) -> dict[str, object]:
    """The target of an order to end, and its fate."""
    return {
        "pid": session.pid,
        "outcome": fate,
        "user": session.user,
        "database": session.database,
        "statement": session.statement,
    }
