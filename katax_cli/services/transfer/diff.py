"""The differences between two databases: tables, columns, indexes, migrations, counts, and on request the rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from katax_cli.core.sql import quote_identifier
from katax_cli.core.text.text import hex_text
from katax_cli.engines.base import TableColumn
from katax_cli.errors import ConfigError
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.databases.transaction import Transaction
from katax_cli.services.tables.truncate import sql_of as tables_sql
from katax_cli.services.transfer.tables import (
    TransferTable,
    existing_table,
    session_of,
    sql_of,
    transfer_table,
)

_FOREVER = float("inf")
_RANGE = 1_000
"""Rows of one range of keys, which are held of both sides."""


class Difference(NamedTuple):
    """One thing that is not the same; `kind`: table, column, index, migration, rows, row. A side without it is None."""

    kind: str
    table: str
    name: str | None
    source: object
    target: object


@dataclass(frozen=True, slots=True)
class DiffPlan:
    """The subject of a comparison: tables, none for all; the ledger of migrations; with `rows` the contents. `skipped`
    are left out unless they are named."""

    tables: tuple[str, ...] = ()
    skipped: frozenset[str] = frozenset()
    migrations: str = "katax_migrations"
    rows: bool = False


def differences(source: SqlDatabase, target: SqlDatabase, plan: DiffPlan) -> Iterator[Difference]:
    """Compares two databases, each in one transaction that only reads. Raises ConfigError for rows of two engines and
    of a table without a primary key, KataxError for a name that is a table of neither."""
    if plan.rows and source.engine.name != target.engine.name:
        raise ConfigError(
            f"--rows compares two of one engine, not {source.engine.name} and {target.engine.name}; "
            "'katax db copy --checksums' compares values"
        )
    with source.transaction(timeout=_FOREVER) as here, target.transaction(timeout=_FOREVER) as there:
        for transaction in (here, there):
            with transaction.using("setting up the session") as connection:
                session_of(transaction.engine).prepare(connection)
        if not plan.tables:
            yield from _migrations(here, there, plan.migrations)
        for name in plan.tables or _names(source, target, plan.skipped | {plan.migrations}):
            tables = transfer_table(here, name), transfer_table(there, name)
            if tables[0] is None and tables[1] is None:
                existing_table(here, name, connection=source.name)
            if tables[0] is None or tables[1] is None:
                sides = ["there" if table is not None else None for table in tables]
                yield Difference("table", name, None, sides[0], sides[1])
                continue
            yield from _schema(tables[0], tables[1])
            yield from _contents(here, there, tables[0], tables[1], rows=plan.rows)


def _names(source: SqlDatabase, target: SqlDatabase, skipped: frozenset[str]) -> list[str]:
    found: set[str] = set()
    for database in (source, target):
        default = tables_sql(database).default_schema
        found |= {
            table.name
            for table in database.tables(timeout=_FOREVER)
            if table.kind in ("table", "partitioned table") and (default is None or table.schema == default)
        }
    return sorted(found - skipped)


def _migrations(here: Transaction, there: Transaction, ledger: str) -> Iterator[Difference]:
    sides = [_applied(transaction, ledger) for transaction in (here, there)]
    for version in sorted(sides[0].keys() | sides[1].keys()):
        source, target = sides[0].get(version), sides[1].get(version)
        if source != target:
            same_state = source is not None and target is not None and source[0] == target[0]
            words = [
                side and (f"{side[0]} {side[1][:12]}" if same_state else side[0]) for side in (source, target)
            ]
            yield Difference("migration", ledger, version, words[0], words[1])


def _applied(on: Transaction, ledger: str) -> Mapping[str, tuple[str, str]]:
    """Version → state and checksum, by katax's ledger; none where there is no ledger."""
    description = on.describe(ledger)
    if description is None or "checksum" not in {column.name for column in description.columns}:
        return {}
    name = ".".join(quote_identifier(part, on.dialect) for part in ledger.split("."))
    rows = on.run(f"SELECT version, state, checksum FROM {name} WHERE state <> 'text'").rows
    return {str(version): (str(state), str(checksum)) for version, state, checksum in rows}


def _schema(source: TransferTable, target: TransferTable) -> Iterator[Difference]:
    name = source.table.name
    sides = [{column.name: column for column in table.description.columns} for table in (source, target)]
    for column in [*sides[0], *(column for column in sides[1] if column not in sides[0])]:
        here, there = sides[0].get(column), sides[1].get(column)
        if here is None or there is None or not _same_column(here, there, source, target):
            yield Difference("column", name, column, _told(here), _told(there))
    if source.engine.name == target.engine.name:
        indexes = [
            {
                f"{'unique ' if index.unique else ''}({', '.join(index.columns)})"
                for index in table.description.indexes
            }
            for table in (source, target)
        ]
        for index in sorted(indexes[0] ^ indexes[1]):
            sides_of_index = ["there" if index in found else None for found in indexes]
            yield Difference("index", name, index, sides_of_index[0], sides_of_index[1])


