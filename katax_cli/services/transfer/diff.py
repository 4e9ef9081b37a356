"""The differences between two databases: tables, columns, indexes, migrations, counts, and on request the rows."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from katax_cli.core.sql import quote_identifier
from katax_cli.core.text.duration import FOREVER
from katax_cli.core.text.text import hex_text
from katax_cli.engines.base import Row, TableColumn
from katax_cli.errors import ConfigError
from katax_cli.services.databases.origin import Isolation
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.databases.transaction import Transaction
from katax_cli.services.tables.truncate import sql_of as tables_sql
from katax_cli.services.transfer.tables import (
    TransferTable,
    existing_table,
    prepare,
    refuse_rewritten,
    sql_of,
    transfer_table,
)

Rows = Generator[Row, None, None]
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
    level: Isolation = "repeatable read"
    with (
        source.transaction(timeout=FOREVER, isolation=level) as here,
        target.transaction(timeout=FOREVER, isolation=level) as there,
    ):
        for transaction in (here, there):
            prepare(transaction)
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
            for table in database.tables(timeout=FOREVER)
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
    counts = []
    for on, table in ((here, source), (there, target)):
        refuse_rewritten(on, table)
        counts.append(int(on.run(f"SELECT count(*) FROM {table.own}").rows[0][0]))
    if counts[0] != counts[1]:
        yield Difference("rows", source.table.name, None, counts[0], counts[1])
    if rows:
        if not source.primary or {*source.primary} != {*target.primary}:
            raise ConfigError(
                f"{source.table.name!r} has no primary key on both sides to compare its rows by"
            )
        target = replace(target, primary=source.primary)
        yield from _RowComparison(here, there, source, target).compared(target_rows=counts[1])


class _RowComparison:
    """The rows of two tables, range after range of the keys of one. Each server orders its own: the other one may order
    the same texts otherwise."""

    def __init__(
        self, here: Transaction, there: Transaction, source: TransferTable, target: TransferTable
    ) -> None:
        self._sides = ((here, source), (there, target))
        known = {column.name for column in target.columns}
        self._columns = [column.name for column in source.columns if column.name in known]
        self._places = [self._columns.index(name) for name in source.primary]
        self._table = source.table.name
        self._text = not sql_of(source.engine).typed_values

    def compared(self, *, target_rows: int) -> Iterator[Difference]:
        matched = 0
        for here, there in self._pairs(0):
            matched += there is not None
            if there is None or not all(map(_same, here, there)):
                yield self._difference(here, there)
        if matched < target_rows:
            yield from (self._difference(None, row) for row, found in self._pairs(1) if found is None)

    def _pairs(self, side: int) -> Iterator[tuple[Row, Row | None]]:
        """The rows of one side, each with that of the same key on the other."""
        (on, table), (on_other, other) = self._sides[side], self._sides[1 - side]
        last: tuple[Any, ...] | None = None
        while True:
            behind = [] if last is None else [table.by_key(">", last)]
            with closing(self._read(on, table, behind, limit=_RANGE)) as rows:
                left = {self._key_of(row): row for row in rows}
            end = None if len(left) < _RANGE else next(reversed(left))
            bounds = [other.by_key(sign, key) for sign, key in ((">", last), ("<=", end)) if key is not None]
            # Of another order may be between these bounds what is in all of the table: no more than some ranges.
            yield from self._found(left, self._read(on_other, other, bounds, limit=4 * _RANGE))
            if left:
                yield from self._found(
                    left, self._streamed(on_other, *other.select_keys(self._columns, list(left)))
                )
            yield from ((row, None) for row in left.values())
            if end is None:
                return
            last = end

    def _found(self, left: dict[tuple[Any, ...], Row], others: Rows) -> Iterator[tuple[Row, Row]]:
        """The rows that are left, with those of the other side as they come."""
        with closing(others):
            for other in others:
                row = left.pop(self._key_of(other), None)
                if row is not None:
                    yield row, other

    def _read(
        self,
        on: Transaction,
        table: TransferTable,
        conditions: Sequence[tuple[str, list[Any]]],
        *,
        limit: int,
    ) -> Rows:
        where = " AND ".join(condition for condition, _ in conditions)
        sql = f"{table.select(self._columns)}{' WHERE ' + where if where else ''}"
        sql += f" ORDER BY {', '.join(table.exact(table.primary))} LIMIT {limit}"
        return self._streamed(on, sql, [value for _, values in conditions for value in values])

    def _streamed(self, on: Transaction, sql: str, params: list[Any]) -> Rows:
        with on.stream(sql, params or None, text=self._text) as stream:
            for batch in stream:
                yield from batch

    def _key_of(self, row: Row) -> tuple[Any, ...]:
        key = tuple([row[at] for at in self._places])
        if None in key:
            self._sides[0][1].refuse_null(key)
        return key

    def _difference(self, here: Row | None, there: Row | None) -> Difference:
        key = self._key_of(here or there or ())
        name = json.dumps([_shown(value) for value in key], ensure_ascii=False)
        return Difference("row", self._table, name, self._values(here, there), self._values(there, here))

    def _values(self, row: Row | None, other: Row | None) -> Mapping[str, Any] | None:
        """The values that the other row has not; all of a row that has no other."""
        if row is None:
            return None
        return {
            name: _shown(row[at])
            for at, name in enumerate(self._columns)
            if other is None or not _same(row[at], other[at])
        }


def _same(value: Any, other: Any) -> bool:
    """True for two of one type: 1 is not 1.0."""
    return value == other and type(value) is type(other)


def _shown(value: Any) -> Any:
    return hex_text(value) if isinstance(value, bytes) else value
