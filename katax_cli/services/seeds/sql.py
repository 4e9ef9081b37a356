"""Seeds of SQL databases: each file in one transaction with its line in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from katax_cli.core.clock import Clock, utc_text
from katax_cli.core.sql import Statement, quote_identifier, split
from katax_cli.core.text.duration import FOREVER
from katax_cli.engines.registry import sql_part
from katax_cli.engines.sql import SeedSql
from katax_cli.errors import QueryError, RolledBack, SeedError
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.databases.transaction import Transaction
from katax_cli.services.seeds.database import SeedDb, refuse_ending
from katax_cli.services.seeds.rows import parse_rows
from katax_cli.services.seeds.values import (
    UNDONE,
    AppliedSeed,
    Counts,
    SeedFile,
    SeedOutcome,
    SeedWork,
    finished,
)
from katax_cli.services.tables.scripts import destructive_reasons

_NAMES = "name, checksum, applied_at, duration_ms"
_CREATE = """CREATE TABLE IF NOT EXISTS {table} (name varchar(255) NOT NULL PRIMARY KEY, checksum varchar(64) NOT NULL,
applied_at varchar(40) NOT NULL, duration_ms double precision NOT NULL)"""
# Writes nothing new to a row that is there, and holds its lock: whoever comes second waits here.
_CLAIM = "INSERT INTO {table} ({names}) VALUES (?, '', '', 0) {keep_claim}"


@dataclass(frozen=True, slots=True)
class SeedScript:
    """The statements of a `.sql` seed."""

    statements: Sequence[Statement]

    def __call__(self, on: SeedDb) -> Counts:
        return on.run_script(self.statements)


class SqlSeeds:
    """The Store of PostgreSQL, MySQL/MariaDB and SQLite."""

    def __init__(self, db: SqlDatabase, table: str, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._name = table
        self._dialect = db.engine.dialect
        self._sql: SeedSql = sql_part(db.engine, "seeds")
        self._table = quote_identifier(table, self._dialect)

    def entries(self) -> dict[str, AppliedSeed]:
        # Asked beforehand: after a failed SELECT somebody else may have made it.
        if self._db.describe(self._name, timeout=FOREVER) is None:
            return {}
        rows = self._db.run(f"SELECT {_NAMES} FROM {self._table}", timeout=FOREVER).rows
        return {row[0]: AppliedSeed(*row) for row in rows}

    def work(self, file: SeedFile) -> SeedWork:
        if file.kind == "sql":
            return SeedScript(self._statements(file))
        if file.kind == "py":
            from katax_cli.services.seeds.python import function_seed

            return function_seed(file, left=UNDONE)
        rows = parse_rows(file, partial(_decode, self._sql.exact_numbers))
        return lambda on: on.write(rows)

    def _statements(self, file: SeedFile) -> list[Statement]:
        statements = [one for one in split(file.text, self._dialect) if not one.is_ignorable]
        for statement in statements:
            if statement.client_line is not None:
                raise SeedError(
                    f"seed {file.name}, line {statement.line} is for psql, no server takes it; remove it"
                )
            if statement.copy_data is not None:
                raise SeedError(
                    f"seed {file.name}, line {statement.line} copies from itself; use a .csv seed"
                )
            refuse_ending(file, statement, line=statement.line)
        return statements

    def destructive(self, work: SeedWork) -> list[str]:
        """The reasons why a seed loses data that it does not name; unknown in advance for code."""
        return destructive_reasons(work.statements) if isinstance(work, SeedScript) else []

    def apply(self, file: SeedFile, work: SeedWork, *, again: bool) -> SeedOutcome:
        self._make_ledger()
        try:
            return self._apply(file, work, again=again)
        except SeedError as error:
            # Tables of MySQL without transactions keep what was written.
            if notes := getattr(error, "__notes__", ()):
                raise SeedError(str(error).replace(UNDONE, "; ".join(notes))) from error
            raise

    def _apply(self, file: SeedFile, work: SeedWork, *, again: bool) -> SeedOutcome:
        began = self._clock.monotonic()
        with self._db.transaction(timeout=FOREVER) as transaction:
            if self._claim(transaction, file) == file.checksum and not again:
                return finished(file, "unchanged", Counts(), began, self._clock)
            counts = self._run(transaction, file, work, rehearsing=False)
            outcome = finished(file, "applied", counts, began, self._clock)
            transaction.execute(
                f"UPDATE {self._table} SET checksum = ?, applied_at = ?, duration_ms = ? WHERE name = ?",
                [file.checksum, utc_text(self._clock), outcome.duration_ms, file.name],
            )
        return outcome

    def rehearse(self, wanted: Sequence[tuple[SeedFile, SeedWork]]) -> list[SeedOutcome]:
        """Runs them in one transaction, so that later ones see what earlier ones wrote, and rolls it back.

        Only numbers taken from sequences stay taken.
        """
        transaction = self._db.begin(timeout=FOREVER)
        try:
            return [self._try(transaction, file, work) for file, work in wanted]
        finally:
            transaction.rollback()

    def _try(self, transaction: Transaction, file: SeedFile, work: SeedWork) -> SeedOutcome:
        began = self._clock.monotonic()
        counts = self._run(transaction, file, work, rehearsing=True)
        return finished(file, "would_apply", counts, began, self._clock)

    def _run(self, transaction: Transaction, file: SeedFile, work: SeedWork, *, rehearsing: bool) -> Counts:
        on = SeedDb(transaction, file, rehearsing=rehearsing)
        try:
            counts = work(on)
            on.refuse_ended()
            return counts
        except RolledBack:
            raise
        except QueryError as error:
            raise SeedError(f"seed {file.name} failed: {error}; {UNDONE}") from error

    def _claim(self, transaction: Transaction, file: SeedFile) -> str:
        """Locks the seed's line in the ledger and returns its checksum; an empty one when it is new."""
        claim = _CLAIM.format(table=self._table, names=_NAMES, keep_claim=self._sql.keep_claim)
        transaction.execute(claim, [file.name])
        checksum = f"SELECT checksum FROM {self._table} WHERE name = ?{self._sql.locking_read}"
        rows = transaction.run(checksum, [file.name]).rows
        return str(rows[0][0])

    def _make_ledger(self) -> None:
        if self._db.describe(self._name, timeout=FOREVER) is not None:
            return
        try:
            self._db.execute(_CREATE.format(table=self._table), timeout=FOREVER)
        except QueryError:
            # In PostgreSQL two of them at once can collide in spite of IF NOT EXISTS.
            if self._db.describe(self._name, timeout=FOREVER) is None:
                raise


def _decode(exact: bool, text: str) -> Any:
    """JSON with exact decimals where the driver has them."""
    from decimal import Decimal
    from json import loads

    return loads(text, parse_float=Decimal if exact else float)
