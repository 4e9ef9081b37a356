"""How far a copy came: one row of the target for each table, changed in the transaction of each batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from katax_cli.core.sql import quote_identifier
from katax_cli.core.text.duration import FOREVER
from katax_cli.errors import LockHeld, QueryError, UniqueViolation
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.databases.statements import Queries
from katax_cli.services.databases.transaction import Transaction
from katax_cli.services.transfer.checkpoint import now_text

COPIES_TABLE = "katax_copies"
_CREATE = """CREATE TABLE IF NOT EXISTS {table} (id varchar(64) NOT NULL PRIMARY KEY, target varchar(255) NOT NULL,
last_key {text}, copied bigint NOT NULL, state varchar(10) NOT NULL, updated_at varchar(40) NOT NULL)"""


@dataclass(frozen=True, slots=True)
class CopyPosition:
    """Rows that are in, and the key of the last one as a JSON list, None before the first; running or done."""

    copied: int = 0
    last_key: str | None = None
    state: str = "running"


class CopyLedger:
    """The row of one table; `source` tells the database that it comes from."""

    def __init__(self, target: SqlDatabase, *, source: str, table: str) -> None:
        self._target = target
        self._name = table
        self._table = quote_identifier(COPIES_TABLE, target.dialect)
        self._id = sha256(f"{source}\n{table}".encode()).hexdigest()

    def find(self) -> CopyPosition | None:
        """How far the table came; None when it was never begun."""
        if self._target.describe(COPIES_TABLE, timeout=FOREVER) is None:
            return None
        sql = f"SELECT copied, last_key, state FROM {self._table} WHERE id = ?"
        rows = self._target.run(sql, [self._id], timeout=FOREVER).rows
        return CopyPosition(*rows[0]) if rows else None

    def begin(self, has_rows: Callable[[Transaction], bool]) -> CopyPosition:
        """Makes the row, or sets it back to the beginning. Raises LockHeld when another run was quicker: behind its
        transaction the table has rows."""
        if self._target.describe(COPIES_TABLE, timeout=FOREVER) is None:
            text = "longtext" if self._target.dialect == "mysql" else "text"
            try:
                self._target.execute(_CREATE.format(table=self._table, text=text), timeout=FOREVER)
            except QueryError:
                # In PostgreSQL two of them at once can collide in spite of IF NOT EXISTS.
                if self._target.describe(COPIES_TABLE, timeout=FOREVER) is None:
                    raise
        with self._target.transaction(timeout=FOREVER) as transaction:
            transaction.execute(f"DELETE FROM {self._table} WHERE id = ?", [self._id])
            try:
                transaction.execute(
                    f"INSERT INTO {self._table} (id, target, last_key, copied, state, updated_at) "
                    "VALUES (?, ?, NULL, 0, 'running', ?)",
                    [self._id, self._name[:255], now_text()],
                )
            except UniqueViolation as error:
                raise self._held() from error
            if has_rows(transaction):
                raise self._held()
        return CopyPosition()

    def advance(self, on: Queries, before: CopyPosition, after: CopyPosition) -> None:
        """First in the transaction of a batch. Raises LockHeld when another run was quicker."""
        changed = on.execute(
            f"UPDATE {self._table} SET copied = ?, last_key = ?, state = ?, updated_at = ? "
            "WHERE id = ? AND copied = ? AND state = 'running'",
            [after.copied, after.last_key, after.state, now_text(), self._id, before.copied],
        )
        if changed != 1:
            raise self._held()

    def _held(self) -> LockHeld:
        return LockHeld(f"copy into {self._name}", holder="another run of the same copy")
