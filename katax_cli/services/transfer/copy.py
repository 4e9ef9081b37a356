"""Tables of one connection into another: created where they are missing, rows in order of their key, counted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from katax_cli.core.text.duration import FOREVER
from katax_cli.core.text.text import hex_text
from katax_cli.engines.base import TableDescription
from katax_cli.engines.transfers import Bind, from_hex
from katax_cli.errors import ConfigError, KataxError, Refused
from katax_cli.services.databases.session import Session
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.databases.transaction import Transaction
from katax_cli.services.tables.bulk_load import BulkLoad
from katax_cli.services.tables.truncate import sql_of as tables_sql
from katax_cli.services.transfer.checkpoint import IMPORTS_TABLE
from katax_cli.services.transfer.checksums import RowSum
from katax_cli.services.transfer.copy_ledger import COPIES_TABLE, CopyLedger, CopyPosition
from katax_cli.services.transfer.mapping import MappedColumn, creation, mapped
from katax_cli.services.transfer.tables import (
    TransferTable,
    check_columns,
    existing_table,
    prepare,
    refuse_rewritten,
    sql_of,
    transfer_table,
)

_BATCH = 5_000
_WHOLE = re.compile(r"-?\d+\Z", re.ASCII)
_ZERO_DATE = re.compile(r"0000-\d\d-\d\d|\d{4}-00-\d\d|\d{4}-\d\d-00")
OWN_TABLES = frozenset({IMPORTS_TABLE, COPIES_TABLE, "katax_seeds"})


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """The task of a copy. `skipped`: tables that are left out unless they are named; `zero_dates`: `refuse` or
    `null`; `not_consistent`: goes on after a stop, with rows as they are now."""

    tables: tuple[str, ...] = ()
    skipped: frozenset[str] = OWN_TABLES
    checksums: bool = False
    not_consistent: bool = False
    zero_dates: str = "refuse"


@dataclass(frozen=True, slots=True)
class TableReport:
    """One table before its first row: its columns on both sides, the CREATE TABLE where it is missing, and whether
    an earlier copy brought all of it."""

    table: TransferTable
    columns: tuple[MappedColumn, ...]
    creation: str | None
    is_in: bool = False


@dataclass(frozen=True, slots=True)
class CopiedTable:
    """One table after the copy: rows of both sides, and their checksums where those were asked for."""

    table: str
    source_rows: int
    target_rows: int
    source_checksum: str | None = None
    target_checksum: str | None = None

    @property
    def same(self) -> bool:
        return (self.source_rows, self.source_checksum) == (self.target_rows, self.target_checksum)


@dataclass(slots=True)
class Copy:
    """One copy. The source's connection is to be read-only. `progress` hears how many rows are in."""

    source: SqlDatabase
    target: SqlDatabase
    plan: CopyPlan
    progress: Callable[[int], object] = lambda _: None
    copied: int = 0

    def run(self, report: Callable[[Sequence[TableReport]], bool]) -> list[CopiedTable]:
        """Copies, once `report` has heard of every table and returns True; reads all tables in one snapshot.

        Raises Refused for a table of the target that holds other rows, and for a copy that stopped unless it may be
        inconsistent; KataxError for a row that the target refuses: the batches before it stay.
        """
        self.target.settings.refuse_read_only()
        with self.source.transaction(timeout=FOREVER, isolation="repeatable read") as snapshot:
            prepare(snapshot)
            reports = self._reports(snapshot)
            positions = [self._position(one) for one in reports]
            reports = [
                replace(one, is_in=position is not None and position.state == "done")
                for one, position in zip(reports, positions, strict=True)
            ]
            if not report(reports):
                return []
            with self.target.session(timeout=FOREVER) as session:
                for one, position in zip(reports, positions, strict=True):
                    self._copy(snapshot, session, one, position)
                return [self._counted(snapshot, session, one) for one in reports]

    def _reports(self, snapshot: Transaction) -> list[TableReport]:
        names = self.plan.tables or self._all()
        found = [existing_table(snapshot, name, connection=self.source.name) for name in names]
        tables = list({table.quoted: table for table in found}.values())
        _refuse_alike(tables)
        with self.target.transaction(timeout=FOREVER) as there:
            reports = []
            for table in _parents_first(tables, self.source):
                existing = transfer_table(there, table.table.name)
                if existing is not None:
                    wanted = [column.name for column in table.columns]
                    check_columns(
                        existing, wanted, what=f"table {table.table.name!r} of {self.source.name!r}"
                    )
                engine, zero_dates = self.target.engine, self.plan.zero_dates
                columns = [
                    mapped(column, table, engine, existing, zero_dates=zero_dates) for column in table.columns
                ]
                made = creation(table, columns, engine) if existing is None else None
                reports.append(TableReport(table, tuple(columns), made))
        return reports

    def _all(self) -> list[str]:
        default = tables_sql(self.source).default_schema
        return [
            table.name
            for table in self.source.tables(timeout=FOREVER)
            if table.kind in ("table", "partitioned table")
            and table.name not in self.plan.skipped
            and (default is None or table.schema == default)
        ]

    def _ledger(self, one: TableReport) -> CopyLedger:
        settings = self.source.settings
        source = f"{settings.type} {settings.address} {settings.database or settings.path}"
        return CopyLedger(self.target, source=source, table=one.table.table.name)

    def _position(self, one: TableReport) -> CopyPosition | None:
        """Where the copy of a table goes on; None: from its beginning, as into one that was emptied."""
        name, found = one.table.table.name, self._ledger(one).find()
        with self.target.transaction(timeout=FOREVER) as there:
            if not _has_rows(there, name):
                return None
        begun = found is not None and (found.state == "done" or found.copied > 0)
        if found is None or not (begun or self._keeps_parts(self.target.describe(name, timeout=FOREVER))):
            raise Refused(
                f"{name!r} of {self.target.name!r} holds rows already; empty it, or name other tables"
            )
        if found.state == "running" and not self.plan.not_consistent:
            raise Refused(
                f"the copy of {name!r} stopped behind {found.copied:,} rows, and its snapshot is gone: what changed "
                "since would be missed; go on with --not-consistent, or empty the table and copy it anew"
            )
        if found.state == "running" and self._is_ambiguous(one, found):
            raise Refused(
                f"the copy of {name!r} stopped behind the key {found.last_key}, which may be a text or a number: the "
                "column has no type that says so; empty the table and copy it anew"
            )
        return found

    def _is_ambiguous(self, one: TableReport, at: CopyPosition) -> bool:
        """True for a key of values with types of their own that went as texts, and whose columns have none."""
        sql = sql_of(self.source.engine)
        if self._as_they_are or not sql.typed_values or at.last_key is None:
            return False
        kinds = [sql.kind_of(declared).kind for declared in one.table.types(one.table.primary)]
        return any(
            isinstance(value, str) and kind in ("binary", "other")
            for value, kind in zip(json.loads(at.last_key), kinds, strict=True)
        )

    def _copy(
        self, snapshot: Transaction, session: Session, one: TableReport, at: CopyPosition | None
    ) -> None:
        ledger, name = self._ledger(one), one.table.table.name
        position = ledger.begin(lambda there: _has_rows(there, name)) if at is None else at
        if position.state == "done":
            return
        refuse_rewritten(snapshot, one.table)
        if one.creation is not None:
            session.execute(one.creation)
        with session.transaction() as transaction:
            target = existing_table(transaction, name, connection=self.target.name)
        key = self._upsert_key(target)
        loading = _Loading(
            one, BulkLoad(target, [column.name for column in one.columns], key), self._binds(target, one)
        )
        if one.table.primary:
            for rows in self._batches(snapshot, one, position):
                after = CopyPosition(position.copied + len(rows), _key_text(one, rows[-1]))
                with session.transaction() as transaction:
                    ledger.advance(transaction, position, after)
                    loading.write(transaction, rows)
                position = after
                self._count(len(rows))
            with session.transaction() as transaction:
                loading.bulk.advance_counters(transaction)
                ledger.advance(transaction, position, replace(position, state="done"))
            return
        # Without a key there is no place to go on from: all of it, or nothing.
        with session.transaction() as transaction:
            ledger.advance(transaction, position, replace(position, state="done"))
            for rows in self._batches(snapshot, one, position):
                loading.write(transaction, rows)
                self._count(len(rows))
            loading.bulk.advance_counters(transaction)

    def _count(self, rows: int) -> None:
        self.copied += rows
        self.progress(self.copied)

    def _keeps_parts(self, target: TableDescription | None) -> bool:
        """True for a table without transactions: it keeps the rows of a batch that was not finished."""
        asks = sql_of(self.target.engine).transactional
        if asks is None or target is None:
            return False
        rows = self.target.run(asks, [target.table.schema, target.table.name], timeout=FOREVER).rows
        return bool(rows) and not rows[0][0]

    def _upsert_key(self, target: TransferTable) -> tuple[str, ...]:
        """The key by which rows may come twice, of a table without transactions; none where there are some."""
        if not self._keeps_parts(target.description):
            return ()
        if not target.primary:
            raise ConfigError(
                f"{target.table.name!r} has neither transactions nor a primary key; give it one"
            )
        return target.primary

    def _binds(self, target: TransferTable, one: TableReport) -> list[Bind | None]:
        sql = sql_of(self.target.engine)
        declared = target.types([column.name for column in one.columns])
        if self._as_they_are:
            return [sql.kept(made) for made in declared]
        drop_zeros = self.plan.zero_dates == "null" and self.source.dialect == "mysql"
        binds = []
        for column, made in zip(one.columns, declared, strict=True):
            zeros = drop_zeros and column.kind.kind in ("date", "timestamp", "timestamptz")
            kind = sql.kind_of(made).kind
            # Only where values have types of their own is a text among bytes no text of bytes, or 1.5 a whole number.
            alike = kind == column.kind.kind and sql_of(self.source.engine).typed_values
            refused = (
                (str,) if alike and kind == "binary" else () if kind in ("binary", "other") else (bytes,)
            )
            whole = alike and kind == "integer"
            binds.append(_bind(sql.bind(made), column.name, zeros=zeros, refused=refused, whole=whole))
        return binds

    @property
    def _as_they_are(self) -> bool:
        """Between two whose values have types of their own, which a text would lose."""
        return all(sql_of(side.engine).typed_values for side in (self.source, self.target))

    def _batches(
        self, snapshot: Transaction, one: TableReport, at: CopyPosition
    ) -> Iterator[list[tuple[Any, ...]]]:
        sql = one.table.select([column.name for column in one.columns])
        params: list[Any] = []
        if one.table.primary:
            if at.last_key is not None:
                last = [_key_value(value) for value in json.loads(at.last_key)]
                condition, params = one.table.by_key(">", last)
                sql += f" WHERE {condition}"
            sql += f" ORDER BY {', '.join(one.table.exact(one.table.primary))}"
        rows: list[tuple[Any, ...]] = []
        with snapshot.stream(sql, params or None, text=not self._as_they_are) as stream:
            for batch in stream:
                rows += batch
                if len(rows) >= _BATCH:
                    yield rows
                    rows = []
        if rows:
            yield rows

    def _counted(self, snapshot: Transaction, session: Session, one: TableReport) -> CopiedTable:
        name = one.table.table.name
        with session.transaction() as transaction:
            prepare(transaction)
            there = existing_table(transaction, name, connection=self.target.name)
            sides = ((snapshot, one.table), (transaction, there))
            counts = [int(on.run(f"SELECT count(*) FROM {table.own}").rows[0][0]) for on, table in sides]
            sums = [_checksum(on, table, one) if self.plan.checksums else None for on, table in sides]
        return CopiedTable(name, counts[0], counts[1], sums[0], sums[1])


