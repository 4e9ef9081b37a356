"""SQLite as an engine: one file, or one memory database shared by the connections of one engine."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import UUID
from weakref import finalize

from katax_cli.core.engine_names import Dialect, EngineName
from katax_cli.core.resilience.failure import ConstraintKind, Failure, FailureKind, Violation
from katax_cli.core.settings import ConnectionSettings
from katax_cli.core.sql import AnySql, CompiledQuery, Residue, statement_of
from katax_cli.engines.base import Params, Result, Row, RowStream, SqlFacts, Table, TableDescription, Text
from katax_cli.engines.refusals import not_read_only
from katax_cli.engines.sqlite import catalog
from katax_cli.engines.sqlite.session import SLICE, SqliteSession, code_of, guard, is_guarded, unguard
from katax_cli.errors import ConfigError

BATCH = 1000
_MEMORY = ":memory:"

_KINDS = {
    sqlite3.SQLITE_BUSY: FailureKind.BUSY,
    # Another one wrote after this transaction's snapshot: only a new transaction can write.
    sqlite3.SQLITE_BUSY_SNAPSHOT: FailureKind.ROLLED_BACK,
    sqlite3.SQLITE_LOCKED: FailureKind.BUSY,
    sqlite3.SQLITE_READONLY: FailureKind.READ_ONLY,
    sqlite3.SQLITE_AUTH: FailureKind.READ_ONLY,
    sqlite3.SQLITE_INTERRUPT: FailureKind.TIMED_OUT,
    sqlite3.SQLITE_NOTADB: FailureKind.CONFIGURATION,
    sqlite3.SQLITE_CANTOPEN: FailureKind.CONFIGURATION,
}

_CONSTRAINTS: dict[int, ConstraintKind] = {
    sqlite3.SQLITE_CONSTRAINT_UNIQUE: "unique",
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY: "unique",
    sqlite3.SQLITE_CONSTRAINT_ROWID: "unique",
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY: "foreign_key",
    sqlite3.SQLITE_CONSTRAINT_NOTNULL: "not_null",
    sqlite3.SQLITE_CONSTRAINT_CHECK: "check",
}


def _iso(value: datetime | time) -> str:
    return value.isoformat(" ") if isinstance(value, datetime) else value.isoformat()


# What SQLite has no type for goes in as ISO 8601 or exact text; Python 3.12 deprecates its own adapters.
_ADAPTERS: dict[type, Callable[[Any], object]] = {
    datetime: _iso,
    date: date.isoformat,
    time: _iso,
    Decimal: str,
    UUID: str,
}


class SqliteEngine:
    """SQLite. A statement waits for locks and runs within its timeout; without one it waits a minute."""

    name: EngineName = "sqlite"
    dialect: Dialect = "sqlite"
    # A transaction that begins by reading cannot write any more when somebody else wrote meanwhile.
    facts = SqlFacts(
        begin="BEGIN IMMEDIATE",
        begin_read_only="BEGIN",
        now_ms="CAST((julianday('now') - 2440587.5) * 86400000 AS integer)",
        now_us="CAST((julianday('now') - 2440587.5) * 86400000000 AS integer)",
    )

    def __init__(self, settings: ConnectionSettings) -> None:
        self.settings = settings
        self._keeper: SqliteSession | None = None
        self._keeping = Lock()

    def connect(self, timeout: float | None) -> SqliteSession:
        """Opens the file, or makes it: then it keeps a write-ahead log, so that readers do not block writers.

        Raises ConfigError when its folder is missing, or the file itself on a read-only connection.
        """
        if self.settings.path in (None, "", _MEMORY):
            return self._configured(self._open_memory(), timeout)
        path = Path(str(self.settings.path)).absolute()
        is_new = not path.exists() or path.stat().st_size == 0
        self._check(path, is_new)
        mode = "ro" if self.settings.read_only else "rwc"
        session = self._configured(_open(f"{path.as_uri()}?mode={mode}"), timeout)
        session.note_file(path)
        if is_new and not self.settings.read_only:
            session.run("PRAGMA journal_mode=WAL", timeout=timeout)
        return session

    def _check(self, path: Path, is_new: bool) -> None:
        if not path.parent.is_dir():
            raise ConfigError(f"{self.settings.name!r}: folder {path.parent} does not exist; create it")
        if self.settings.read_only and not path.exists():
            raise ConfigError(
                f"{self.settings.name!r}: file {path} does not exist, and is not made read-only"
            )
        if is_new and self.settings.embedded:
            path.touch(mode=0o600)

    def _configured(self, session: SqliteSession, timeout: float | None) -> SqliteSession:
        try:
            session.prepare()
            # The first statement that reads finds out whether this is a database at all.
            session.run("SELECT count(*) FROM sqlite_master", timeout=timeout)
            if self.settings.read_only:
                guard(session)
                self._confirm(session)
        except BaseException:
            session.close()
            raise
        return session

    def _open_memory(self) -> SqliteSession:
        """A memory database lives as long as a connection to it: the keeper, which does nothing else."""
        if sqlite3.sqlite_version_info < (3, 36):
            raise ConfigError(f"':memory:' needs SQLite 3.36, here is {sqlite3.sqlite_version}; use a file")
        address = f"file:/katax-{id(self)}?vfs=memdb"
        with self._keeping:
            if self._keeper is None:
                self._keeper = _open(address)
                finalize(self, self._keeper.close)
        return _open(address)

    def ping(self, connection: SqliteSession, timeout: float | None) -> None:
        connection.run("SELECT 1", timeout=timeout).close()

    def close(self, connection: SqliteSession) -> None:
        with suppress(sqlite3.Error):
            connection.close()

    def classify(self, error: BaseException) -> Failure:
        if isinstance(error, OverflowError):
            return Failure(FailureKind.REJECTED, "an integer has more than 64 bits")
        if not isinstance(error, sqlite3.Error | sqlite3.Warning):
            return Failure(FailureKind.UNKNOWN, " ".join(str(error).split()))
        return _classified(error)

    def execute(
        self, connection: SqliteSession, sql: AnySql, params: Params = None, timeout: float | None = None
    ) -> Result:
        statement = statement_of(sql, "sqlite")
        connection.note(statement)
        changes_before = connection.total_changes
        cursor = connection.run(*_bind(statement.query, params), timeout)
        columns = _columns(cursor)
        rows = connection.fetch(cursor, -1) if columns else []
        affected = cursor.rowcount
        if affected < 0 and connection.total_changes != changes_before:
            # sqlite3 counts only where the statement's first word is INSERT, UPDATE, DELETE or REPLACE.
            affected = connection.execute("SELECT changes()").fetchone()[0]
        return Result(columns, rows, affected)

    def execute_many(
        self, connection: SqliteSession, sql: AnySql, rows: Sequence[Params], timeout: float | None = None
    ) -> int:
        """All rows or, outside a transaction of the caller's, none."""
        if not rows:
            return 0
        statement = statement_of(sql, "sqlite")
        connection.note(statement)
        bound = [_bind(statement.query, row) for row in rows]
        return connection.run_many(bound[0][0], [values for _, values in bound], timeout)

    @contextmanager
    def stream(
        self,
        connection: SqliteSession,
        sql: AnySql,
        params: Params = None,
        timeout: float | None = None,
        *,
        text: Text = False,
    ) -> Iterator[RowStream]:
        """As text a number has as many digits as it takes to read the same number back."""
        statement = statement_of(sql, "sqlite")
        connection.note(statement)
        cursor = connection.run(*_bind(statement.query, params), timeout)
        try:
            yield SqliteStream(connection, cursor, text is True)
        finally:
            if not connection.closed:
                cursor.close()

    def in_transaction(self, connection: SqliteSession) -> bool:
        return connection.in_transaction

    def undo(self, connection: SqliteSession) -> None:
        connection.undo()

    def mark(self, connection: SqliteSession, residue: Residue) -> None:
        connection.residue = max(connection.residue, residue)

    def needs_reset(self, connection: SqliteSession) -> bool:
        return bool(connection.residue) or connection.in_transaction

    def reset(self, connection: SqliteSession) -> None:
        """SQLite has no reset, but reopening the file is quick."""
        connection.undo()
        if connection.residue:
            connection.reopen()
            self._configured(connection, self.settings.connect_timeout)

    def is_broken(self, connection: SqliteSession) -> bool:
        """True also when its file was removed or replaced: what it wrote, no one else would read."""
        return connection.closed or connection.lost_file()

    def cancel(self, connection: SqliteSession, timeout: float) -> None:
        """Returns at once; a statement that waits for a lock ends within 0.1 s."""
        with suppress(sqlite3.Error):
            connection.interrupt()

    def interrupt(self, connection: SqliteSession) -> None:
        self.cancel(connection, 0.0)

    @contextmanager
    def read_only(self, connection: SqliteSession, characteristics: str = "") -> Iterator[None]:
        """Guards the session too, so that a COMMIT in the statement opens nothing."""
        if not self.settings.read_only:
            guard(connection)
        try:
            self._confirm(connection)
            connection.run("BEGIN")
            yield
        finally:
            with suppress(sqlite3.Error):
                connection.undo()
                if not self.settings.read_only:
                    unguard(connection)

    def _confirm(self, session: SqliteSession) -> None:
        if not is_guarded(session):
            raise not_read_only(self.settings.name)

    def tables(self, connection: SqliteSession, timeout: float | None = None) -> list[Table]:
        return catalog.tables(connection, timeout)

    def describe(
        self, connection: SqliteSession, name: str, timeout: float | None = None
    ) -> TableDescription | None:
        return catalog.describe(connection, name, timeout)

    def server(self, connection: SqliteSession, timeout: float | None = None) -> Mapping[str, object]:
        def ask(pragma: str) -> Any:
            return connection.run(f"PRAGMA {pragma}", timeout=timeout).fetchone()[0]

        size = ask("page_count") * ask("page_size")
        return {"version": sqlite3.sqlite_version, "journal_mode": ask("journal_mode"), "size_bytes": size}


