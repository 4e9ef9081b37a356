"""How far an import came: one row in the target, changed in the transaction of each batch.

The row is found by the file's digest and the table. `position` is where the next batch begins, -1 before the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256

from katax_cli.core.clock import SYSTEM
from katax_cli.core.sql import quote_identifier
from katax_cli.engines.registry import part
from katax_cli.engines.transfers import TransferSession
from katax_cli.errors import KataxError, LockHeld, QueryError
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.session import Session
from katax_cli.services.databases.statements import Queries

IMPORTS_TABLE = "katax_imports"
CLAIMED = -1
_PATIENCE, _PAUSE = 5.0, 0.1
"""Seconds in which a server may notice that the client of another run was killed, and between two looks."""
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

    def __init__(self, session: Session, *, digest: str, table: str) -> None:
        self._session = session
        self._table = quote_identifier(IMPORTS_TABLE, session.dialect)
        self._target = table[:255]
        self._seen = False
        self._id = sha256(f"{digest}\n{table}".encode()).hexdigest()

    @contextmanager
    def leased(self) -> Iterator[None]:
        """Keeps others from this import as long as the session lives. Raises LockHeld when one has it.

        Behind a pooler, whose sessions are not ours, there is none: of two runs the slower one ends with the first
        batch that is not its turn.
        """
        leases: TransferSession = part(self._session.engine, "transfer")
        connection = self._session.connection
        gives_up_at = SYSTEM.monotonic() + _PATIENCE
        with self._session.translated("taking the lock of an import", Safety.PART):
            while not leases.claim(connection, self._id):
                if SYSTEM.monotonic() >= gives_up_at:
                    raise self._held()
                SYSTEM.sleep(_PAUSE)
        try:
            yield
        finally:
            # Without its connection the lock is gone as well.
            with suppress(KataxError), self._session.translated("giving back the lock", Safety.PART):
                if not self._session.engine.is_broken(connection):
                    leases.release(connection, self._id)

    def find(self) -> ImportCheckpoint | None:
        """How far this import came; None when it was never begun."""
        if not self._is_there():
            return None
        sql = f"SELECT {', '.join(_FIELDS)} FROM {self._table} WHERE id = ?"
        rows = self._session.run(sql, [self._id]).rows
        return ImportCheckpoint(*rows[0]) if rows else None

    def unfinished(self) -> ImportCheckpoint | None:
        """How far another file came that went into the table in part; None when there is none."""
        if not self._is_there():
            return None
        sql = f"SELECT {', '.join(_FIELDS)} FROM {self._table} WHERE {_OTHERS} AND position > 0"
        rows = self._session.run(sql, [self._target, self._id]).rows
        return ImportCheckpoint(*rows[0]) if rows else None

    def claim(self, options: str, *, forget: bool) -> ImportCheckpoint:
        """Makes the row, or sets it back to the beginning; those of other files that have no rows in are gone, and
        with `forget` those that stopped.

        Raises LockHeld when another one makes it meanwhile.
        """
        self._make_table()
        begun = "" if forget else " AND position <= 0"
        self._session.execute(f"DELETE FROM {self._table} WHERE {_OTHERS}{begun}", [self._target, self._id])
        fresh = ImportCheckpoint(options=options, updated_at=now_text())
        values = [getattr(fresh, name) for name in _FIELDS]
        sets = ", ".join(f"{name} = ?" for name in _FIELDS)
        if self.find() is not None:
            self._session.execute(f"UPDATE {self._table} SET {sets} WHERE id = ?", [*values, self._id])
            return fresh
        names, marks = ", ".join(_FIELDS), ", ".join("?" * len(_FIELDS))
        sql = f"INSERT INTO {self._table} (id, target, {names}) VALUES (?, ?, {marks})"
        try:
            self._session.execute(sql, [self._id, self._target, *values])
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
        if self._is_there():
            return
        try:
            self._session.execute(_CREATE.format(table=self._table))
        except QueryError:
            # In PostgreSQL two of them at once can collide in spite of IF NOT EXISTS.
            if not self._is_there():
                raise

    def _is_there(self) -> bool:
        if not self._seen:
            with self._session.transaction() as transaction:
                self._seen = transaction.describe(IMPORTS_TABLE) is not None
        return self._seen

    def _held(self) -> LockHeld:
        return LockHeld(f"import into {self._target}", holder="another run of the same import")


def now_text() -> str:
    """Now, as RFC 3339 in UTC."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(SYSTEM.now(), UTC).isoformat(timespec="seconds")
