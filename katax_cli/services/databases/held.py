"""One connection for a whole run: the lock, the ledger and every statement share it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

from katax_cli.core.interrupts import if_interrupted
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.resilience.failure import FailureKind
from katax_cli.core.sql import AnySql
from katax_cli.core.text.duration import Duration, in_seconds
from katax_cli.core.waiting import BlockLimit
from katax_cli.engines.base import CopiesIn, Params, Result
from katax_cli.errors import ConfigError, KataxError
from katax_cli.services.calls.guard import Safety
from katax_cli.services.calls.watchdog import watchdog
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.databases.statements import Queries
from katax_cli.services.databases.transaction import refuse_rolled_back

T = TypeVar("T")

_CANCEL_SECONDS = 2.0
"""What a cancelled statement gets to come back, before its connection is broken from this side."""


class HeldConnection(Queries):
    """A context manager. Without a `timeout`, and without a deadline of the caller, a statement takes what it takes.

    Errors are those of `katax_cli.errors`: a statement outside a transaction that was sent and not answered
    is OutcomeUnknown, inside one it is rolled back and the server Unavailable.
    """

    def __init__(self, database: SqlDatabase) -> None:
        self.database = database
        self.engine = database.engine
        self.name = database.name
        self.deadline = database.callers_deadline()
        self._is_in_block = False
        self._ended_by: BaseException | None = None
        """With which the server rolled the transaction of a block back by itself."""

    def __enter__(self) -> Self:
        # The guarded call gives a failed connect its meaning and leaves the connection in the pool.
        self.database.connect()
        self.connection = self.database.get_client()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.database.release(self.connection)

    @property
    def in_transaction(self) -> bool:
        return self.engine.in_transaction(self.connection)

    def run(
        self, sql: AnySql, params: Params = None, *, timeout: Duration | None = None, idempotent: bool = False
    ) -> Result:
        with self.guarded(timeout) as seconds:
            return self.engine.execute(self.connection, sql, params, seconds)

    def execute_many(self, sql: AnySql, rows: Sequence[Params], *, timeout: Duration | None = None) -> int:
        with self.guarded(timeout) as seconds:
            return self.engine.execute_many(self.connection, sql, rows, seconds)

    def copy_text(self, sql: str, text: str) -> int:
        """Runs `COPY … FROM stdin` with the lines that a dump has behind it."""
        if not isinstance(self.engine, CopiesIn):
            raise ConfigError(f"{self.engine.name} has no COPY; use INSERT")
        with self.guarded():
            return self.engine.copy_text(self.connection, sql, text)

    def refused_row(self, error: BaseException) -> int | None:
        """The row of a COPY that was refused, counted from 1."""
        return self.engine.refused_row(error.__cause__) if isinstance(self.engine, CopiesIn) else None

    @property
    def is_broken(self) -> bool:
        """True when the driver knows already that the connection is dead (no round trip)."""
        return self.engine.is_broken(self.connection)

    def undo(self) -> None:
        """Rolls back what is open."""
        with self.translating(Safety.PART), self._breaking():
            self.engine.undo(self.connection)

    @contextmanager
    def overtime(self) -> Iterator[None]:
        """Time to leave things in order when the caller's is used up."""
        deadline = self.deadline
        if deadline.seconds is not None:
            self.deadline = Deadline(max(_CANCEL_SECONDS, deadline.remaining()))
        try:
            yield
        finally:
            self.deadline = deadline

    def ask(self, ability: Callable[..., T], *args: Any) -> T:
        """The answer of an engine's ability on this connection; it reads, or acquires and releases locks."""
        self.deadline.check(self.name, "migration")
        with self.translating(Safety.PART if self.in_transaction else Safety.READ), self._breaking():
            return ability(self.connection, *args)

    @contextmanager
    def transaction(self, *, timeout: float | None = None) -> Iterator[None]:
        """Commits at the end, rolls back on an error. A COMMIT without an answer is OutcomeUnknown."""
        self.deadline.check(self.name, "migration")
        with self.translating(Safety.PART), self._breaking():
            self.engine.execute(self.connection, self.engine.facts.begin, None, timeout)
        self._is_in_block = True
        try:
            yield
            self.deadline.check(self.name, "migration")
            refuse_rolled_back(self.name, self._ended_by)
        except BaseException as error:
            self._ended_by = None
            self.roll_back(error)
            raise
        finally:
            self._is_in_block = False
        with self.translating(Safety.WRITE), self._breaking():
            self.engine.execute(self.connection, "COMMIT", None, None)

    def roll_back(self, error: BaseException) -> None:
        """Undoes what is open. The error that ended the transaction is the one that the caller must see."""
        if self.is_broken:
            return
        try:
            with self.overtime():
                self.undo()
        except KataxError as second:
            error.add_note(f"and rolling back failed: {second}")

    @contextmanager
    def guarded(
        self, timeout: Duration | None = None, safety: Safety | None = None
    ) -> Iterator[float | None]:
        """Cancels on the server what outlives its time, and breaks the connection when that does not help."""
        self.deadline.check(self.name, "migration")
        refuse_rolled_back(self.name, self._ended_by)
        was_open = self.in_transaction
        part = Safety.PART if was_open else Safety.WRITE
        own = None if timeout is None else in_seconds(timeout)
        seconds = self.deadline.within(own)
        try:
            with (
                self.translating(safety or part, own),
                self._breaking(),
                watchdog.limit(seconds, lambda: self.engine.cancel(self.connection, _CANCEL_SECONDS)),
            ):
                yield seconds
        except Exception as error:
            if was_open and self._is_in_block and not self.in_transaction:
                self._ended_by = error
            raise

    def _breaking(self) -> BlockLimit:
        """For what must not be cancelled, such as a COMMIT, or could not be."""
        left = self.deadline.within(None)
        seconds = None if left is None else left + _CANCEL_SECONDS
        return watchdog.limit(seconds, lambda: self.engine.interrupt(self.connection))

    @contextmanager
    def translating(self, safety: Safety, timeout: float | None = None) -> Iterator[None]:
        """Gives a driver's errors their meaning; an interrupt ends the statement on the server too."""
        deadline = self.deadline.shorter(timeout)
        with (
            if_interrupted(lambda: self.engine.cancel(self.connection, _CANCEL_SECONDS)),
            self.database.guard.translating(deadline=deadline, safety=safety, doing="migration"),
        ):
            yield

    def is_lock_wait(self, error: BaseException) -> bool:
        """True if the error says that a lock was not granted in time; its statement was not applied."""
        cause = error.__cause__
        return cause is not None and self.engine.classify(cause).kind is FailureKind.BUSY
