"""Several statements on one connection, outside a transaction of katax."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from katax_cli.core.engine_names import Dialect
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.sql import AnySql, Statement, statement_of
from katax_cli.core.text.duration import Duration
from katax_cli.engines.base import Params, Result, RowStream, Text
from katax_cli.errors import KataxError, Refused
from katax_cli.services.calls.guard import Safety, Sent
from katax_cli.services.calls.observer import Watch, WatchedStream
from katax_cli.services.databases.lease import ending_overdue
from katax_cli.services.databases.origin import TransactionOrigin
from katax_cli.services.databases.statements import Queries
from katax_cli.services.databases.transaction import Transaction


class Session(Queries):
    """One connection for statements that build on each other: what they SET, BEGIN or lock lasts until the end.

    Nothing is repeated, and a transaction that is still open at the end is rolled back.
    """

    def __init__(self, origin: TransactionOrigin, connection: Any, deadline: Deadline) -> None:
        self._origin = origin
        self.engine = self._engine = origin.engine
        self._connection = connection
        self._deadline = deadline
        self._has_ended = False

    @property
    def ended(self) -> bool:
        """True after its block; the connection is somebody else's then."""
        return self._has_ended

    def end(self) -> None:
        """From now on every call raises KataxError."""
        self._has_ended = True

    def interrupt(self) -> None:
        """Breaks its connection, so that what another thread or task runs on it fails."""
        self._engine.interrupt(self._connection)

    @property
    def dialect(self) -> Dialect:
        return self._engine.dialect

    @property
    def connection(self) -> Any:
        """The driver's connection. Raises Refused when it is read-only, as nothing would keep the driver so."""
        if self._origin.read_only:
            raise Refused(
                f"{self._engine.settings.name!r} is read-only, so its driver's connection is not handed out"
            )
        return self._connection

    @property
    def held(self) -> Any:
        """The same for code of its engine, on a read-only connection too."""
        return self._connection

    @property
    def in_transaction(self) -> bool:
        """True while a statement's own transaction is open."""
        return self._engine.in_transaction(self._connection)

    @contextmanager
    def within(self, seconds: Duration | None) -> Iterator[Session]:
        """The session for calls that take so long together; what outlives it is cancelled on the server."""
        deadline = Deadline(seconds)
        with ending_overdue(self._engine, self._connection, deadline):
            yield Session(self._origin, self._connection, deadline)

    def run(
        self, sql: AnySql, params: Params = None, *, timeout: Duration | None = None, idempotent: bool = False
    ) -> Result:
        statement = statement_of(sql, self.dialect)
        with self._guarded(statement, params, timeout) as (_, seconds):
            return self._engine.execute(self._connection, statement, params, seconds)

    def execute_many(self, sql: AnySql, rows: Sequence[Params], *, timeout: Duration | None = None) -> int:
        statement = statement_of(sql, self.dialect)
        with self._guarded(statement, rows, timeout) as (_, seconds):
            return self._engine.execute_many(self._connection, statement, rows, seconds)

    @contextmanager
    def stream(
        self, sql: AnySql, params: Params = None, *, timeout: Duration | None = None, text: Text = False
    ) -> Iterator[RowStream]:
        """Rows in batches as they arrive; one stream at a time."""
        statement = statement_of(sql, self.dialect)
        with (
            self._guarded(statement, params, timeout) as (watch, seconds),
            self._engine.stream(self._connection, statement, params, seconds, text=text) as rows,
            WatchedStream(rows, watch) as watched,
        ):
            yield watched

    @contextmanager
    def translated(self, doing: str, safety: Safety) -> Iterator[float | None]:
        """Gives a driver's errors their meaning; the seconds that are left."""
        with self._origin.guard.translating(deadline=self._deadline, safety=safety, doing=doing):
            yield self._deadline.within(None)

    def undo(self) -> None:
        """Rolls back the open transaction of a statement. Raises QueryError for changes that the server kept."""
        if not self._engine.is_broken(self._connection):
            with self.translated("rollback", Safety.PART):
                self._engine.undo(self._connection)

    def transaction(self) -> Transaction:
        """A transaction on this connection, as a `with` block; inside one that is open, a savepoint."""
        self._refuse_after_end()
        level = 1 if self.in_transaction else 0
        return Transaction(self._origin, self._connection, self._deadline, Sent(), level, outer=self)

    def _refuse_after_end(self) -> None:
        if self.ended:
            name = self._engine.settings.name
            raise KataxError(f"the session on {name!r} has ended; open another, or ask the database")

    @contextmanager
    def _guarded(
        self, statement: Statement, params: object, timeout: Duration | None
    ) -> Iterator[tuple[Watch, float | None]]:
        """Guards and observes a statement; gives its watch and the seconds that it may take."""
        self._refuse_after_end()
        lasts = not self.in_transaction or statement.ends_transaction or statement.commits_by_itself
        safety = self._origin.safety(statement) if lasts else Safety.PART
        deadline = self._deadline.shorter(timeout)
        deadline.check(self._origin.engine.settings.name, "query")
        with (
            self._origin.observer.watch(statement.text, params) as watch,
            self._origin.guard.translating(deadline=deadline, safety=safety),
            self._origin.guarded(self._connection, statement),
        ):
            yield watch, deadline.within(None)
