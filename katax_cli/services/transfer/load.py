"""Rows of a file into a table, batch by batch: each is one transaction, with the checkpoint that says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice

from katax_cli.core.sql import quote_identifier
from katax_cli.core.text.duration import FOREVER
from katax_cli.engines.transfers import quoted_text
from katax_cli.errors import ConfigError, KataxError, QueryError, RolledBack
from katax_cli.services.databases.session import Session
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.databases.transaction import Transaction
from katax_cli.services.tables.bulk_load import BulkLoad, Rows, check_key, has_stray_quotes
from katax_cli.services.transfer.ahead import ahead
from katax_cli.services.transfer.checkpoint import CLAIMED, Checkpoints, ImportCheckpoint
from katax_cli.services.transfer.formats.inference import inferred, json_text
from katax_cli.services.transfer.formats.json_cells import as_texts
from katax_cli.services.transfer.formats.plain import plain_cells
from katax_cli.services.transfer.formats.readers import Numbered
from katax_cli.services.transfer.formats.sources import Batch
from katax_cli.services.transfer.import_run import ImportRun, LoadedRows
from katax_cli.services.transfer.rejects import Rejects
from katax_cli.services.transfer.tables import (
    TransferTable,
    check_columns,
    existing_table,
    prepare,
    sql_of,
    transfer_table,
)

_COPIED = 2**23
"""Bytes of a batch that PostgreSQL takes as they are; others are read, in smaller ones."""
_READ = 2**20
_READ_AT_ONCE = 2**22
"""Of CSV that MySQL takes: it is read row by row only where it has to be."""
_AT_ONCE = 5_000
"""Rows that are held as such."""


class Import(ImportRun[SqlDatabase]):
    """One import into a table; `note` hears the statement that makes it."""

    def run(self) -> LoadedRows:
        """Imports the file, from where an earlier run of it stopped.

        Raises Refused for a table into which another file went in part, LockHeld when the same import is under way,
        KataxError for more bad rows than allowed: what is committed by then stays.
        """
        settings = self.database.settings
        settings.refuse_read_only()
        with self.database.session(timeout=FOREVER) as session:
            checkpoints = Checkpoints(session, digest=self.source.digest, table=self.plan.table)
            with checkpoints.leased():
                return self._run(session, checkpoints)

    def _run(self, session: Session, checkpoints: Checkpoints) -> LoadedRows:
        found = checkpoints.find()
        if (done := self.done_before(found)) is not None:
            return done
        options = self._options()
        if not self.goes_on(found, checkpoints, options):
            self._refuse_before_claim(session, found)
            self.now = checkpoints.claim(options, forget=self.plan.again or self.plan.replace)
            # The claim waited for the batch of one that had begun meanwhile.
            self.refuse_another(checkpoints)
        began = self.now
        table = self._table(session)
        self._check(session, table)
        self._start(session, table, checkpoints)
        self._load(session, table, checkpoints)
        return self.outcome(began)

    def _refuse_before_claim(self, session: Session, found: ImportCheckpoint | None) -> None:
        """Refusals that must not leave a claim behind: a table that is there, or not there."""
        with session.transaction() as transaction:
            if not self.plan.create:
                table = existing_table(transaction, self.plan.table, connection=self.database.name)
                check_columns(table, self.source.columns, what=f"{self.source.name!r}")
            elif found is None and transfer_table(transaction, self.plan.table) is not None:
                raise ConfigError(f"{self.plan.table!r} exists; leave out --create")

    def _options(self) -> str:
        """The options by which rows would be read or written otherwise."""
        form, plan = self.source.csv, self.plan
        words = [
            f"{self.source.kind.format} {self.source.encoding} delimiter {form.delimiter!r} null {form.null!r}",
            "" if form.header else "no header",
            f"columns {','.join(self.source.names)}" if self.source.names else "",
            f"key {','.join(plan.key)}" if plan.key else "",
            "replace" if plan.replace else "",
        ]
        return ", ".join(filter(None, words))[:1000]

    def _table(self, session: Session) -> TransferTable:
        """The table, made now where it is to be."""
        with session.transaction() as transaction:
            table = transfer_table(transaction, self.plan.table)
            if table is None and self.plan.create:
                sql = self._creation(transaction)
                self.note(sql)
                transaction.run(sql)
                table = transfer_table(transaction, self.plan.table)
        if table is None:
            raise KataxError(
                f"no table named {self.plan.table!r} on {self.database.name!r}; --create makes it"
            )
        return table

    def _creation(self, transaction: Transaction) -> str:
        columns = self.source.columns
        makers = [json_text] * len(columns)
        rows = (
            row
            for batch in self.source.batches(size=_READ, position=0, line=1, as_texts=makers)
            for _, row in batch.rows(lambda _line, _reason, _row: None)
        )
        sql, dialect = sql_of(transaction.engine), transaction.dialect
        lines = []
        for name, column in zip(columns, inferred(len(columns), rows), strict=True):
            made = sql.type_of(sql.lossless(column.kind()), key=name in self.plan.key)
            lines.append(f"{quote_identifier(name, dialect)} {made.type}")
        if self.plan.key:
            lines.append(
                f"PRIMARY KEY ({', '.join(quote_identifier(name, dialect) for name in self.plan.key)})"
            )
        name = ".".join(quote_identifier(part, dialect) for part in self.plan.table.split("."))
        return f"CREATE TABLE {name} ({', '.join(lines)})"

    def _check(self, session: Session, table: TransferTable) -> None:
        check_columns(table, self.source.columns, what=f"{self.source.name!r}")
        sql = sql_of(self.database.engine)
        if self.plan.key:
            mysql = self.database.dialect == "mysql"
            check_key(table.description, self.plan.key, self.source.columns, any_key=mysql)
        elif sql.transactional is not None:
            rows = session.run(sql.transactional, [table.table.schema, table.table.name]).rows
            if rows and not rows[0][0]:
                raise ConfigError(
                    f"{table.table.name!r} has no transactions, so a row could come twice; name its --key"
                )

    def _start(self, session: Session, table: TransferTable, checkpoints: Checkpoints) -> None:
        if self.now.position != CLAIMED:
            return
        with session.transaction() as transaction:
            checkpoints.advance(transaction, self.now, 0)
            if self.plan.replace:
                transaction.run(f"DELETE FROM {table.quoted}")
            started = checkpoints.save(transaction, replace(self.now, position=0))
        self.now = started

    def _load(self, session: Session, table: TransferTable, checkpoints: Checkpoints) -> None:
        columns = self.source.columns
        bulk = BulkLoad(table, columns, self.plan.key)
        rejects = Rejects(self.plan.rejects, self.now.reject_bytes, self.now.rejected)
        sizes: dict[str, int] = {"postgresql": _COPIED, "mysql": _READ_AT_ONCE}
        batches = self.source.batches(
            size=sizes.get(self.database.dialect, _READ) if self.source.kind.format == "csv" else _READ,
            position=self.now.position,
            line=self.now.line,
            as_texts=as_texts(sql_of(self.database.engine), table.types(columns), self.database.dialect),
        )
        try:
            for batch in ahead(batches):
                with session.transaction() as transaction:
                    after = self._batch(transaction, batch, bulk, rejects, checkpoints)
                self.now = after
                self.progress(after.imported + after.rejected)
        finally:
            with suppress(OSError):
                rejects.close()
        with session.transaction() as transaction:
            bulk.advance_counters(transaction)
            finished = checkpoints.save(transaction, replace(self.now, state="done"))
        self.now = finished

    def _batch(
        self, on: Transaction, batch: Batch, bulk: BulkLoad, rejects: Rejects, checkpoints: Checkpoints
    ) -> ImportCheckpoint:
        prepare(on)
        checkpoints.advance(on, self.now, batch.end)
        written = self._written(on, batch, bulk, rejects)
        return checkpoints.save(on, self.after(batch.end, batch.next_line, written, rejects))

    def _written(self, on: Transaction, batch: Batch, bulk: BulkLoad, rejects: Rejects) -> int:
        form = self.source.csv
        if batch.data is not None and on.copies_in and not _is_read_otherwise(batch.data, form.delimiter):
            options = f"FORMAT csv, NULL {quoted_text(form.null)}, DELIMITER {quoted_text(form.delimiter)}"
            with _unless_refused():
                return bulk.copy(on, [batch.data], options)
        elif (plain := self._plain(on, batch, bulk)) is not None:
            rows, cells = plain
            with _unless_refused():
                bulk.insert_cells(on, cells)
                return rows
        return self._rows(on, batch, bulk, rejects)

    def _plain(self, on: Transaction, batch: Batch, bulk: BulkLoad) -> tuple[int, Iterator[list[str]]] | None:
        """The rows as MySQL takes them without a look at each; None where it needs one."""
        if batch.data is None or on.dialect != "mysql" or bulk.key:
            return None
        sql, types = sql_of(on.engine), self._types(bulk)
        if any(sql.kind_of(type).kind in ("bits", "binary") for type in types):
            return None
        return plain_cells(batch.data, [sql.bind(type) for type in types], self.source.csv)

    def _types(self, bulk: BulkLoad) -> list[str]:
        declared = {column.name: column.type for column in bulk.destination.description.columns}
        return [declared[name] for name in bulk.columns]

    def _rows(self, on: Transaction, batch: Batch, bulk: BulkLoad, rejects: Rejects) -> int:
        refuse = self.refusing(rejects)
        made = [sql_of(on.engine).bind(type) for type in self._types(bulk)]
        binds = [(at, bind) for at, bind in enumerate(made) if bind is not None]
        keys = [list(bulk.columns).index(name) for name in bulk.key]

        def bound() -> Iterator[Numbered]:
            for line, cells in batch.rows(refuse):
                if keys and any(cells[at] is None for at in keys):
                    refuse(line, f"has no {', '.join(bulk.key)}, its key", _shown(cells))
                    continue
                try:
                    for at, bind in binds:
                        if cells[at] is not None:
                            cells[at] = bind(cells[at])
                except ValueError as error:
                    refuse(line, str(error), _shown(cells))
                    continue
                yield line, cells

        written = 0
        rows = bound() if binds or keys else batch.rows(refuse)
        while part := list(islice(rows, _AT_ONCE)):
            by_line: Rows = part
            texts = dict(by_line) if self.plan.max_errors else {}
            written += bulk.write(
                on,
                by_line,
                lambda line, why, texts=texts: refuse(line, why, _shown(texts.get(line, ()))),  # type: ignore[misc]
            )
        return written

    def what_is_in(self, refused: int) -> str:
        if self.now.position == 0:
            return "nothing was imported"
        return (
            f"the rows up to line {self.now.line - 1} are in: repeat with "
            f"--max-errors {refused} or more to go on behind them"
        )


@contextmanager
def _unless_refused() -> Iterator[None]:
    """Goes on behind what the server refuses: reading it row by row finds the line and the reason."""
    try:
        yield
    except RolledBack:
        raise
    except (QueryError, ValueError):
        pass


def _is_read_otherwise(data: bytes, delimiter: str) -> bool:
    """True where a line may be the one at which PostgreSQL up to 17 ends a COPY, dropping what follows, or where it
    would drop quotes."""
    # A single character is found forty times as fast as three, and the server waits meanwhile.
    may_end = b"\\" in data and (b"\n\\." in data or data.startswith(b"\\."))
    return may_end or has_stray_quotes(data, delimiter)


def _shown(cells: Sequence[object]) -> str:
    return ",".join("" if cell is None else str(cell) for cell in cells)
