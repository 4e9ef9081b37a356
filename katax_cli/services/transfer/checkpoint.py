"""How far an import came: one row in the target, changed in the transaction of each batch.

The row is found by the file's digest and the table. `position` is where the next batch begins, -1 before the first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256

from katax_cli.core.clock import SYSTEM
from katax_cli.core.sql import quote_identifier
from katax_cli.errors import LockHeld, QueryError
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.databases.statements import Queries

IMPORTS_TABLE = "katax_imports"
CLAIMED = -1
_FOREVER = float("inf")
_OTHERS = "target = ? AND id <> ? AND state = 'running'"
_FIELDS = ("position", "line", "imported", "rejected", "reject_bytes", "state", "options", "updated_at")
_CREATE = """CREATE TABLE IF NOT EXISTS {table} (id varchar(64) NOT NULL PRIMARY KEY, target varchar(255) NOT NULL,
position bigint NOT NULL, line bigint NOT NULL, imported bigint NOT NULL, rejected bigint NOT NULL,
reject_bytes bigint NOT NULL, state varchar(10) NOT NULL, options varchar(1000) NOT NULL,
updated_at varchar(40) NOT NULL)"""


@dataclass(frozen=True, slots=True)
class ImportCheckpoint:
    """The row: `position` in bytes (Parquet: rows), the number of the next line, rows so far, the length of the file of
    rejects; `state` is running or done."""

    position: int = CLAIMED
    line: int = 1
    imported: int = 0
    rejected: int = 0
    reject_bytes: int = 0
    state: str = "running"
    options: str = ""
    updated_at: str = ""


class Checkpoints:
    """The checkpoints of one import; see the module."""

    def __init__(self, database: SqlDatabase, *, digest: str, table: str) -> None:
        self._database = database
        self._table = quote_identifier(IMPORTS_TABLE, database.dialect)
        self._target = table[:255]
        self._id = sha256(f"{digest}\n{table}".encode()).hexdigest()

    def find(self) -> ImportCheckpoint | None:
        """How far this import came; None when it was never begun."""
        if self._database.describe(IMPORTS_TABLE, timeout=_FOREVER) is None:
            return None
        sql = f"SELECT {', '.join(_FIELDS)} FROM {self._table} WHERE id = ?"
        rows = self._database.run(sql, [self._id], timeout=_FOREVER).rows
        return ImportCheckpoint(*rows[0]) if rows else None

    def unfinished(self) -> ImportCheckpoint | None:
        """How far another file came that went into the table in part; None when there is none."""
        if self._database.describe(IMPORTS_TABLE, timeout=_FOREVER) is None:
            return None
        sql = f"SELECT {', '.join(_FIELDS)} FROM {self._table} WHERE {_OTHERS} AND position > 0"
        rows = self._database.run(sql, [self._target, self._id], timeout=_FOREVER).rows
        return ImportCheckpoint(*rows[0]) if rows else None

    def claim(self, options: str) -> ImportCheckpoint:
        """Makes the row, or sets it back to the beginning; those of other files that stopped are gone.

        Raises LockHeld when another one makes it meanwhile.
        """
        self._make_table()
        self._database.execute(
            f"DELETE FROM {self._table} WHERE {_OTHERS}", [self._target, self._id], timeout=_FOREVER
        )
        fresh = ImportCheckpoint(options=options, updated_at=now_text())
        values = [getattr(fresh, name) for name in _FIELDS]
        sets = ", ".join(f"{name} = ?" for name in _FIELDS)
        if self.find() is not None:
            self._database.execute(
                f"UPDATE {self._table} SET {sets} WHERE id = ?", [*values, self._id], timeout=_FOREVER
            )
            return fresh
        names, marks = ", ".join(_FIELDS), ", ".join("?" * len(_FIELDS))
        sql = f"INSERT INTO {self._table} (id, target, {names}) VALUES (?, ?, {marks})"
        try:
            self._database.execute(sql, [self._id, self._target, *values], timeout=_FOREVER)
        except QueryError as error:
            if self.find() is None:
                raise
            raise self._held() from error
        return fresh

    def advance(self, on: Queries, before: ImportCheckpoint, position: int) -> None:
        """First in the transaction of a batch: whoever comes second waits here, and finds that it is not its turn."""
        changed = on.execute(
            f"UPDATE {self._table} SET position = ? WHERE id = ? AND position = ? AND state = 'running'",
            [position, self._id, before.position],
        )
        if changed != 1:
            raise self._held()

    def save(self, on: Queries, now: ImportCheckpoint) -> ImportCheckpoint:
        """Last in the transaction of a batch; returns what was saved."""
        saved = replace(now, updated_at=now_text())
        sets = ", ".join(f"{name} = ?" for name in _FIELDS)
        on.execute(
            f"UPDATE {self._table} SET {sets} WHERE id = ?",
            [*(getattr(saved, name) for name in _FIELDS), self._id],
        )
        return saved

    def _make_table(self) -> None:
        if self._database.describe(IMPORTS_TABLE, timeout=_FOREVER) is not None:
            return
        try:
            self._database.execute(_CREATE.format(table=self._table), timeout=_FOREVER)
        except QueryError:
            # In PostgreSQL two of them at once can collide in spite of IF NOT EXISTS.
            if self._database.describe(IMPORTS_TABLE, timeout=_FOREVER) is None:
                raise

    def _held(self) -> LockHeld:
        return LockHeld(f"import into {self._target}", holder="another run of the same import")


def now_text() -> str:
    """Now, as RFC 3339 in UTC."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(SYSTEM.now(), UTC).isoformat(timespec="seconds")