@dataclass(frozen=True, slots=True)
class _Loading:
    one: TableReport
    bulk: BulkLoad
    binds: Sequence[Bind | None]

    def write(self, on: Transaction, rows: Sequence[Sequence[Any]]) -> None:
        prepare(on)
        try:
            bound = [
                [v if v is None or bind is None else bind(v) for v, bind in zip(row, self.binds, strict=True)]
                for row in rows
            ]
        except ValueError as error:
            raise KataxError(
                f"table {self.one.table.table.name!r}: {error}; its batch was not copied"
            ) from error
        self.bulk.write(on, list(enumerate(bound)), lambda number, why: self._refuse(rows[number], why))

    def _refuse(self, row: Sequence[Any], why: str) -> None:
        where = f"table {self.one.table.table.name!r}"
        if self.one.table.primary:
            where += f", the row {_key_text(self.one, row)}"
        raise KataxError(f"{where}: {why}; the rows before its batch are in")


def _bind(
    bind: Bind | None, name: str, *, zeros: bool, refused: tuple[type, ...], whole: bool
) -> Bind | None:
    def checked(value: Any) -> Any:
        if zeros and _ZERO_DATE.match(value):
            return None
        if isinstance(value, refused):
            what = "bytes" if isinstance(value, bytes) else "text or numbers"
            raise ValueError(f"column {name!r} holds {what}, and its type in the target does not")
        if whole and not _WHOLE.match(value):
            raise ValueError(f"column {name!r} holds {value}, and its type in the target whole numbers")
        return value if bind is None else bind(value)

    return checked


