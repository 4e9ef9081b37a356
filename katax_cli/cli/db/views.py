"""The rows of `katax db`."""

from __future__ import annotations

from collections.abc import Mapping

from katax_cli.core.settings import ConnectionSettings
from katax_cli.engines.base import SlowQuery, Table, TableColumn, TableDescription

TABLE_HEADER = ("schema", "name", "kind", "rows_estimate", "size_bytes")
SIZE_HEADER = ("connection", "type", "size_bytes", "tables")
METRICS_HEADER = ("connection", "type", "metrics")
SLOW_HEADER = ("query", "calls", "avg_ms", "max_ms", "total_ms", "last_seen")
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


def metrics_row(settings: ConnectionSettings, metrics: Mapping[str, object]) -> tuple[object, ...]:
    """Engines count different things, so what they count is one value."""
    return (settings.name, settings.type, dict(metrics))


def slow_row(slow: SlowQuery) -> tuple[object, ...]:
    return (slow.query, slow.calls, slow.avg_ms, slow.max_ms, slow.total_ms, slow.last_seen)