def _same_column(here: TableColumn, there: TableColumn, source: TransferTable, target: TransferTable) -> bool:
    """Between two engines the type has to be of the kind that a copy would give it."""
    if here.nullable != there.nullable:
        return False
    if source.engine.name == target.engine.name:
        return (here.type, here.default, here.key) == (there.type, there.default, there.key)
    sql = sql_of(target.engine)
    wanted = sql.type_of(sql_of(source.engine).kind_of(here.type), key=False).type
    return sql.kind_of(wanted).kind == sql.kind_of(there.type).kind


def _told(column: TableColumn | None) -> str | None:
    if column is None:
        return None
    words = [column.type, "" if column.nullable else "not null"]
    words += [f"default {column.default}" if column.default is not None else "", column.key or ""]
    return " ".join(filter(None, words))


def _contents(
    here: Transaction, there: Transaction, source: TransferTable, target: TransferTable, *, rows: bool
) -> Iterator[Difference]:
    counts = [
        int(on.run(f"SELECT count(*) FROM {table.quoted}").rows[0][0])
        for on, table in ((here, source), (there, target))
    ]
    if counts[0] != counts[1]:
        yield Difference("rows", source.table.name, None, counts[0], counts[1])
    if rows:
        if not source.primary or source.primary != target.primary:
            raise ConfigError(
                f"{source.table.name!r} has no primary key on both sides to compare its rows by"
            )
        yield from _RowComparison(here, there, source, target).compared()


class _RowComparison:
    """The rows of two tables, range after range of their keys, which the servers order: no collation is guessed."""

    def __init__(
        self, here: Transaction, there: Transaction, source: TransferTable, target: TransferTable
    ) -> None:
        self._sides = ((here, source), (there, target))
        known = {column.name for column in target.columns}
        self._columns = [column.name for column in source.columns if column.name in known]
        self._key = source.primary
        self._places = [self._columns.index(name) for name in self._key]
        self._table = source.table.name

    def compared(self) -> Iterator[Difference]:
        last: list[Any] | None = None
        while True:
            rows = self._read(0, last, None, _RANGE)
            end = self._key_of(rows[-1]) if len(rows) == _RANGE else None
            yield from self._range(rows, self._read(1, last, end, None))
            if end is None:
                return
            last = end

    def _range(self, source: Sequence[Any], target: Sequence[Any]) -> Iterator[Difference]:
        sides = [{tuple(self._key_of(row)): row for row in rows} for rows in (source, target)]
        for key in [*sides[0], *(key for key in sides[1] if key not in sides[0])]:
            here, there = sides[0].get(key), sides[1].get(key)
            if here != there:
                name = json.dumps([_shown(value) for value in key], ensure_ascii=False)
                yield Difference(
                    "row", self._table, name, self._values(here, there), self._values(there, here)
                )

    def _values(self, row: Sequence[Any] | None, other: Sequence[Any] | None) -> Mapping[str, Any] | None:
        """The values that the other row has not; all of a row that has no other."""
        if row is None:
            return None
        return {
            name: _shown(row[at])
            for at, name in enumerate(self._columns)
            if other is None or row[at] != other[at]
        }

    def _read(
        self, side: int, after: Sequence[Any] | None, to: Sequence[Any] | None, limit: int | None
    ) -> list[Any]:
        on, table = self._sides[side]
        key = ", ".join(table.names(self._key))
        marks = ", ".join("?" * len(self._key))
        limits = [(sign, values) for sign, values in ((">", after), ("<=", to)) if values is not None]
        where = " AND ".join(f"({key}) {sign} ({marks})" for sign, _ in limits)
        sql = f"SELECT {', '.join(table.names(self._columns))} FROM {table.quoted}"
        sql += f"{' WHERE ' + where if where else ''} ORDER BY {key}{f' LIMIT {limit}' if limit else ''}"
        params = [value for _, values in limits for value in values]
        with on.stream(sql, params or None, text=True) as stream:
            return [row for batch in stream for row in batch]

    def _key_of(self, row: Sequence[Any]) -> list[Any]:
        return [row[at] for at in self._places]


def _shown(value: Any) -> Any:
    return hex_text(value) if isinstance(value, bytes) else value