def _checksum(on: Transaction, table: TransferTable, one: TableReport) -> str:
    """By the kinds of the source on both sides: they say what the values are."""
    found = RowSum([column.kind for column in one.columns])
    with on.stream(table.select([column.name for column in one.columns]), text=True) as rows:
        for batch in rows:
            found.add(batch)
    return str(found)


def _key_text(one: TableReport, row: Sequence[Any]) -> str:
    names = [column.name for column in one.columns]
    values = [row[names.index(name)] for name in one.table.primary]
    return json.dumps(
        [{"bytes": hex_text(v)} if isinstance(v, bytes) else v for v in values], ensure_ascii=False
    )


def _key_value(value: Any) -> Any:
    return from_hex(value["bytes"]) if isinstance(value, dict) else value


def _has_rows(there: Transaction, name: str) -> bool:
    table = transfer_table(there, name)
    return table is not None and bool(there.run(f"SELECT 1 FROM {table.own} LIMIT 1").rows)


def _refuse_alike(tables: Sequence[TransferTable]) -> None:
    names = [table.table.name for table in tables]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(
            f"two tables are named {twice!r}, which would be one in the target; name one of them"
        )


def _parents_first(tables: Sequence[TransferTable], source: SqlDatabase) -> list[TransferTable]:
    """Tables behind those that they refer to; of a circle in any order."""
    refers: dict[str, set[str]] = {table.table.name: set() for table in tables}
    for _, name, _, parent in source.run(tables_sql(source).references, timeout=FOREVER).rows:
        if name in refers and parent in refers and name != parent:
            refers[name].add(parent)
    ordered: list[str] = []
    while len(ordered) < len(refers):
        left = [name for name in refers if name not in ordered]
        free = [name for name in left if refers[name] <= set(ordered)]
        ordered += free or left
    by_name = {table.table.name: table for table in tables}
    return [by_name[name] for name in ordered]