def _classified(error: sqlite3.Error | sqlite3.Warning) -> Failure:
    message = " ".join(str(error).split())
    if message == "Cannot operate on a closed database.":
        return Failure(FailureKind.UNREACHABLE, "the connection is closed")
    # Errors that sqlite3 finds itself have no code, and so have warnings.
    code = code_of(error)
    if code is None:
        return Failure(FailureKind.REJECTED, _without_the_value(message))
    if code == sqlite3.SQLITE_AUTH:
        message = f"{message} on a read-only connection"
    kind = _KINDS.get(code, _KINDS.get(code & 0xFF, FailureKind.REJECTED))
    return Failure(
        kind, message, getattr(error, "sqlite_errorname", None), violation=_violation(code, message)
    )


def _violation(code: int, message: str) -> Violation | None:
    """SQLite names the columns of a key, or a CHECK by its name or its text, and nothing of a foreign key."""
    kind = _CONSTRAINTS.get(code)
    if kind is None:
        return None
    _, _, named = message.partition(" constraint failed: ")
    if kind == "check":
        return Violation(kind, constraint=named or None)
    table, _, column = named.partition(".")
    return Violation(kind, table=table or None, column=column if column and "," not in column else None)


def _without_the_value(message: str) -> str:
    match = re.match(r"Could not decode to UTF-8 column '(.*?)' with text ", message)
    if match is None:
        return message
    return f"column {match[1]!r} holds text that is not UTF-8; cast it to blob"


class SqliteStream:
    def __init__(self, session: SqliteSession, cursor: sqlite3.Cursor, text: bool) -> None:
        self._session = session
        self._cursor = cursor
        self._text = text
        self.columns = _columns(cursor)
        self.affected = cursor.rowcount

    def __iter__(self) -> Iterator[list[Row]]:
        while rows := self._session.fetch(self._cursor, BATCH):
            yield [tuple(map(_as_text, row)) for row in rows] if self._text else rows
        self.affected = self._cursor.rowcount


def _open(uri: str) -> SqliteSession:
    return SqliteSession(uri, uri=True, timeout=SLICE, isolation_level=None, check_same_thread=False)


def _bind(query: CompiledQuery, params: Params) -> tuple[str, tuple[Any, ...]]:
    sql, values = query.bind(params)
    return sql, tuple([_ADAPTERS[type(v)](v) if type(v) in _ADAPTERS else v for v in values or ()])


def _columns(cursor: sqlite3.Cursor) -> tuple[str, ...]:
    return tuple([column[0] for column in cursor.description or ()])


def _as_text(value: Any) -> Any:
    if isinstance(value, float):
        return str(value).replace("inf", "Inf")
    return str(value) if isinstance(value, int) else value
