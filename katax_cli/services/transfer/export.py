"""Rows of a table or a query as the bytes of a file, as they arrive and in one form: times in UTC, bytes in hex."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from katax_cli.core.sql import quote_identifier
from katax_cli.core.text.duration import FOREVER
from katax_cli.core.text.text import unique_names
from katax_cli.engines.base import Row, Text
from katax_cli.engines.transfers import CopiesOut
from katax_cli.errors import ConfigError
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.databases.transaction import Transaction
from katax_cli.services.transfer.formats.files import Format
from katax_cli.services.transfer.formats.writers import CsvForm, csv_header, csv_lines, inserts, json_lines
from katax_cli.services.transfer.tables import TransferTable, existing_table, prepare, session_of, sql_of

OnRows = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The subject of an export: a table or a query, one of them, its format, and the form of its CSV."""

    table: str | None
    query: str | None
    format: Format
    csv: CsvForm = field(default_factory=CsvForm)


@dataclass(frozen=True, slots=True)
class ExportedRows:
    """The number of rows, and the columns that were left out because the server computes them."""

    rows: int
    left_out: tuple[str, ...] = ()


def export(
    database: SqlDatabase,
    wanted: Wanted,
    stream: BinaryIO,
    *,
    on_rows: OnRows = lambda _: None,
    on_estimate: Callable[[int | None], object] = lambda _: None,
) -> ExportedRows:
    """Writes the rows, within one transaction; holds a batch of them at a time. `on_estimate` hears first how many
    rows the server takes the table to have.

    Raises ConfigError for a query that is to become INSERTs, KataxError when there is no such table.
    """
    if wanted.format == "sql" and wanted.table is None:
        raise ConfigError("a query has no table to insert into; use -f csv, or export a table")
    with database.transaction(timeout=FOREVER) as transaction:
        prepare(transaction)
        table = None
        if wanted.table is not None:
            table = existing_table(transaction, wanted.table, connection=database.name)
            on_estimate(table.table.rows_estimate)
        work = _Export(transaction, table, wanted, stream, on_rows)
        rows = (
            work.copied()
            if wanted.format == "csv" and database.engine.name == "postgresql"
            else work.streamed()
        )
    return ExportedRows(rows, () if table is None else table.generated)


class _Export:
    def __init__(
        self,
        transaction: Transaction,
        table: TransferTable | None,
        wanted: Wanted,
        stream: BinaryIO,
        on_rows: OnRows,
    ) -> None:
        self._transaction = transaction
        self._table = table
        self._wanted = wanted
        self._stream = stream
        self._on_rows = on_rows

    @property
    def _select(self) -> str:
        if self._table is None:
            return str(self._wanted.query).strip().rstrip(";")
        return self._table.select([column.name for column in self._table.columns], self._table.quoted)

    def copied(self) -> int:
        """By COPY: the server's bytes as they are."""
        form = self._wanted.csv
        columns = self._columns()
        self._stream.write(csv_header(columns, form))
        # COPY of the table itself is no faster, and would leave out the rows of tables that inherit from it.
        source = f"({self._select}\n)"
        engine = cast("CopiesOut", session_of(self._transaction.engine))
        with (
            self._transaction.using("export") as connection,
            engine.copied_out(connection, source, null=form.null, delimiter=form.delimiter) as copy,
        ):
            for chunk in copy:
                self._stream.write(chunk)
                self._on_rows(copy.rows)
        return copy.rows

    def _columns(self) -> Sequence[str]:
        if self._table is not None:
            return [column.name for column in self._table.columns]
        first = f"SELECT * FROM ({self._select}\n) AS {quote_identifier('rows', 'postgresql')} LIMIT 0"
        return unique_names(self._transaction.run(first).columns)

    def streamed(self) -> int:
        """By plain SELECT, batch after batch."""
        if self._wanted.format == "parquet":
            from katax_cli.services.transfer.formats.parquet import write_parquet

            types = None if self._table is None else [column.type for column in self._table.columns]
            with self._transaction.stream(self._select, text=True) as rows:
                kinds = (
                    None
                    if types is None
                    else [sql_of(self._transaction.engine).kind_of(type) for type in types]
                )
                return write_parquet(self._stream, unique_names(rows.columns), kinds, rows, self._on_rows)
        count = 0
        with self._transaction.stream(self._select, text=self._texts) as rows:
            columns = unique_names(rows.columns)
            if self._wanted.format == "csv":
                self._stream.write(csv_header(columns, self._wanted.csv))
            write = self._writer(columns)
            for batch in rows:
                self._stream.write(write(batch))
                count += len(batch)
                self._on_rows(count)
        return count

    @property
    def _texts(self) -> Text:
        """The values that the writer wants as the server writes them."""
        if self._wanted.format == "jsonl":
            return "json"
        # INSERTs keep the type that a value has of its own.
        return not (self._wanted.format == "sql" and self._typed)

    @property
    def _typed(self) -> bool:
        return sql_of(self._transaction.engine).typed_values

    def _writer(self, columns: Sequence[str]) -> Callable[[Sequence[Row]], bytes]:
        if self._wanted.format == "csv":
            return lambda rows: csv_lines(rows, self._wanted.csv)
        if self._wanted.format == "jsonl":
            return json_lines(columns)
        assert self._table is not None
        table, sql = self._table, sql_of(self._transaction.engine)
        identity = any("as identity" in (column.default or "") for column in table.columns)
        # Another database may hold the table by then.
        name = (
            table.quoted if self._transaction.dialect == "postgresql" else table.names([table.table.name])[0]
        )
        head = f"INSERT INTO {name} ({', '.join(table.names())}){sql.overriding if identity else ''}"
        self._stream.write(sql.prelude.encode())
        binds = [None if self._typed else sql.bind(column.type) for column in table.columns]
        return inserts(head, sql.literal, binds)
