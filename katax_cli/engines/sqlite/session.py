"""A connection that knows when its statement has to end, and one that cannot write."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from katax_cli.core.clock import SYSTEM
from katax_cli.core.sql import Residue, Statement

SLICE = 0.1
PATIENCE = 60.0
_PAUSE = 0.005
# Instructions of SQLite's machine between two looks at the clock: a millisecond at most, not measurable.
_TICK = 10_000
_FOREVER = float("inf")


def code_of(error: BaseException) -> int | None:
    """SQLite's code; None for what Python's sqlite3 finds itself, such as text that is not UTF-8."""
    return getattr(error, "sqlite_errorcode", None)


class SqliteSession(sqlite3.Connection):
    """One connection; `prepare` comes first.

    SQLite has no timeout, and neither a signal nor `interrupt` reaches it while it waits for a lock. So it
    waits for locks in slices of 0.1 s, and looks at the clock while it works.
    """

    ends = _FOREVER
    stopped = False
    closed = False
    residue = Residue.NONE
    _path: str | None = None
    _file: tuple[int, int] | None = None

    def __init__(self, address: str, /, **options: Any) -> None:
        super().__init__(address, **options)
        self._opened_with = (address, options)

    def reopen(self) -> None:
        """Starts over with a connection to the same file; `prepare` comes first again."""
        attributes = vars(self).copy()
        address, options = self._opened_with
        super().close()
        # Python's clears the attributes of an object that was initialised before.
        super().__init__(address, **options)
        vars(self).update(attributes)
        self.residue = Residue.NONE

    def note_file(self, path: Path) -> None:
        """Remembers which file is open; a database in memory has none."""
        self._path = str(path)
        self._file = _identity(self._path)

    def lost_file(self) -> bool:
        """True when another file, or none, has the name of the one that is open."""
        return self._path is not None and _identity(self._path) != self._file

    def note(self, statement: Statement) -> None:
        """Remembers what the statement, which is about to be run, may leave in the connection."""
        if left := statement.residue:
            self.residue = max(self.residue, left)

    def prepare(self) -> None:
        self.set_progress_handler(self._over, _TICK)
        self.execute("PRAGMA foreign_keys=ON")

    def run(self, sql: str, params: Sequence[Any] = (), timeout: float | None = None) -> sqlite3.Cursor:
        """Starts a statement; waits for locks until `timeout`, without one for a minute.

        The time goes on for the rows that are fetched from it.
        """
        started = self._starts(timeout)
        while True:
            try:
                return self.execute(sql, params)
            except sqlite3.OperationalError as error:
                if not self._waits_for(error, started):
                    self.fail(error)
            SYSTEM.sleep(_PAUSE)

    def run_many(self, sql: str, rows: Sequence[Sequence[Any]], timeout: float | None = None) -> int:
        """Runs one statement for each row, all or none of them; returns rows changed."""
        if self.in_transaction:
            return self._each(sql, rows, timeout)
        started = self._starts(timeout)
        self.run("BEGIN IMMEDIATE", timeout=timeout)
        try:
            changed = self._each(sql, rows, self._left(timeout, started))
            self.run("COMMIT", timeout=self._left(timeout, started))
        finally:
            self.undo()
        return changed

    def _each(self, sql: str, rows: Sequence[Sequence[Any]], timeout: float | None) -> int:
        self._starts(timeout)
        try:
            return self.executemany(sql, rows).rowcount
        except sqlite3.OperationalError as error:
            self.fail(error)

    def _left(self, timeout: float | None, started: float) -> float | None:
        return None if timeout is None else started + timeout - SYSTEM.monotonic()

    def fetch(self, cursor: sqlite3.Cursor, count: int) -> list[tuple[Any, ...]]:
        """The next rows, within the time of their statement."""
        try:
            return cursor.fetchmany(count)
        except sqlite3.OperationalError as error:
            self.fail(error)

    def undo(self) -> None:
        """Rolls back what is open."""
        self._starts(None)
        if self.in_transaction:
            self.execute("ROLLBACK")

    def interrupt(self) -> None:
        """Ends the statement under way, from another thread; nothing when there is none."""
        self.stopped = True
        super().interrupt()

    def close(self) -> None:
        self.closed = True
        super().close()

    def fail(self, error: sqlite3.OperationalError) -> NoReturn:
        """Raises the error, or what it hides: sqlite3 drops an exception that a signal's handler raised."""
        signalled = code_of(error) == sqlite3.SQLITE_INTERRUPT and not self._over()
        if signalled and threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt from error
        raise error

    def _starts(self, timeout: float | None) -> float:
        now = SYSTEM.monotonic()
        self.stopped = False
        self.ends = _FOREVER if timeout is None else now + timeout
        return now

    def _over(self) -> bool:
        return self.stopped or SYSTEM.monotonic() >= self.ends

    def _waits_for(self, error: sqlite3.OperationalError, started: float) -> bool:
        # Extended codes of BUSY (a snapshot that is too old) do not pass by waiting.
        if code_of(error) != sqlite3.SQLITE_BUSY:
            return False
        return not self._over() and SYSTEM.monotonic() - started < PATIENCE


_DESCRIBING_PRAGMAS = frozenset(
    {"table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo"}
    | {"foreign_key_list", "foreign_key_check", "integrity_check", "quick_check"}
)
_ACTING_PRAGMAS = frozenset({"optimize", "wal_checkpoint", "incremental_vacuum"})


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def guard(session: SqliteSession) -> None:
    """Makes the session refuse writes, and pragmas and files through which it could write after all.

    `query_only` lets ATTACH create files and lets pragmas switch it off again; hence the authorizer.
    """
    session.execute("PRAGMA query_only=ON")
    session.set_authorizer(_authorize)


def unguard(session: SqliteSession) -> None:
    session.set_authorizer(None)
    session.execute("PRAGMA query_only=OFF")


def is_guarded(session: SqliteSession) -> bool:
    return bool(session.execute("PRAGMA query_only").fetchone()[0])


def _authorize(action: int, name: str | None, argument: str | None, *_where: str | None) -> int:
    refused = action in (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH) or (
        action == sqlite3.SQLITE_PRAGMA and not _reads(name or "", argument)
    )
    return sqlite3.SQLITE_DENY if refused else sqlite3.SQLITE_OK


def _reads(pragma: str, argument: str | None) -> bool:
    name = pragma.lower()
    return name in _DESCRIBING_PRAGMAS or (argument is None and name not in _ACTING_PRAGMAS)
