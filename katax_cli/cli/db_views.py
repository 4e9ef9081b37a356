"""What `katax db` shows: values in, rows out."""

from __future__ import annotations

from katax_cli.engines.base import Table, TableColumn, TableDescription

TABLE_HEADER = ("schema", "name", "kind", "rows_estimate", "size_bytes")
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
