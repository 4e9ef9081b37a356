"""The types of a table's columns in another engine: what is created, and what changes with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from katax_cli.core.sql import quote_identifier
from katax_cli.engines.base import SqlEngine, TableColumn
from katax_cli.engines.transfers import ColumnKind, Mapped
from katax_cli.services.transfer.tables import TransferTable, sql_of

_ZERO_DATES = "zero dates are {what}"
_ROUNDS = "may round or cut; --checksums compares"
_MOMENTS = ("date", "timestamp", "timestamptz")


@dataclass(frozen=True, slots=True)
class MappedColumn:
    """A column on both sides: its types, its kind at the source, and what changes with it."""

    name: str
    source_type: str
    target_type: str
    kind: ColumnKind
    note: str = ""


def mapped(
    column: TableColumn,
    table: TransferTable,
    target: SqlEngine,
    existing: TransferTable | None,
    *,
    zero_dates: str,
) -> MappedColumn:
    """A column of a table as it is in the target, or would be created there."""
    kind, sql = sql_of(table.engine).kind_of(column.type), sql_of(target)
    made = Mapped(column.type)
    if table.engine.name != target.name:
        made = sql.type_of(kind, key=column.name in table.primary)
    declared, notes = made.type, [made.note]
    if existing is not None:
        declared = {other.name: other.type for other in existing.columns}[column.name]
        there = sql.kind_of(declared)
        # SQLite makes floats of decimals.
        exact = there.keeps(kind) and not (there.kind == "decimal" and sql.typed_values)
        notes = [] if exact or there == sql.kind_of(made.type) else [_ROUNDS]
    if table.engine.name == "mysql" and kind.kind in _MOMENTS:
        what = "made NULL" if zero_dates == "null" else "refused (--zero-dates null makes them NULL)"
        notes.append(_ZERO_DATES.format(what=what))
    return MappedColumn(column.name, column.type, declared, kind, "; ".join(filter(None, notes)))


def creation(table: TransferTable, columns: Sequence[MappedColumn], target: SqlEngine) -> str:
    """The CREATE TABLE for a target: columns, NOT NULL, the primary key; no defaults, references or other indexes."""
    nullable = {column.name: column.nullable for column in table.columns}
    lines = [
        f"{quote_identifier(column.name, target.dialect)} {column.target_type}"
        f"{'' if nullable[column.name] else ' NOT NULL'}"
        for column in columns
    ]
    if table.primary:
        key = ", ".join(quote_identifier(name, target.dialect) for name in table.primary)
        lines.append(f"PRIMARY KEY ({key})")
    return f"CREATE TABLE {quote_identifier(table.table.name, target.dialect)} ({', '.join(lines)})"
