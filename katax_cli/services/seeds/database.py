"""The SQL database that a seed works on: one transaction that nothing in the seed can end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from katax_cli.core.sql import AnySql, Statement, statement_of
from katax_cli.core.text.duration import Duration
from katax_cli.engines.base import Params, Result
from katax_cli.errors import QueryError, RolledBack, SeedError
from katax_cli.services.databases.statements import Queries
from katax_cli.services.databases.transaction import Transaction
from katax_cli.services.seeds.upsert import Upsert
from katax_cli.services.seeds.values import UNDONE, Counts, PlainCsv, SeedFile, SeedRows

if TYPE_CHECKING:
    from random import Random

_CONTROL = frozenset({"BEGIN", "START", "COMMIT", "END", "ABORT", "XA"})


class SeedDb(Queries):
    """The argument of `seed(db)`. `counts` adds up the changes made through it."""

    def __init__(self, transaction: Transaction, file: SeedFile, *, rehearsing: bool) -> None:
        self.engine = transaction.engine
        self._transaction = transaction
        self._file = file
        self._rehearsing = rehearsing
        self._inserted = self._updated = self._affected = 0
        self._upserts = 0

    @property
    def counts(self) -> Counts:
        """Of statements of its own only the rows affected are known."""
        if not self._upserts:
            return Counts(affected=self._affected)
        return Counts(self._inserted, self._updated, self._affected)

    @cached_property
    def random(self) -> Random:
        """Gives the same numbers at every run: its start is the name of the seed."""
        from random import Random

        return Random(self._file.stem)

    def run(
        self, sql: AnySql, params: Params = None, *, timeout: Duration | None = None, idempotent: bool = False
    ) -> Result:
        statement = statement_of(sql, self.dialect)
        self.refuse_ended()
        refuse_ending(self._file, statement)
        result = self._transaction.run(statement, params, timeout=timeout)
        if statement.kind == "write":
            self._affected += max(0, result.affected)
        return result

    def execute_many(self, sql: AnySql, rows: Sequence[Params], *, timeout: Duration | None = None) -> int:
        self.refuse_ended()
        refuse_ending(self._file, statement_of(sql, self.dialect))
        affected = self._transaction.execute_many(sql, rows, timeout=timeout)
        self._affected += max(0, affected)
        return affected

    def upsert(
        self, table: str, rows: Sequence[Mapping[str, Any]], *, key: str | Sequence[str] = ()
    ) -> Counts:
        """Inserts rows, or changes those that are there by their `key` (the primary key unless given).

        Columns that a row does not name keep their value. Raises SeedError when there is no such table, column
        or unique key, and for rows that the key does not tell apart.
        """
        return self._written(self._upsert(table, key), rows)

    def _upsert(
        self, table: str, key: str | Sequence[str], place: Callable[[int], str] = "row {}".format
    ) -> Upsert:
        self.refuse_ended()
        description = self._transaction.describe(table)
        if description is None:
            raise SeedError(f"seed {self._file.name}: no table named {table!r}; apply the migrations first")
        names = (key,) if isinstance(key, str) else tuple(key)
        seed = f"seed {self._file.name}"
        return Upsert(self._transaction, description, key=names, seed=seed, place=place)

    def _written(
        self, upsert: Upsert, rows: Sequence[Mapping[str, Any]], csv: PlainCsv | None = None
    ) -> Counts:
        counts = None if csv is None else upsert.write_csv(csv)
        if counts is not None and csv is not None:
            columns: Iterable[str] = csv.columns
        else:
            counts = upsert.write(rows)
            columns = {name for row in rows for name in row}
        if not self._rehearsing:
            upsert.advance_counters(columns)
        self._count(counts)
        return counts

    def _count(self, counts: Counts) -> None:
        self._upserts += 1
        self._inserted += counts.inserted or 0
        self._updated += counts.updated or 0
        self._affected += counts.affected or 0

    def refuse_ended(self) -> None:
        """Raises SeedError once a statement has ended the transaction: a procedure of MySQL may commit."""
        with self._transaction.using("seed") as connection:
            if not self.engine.in_transaction(connection):
                raise SeedError(
                    f"seed {self._file.name}: one of its statements committed by itself (a procedure that it calls?), "
                    "so what ran stays applied; move it to a migration"
                )

    def run_script(self, statements: Sequence[Statement]) -> Counts:
        """Runs them in order; returns `counts`. Raises SeedError with the line of the first that fails."""
        for statement in statements:
            try:
                self.run(statement)
            except RolledBack:
                raise
            except QueryError as error:
                raise SeedError(
                    f"seed {self._file.name} failed at line {statement.line}: {error}; {UNDONE}"
                ) from error
        return self.counts

    def write(self, rows: SeedRows) -> Counts:
        """Writes the rows of a data file; returns `counts`."""
        upsert = self._upsert(rows.table, rows.key, rows.place)
        upsert.check_columns(rows.columns)
        self._written(upsert, rows.rows, rows.csv)
        return self.counts


def refuse_ending(file: SeedFile, statement: Statement, *, line: int | None = None) -> None:
    """Raises SeedError for a statement that begins or ends a transaction, or that MySQL commits by itself."""
    verb = statement.effect.verb
    where = f"seed {file.name}" if line is None else f"seed {file.name}, line {line}"
    words = statement.text.upper().split()
    if verb in _CONTROL or (verb == "ROLLBACK" and "TO" not in words):
        raise SeedError(f"{where}: {verb} in a seed, which is one transaction already; leave it out")
    if statement.commits_by_itself:
        raise SeedError(
            f"{where}: mysql commits by itself at {verb}, so the seed could not be undone; "
            "move it to a migration"
        )
