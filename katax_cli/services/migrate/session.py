"""One connection for a whole run: the lock, the ledger and every statement share it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

from katax_cli.core.deadline import NEVER, Deadline
from katax_cli.core.duration import Duration, in_seconds
from katax_cli.core.failure import FailureKind
from katax_cli.engines.base import CopiesIn, Dialect, Params, Result
from katax_cli.errors import ConfigError, KataxError
from katax_cli.services.guard import Safety
from katax_cli.services.queries import Queries
from katax_cli.services.sql import SqlDatabase
from katax_cli.services.watchdog import watchdog

from .python import MigrationDb, Steps

T = TypeVar("T")

_CANCEL_SECONDS = 2.0


class Session(Queries):
    """A context manager. Without a `timeout` a statement may take as long as it takes.

    Errors are those of `katax_cli.errors`: a statement outside a transaction that was sent and not answered
    is OutcomeUnknown, inside one it is rolled back and the server Unavailable.
    """

    def __init__(self, database: SqlDatabase) -> None:
        self.database = database
        self.engine = database.engine
        self.name = database.name

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
    def dialect(self) -> Dialect:
        return self.engine.dialect

    @property
    def in_transaction(self) -> bool:
        return self.engine.in_transaction(self.connection)

    def run(
        self, sql: str, params: Params = None, *, timeout: Duration | None = None, idempotent: bool = False
    ) -> Result:
        with self._guarded(timeout) as seconds:
            return self.engine.execute(self.connection, sql, params, seconds)

    def execute_many(self, sql: str, rows: Sequence[Params], *, timeout: Duration | None = None) -> int:
        with self._guarded(timeout) as seconds:
            return self.engine.execute_many(self.connection, sql, rows, seconds)

    def copy_text(self, sql: str, text: str) -> int:
        """Runs `COPY … FROM stdin` with the lines that a dump has behind it."""
        if not isinstance(self.engine, CopiesIn):
            raise ConfigError(f"{self.engine.name} has no COPY; use INSERT")
        with self._guarded(None):
            return self.engine.copy_text(self.connection, sql, text)

    def refused_row(self, error: BaseException) -> int | None:
        """Which row of a COPY was refused, counted from 1."""
        return self.engine.refused_row(error.__cause__) if isinstance(self.engine, CopiesIn) else None

    @property
    def is_broken(self) -> bool:
        """True when the driver knows already that the connection is dead (no round trip)."""
        return self.engine.is_broken(self.connection)

    def undo(self) -> None:
        """Rolls back what is open."""
        with self.translating(Safety.PART):
            self.engine.undo(self.connection)

    def handle(self, steps: Steps) -> MigrationDb:
        """What `up(db)` and `down(db)` are given."""
        return MigrationDb(self, steps)

    def ask(self, ability: Callable[..., T], *args: Any) -> T:
        """What an ability of the engine answers on this connection; it reads, or takes and leaves locks."""
        with self.translating(Safety.PART if self.in_transaction else Safety.READ):
            return ability(self.connection, *args)

    @contextmanager
    def transaction(self, *, timeout: float | None = None) -> Iterator[None]:
        """Commits at the end, rolls back on an error. A COMMIT without an answer is OutcomeUnknown."""
        with self.translating(Safety.PART):
            self.engine.execute(self.connection, self.engine.facts.begin, None, timeout)
        try:
            yield
        except BaseException as error:
            self.roll_back(error)
            raise
        with self.translating(Safety.WRITE):
            self.engine.execute(self.connection, "COMMIT", None, None)

    def roll_back(self, error: BaseException) -> None:
        """Undoes what is open. The error that ended the transaction is the one that the caller must see."""
        if self.is_broken:
            return
        try:
            self.undo()
        except KataxError as second:
            error.add_note(f"and rolling back failed: {second}")

    @contextmanager
    def _guarded(self, timeout: Duration | None) -> Iterator[float | None]:
        seconds = None if timeout is None else in_seconds(timeout)
        safety = Safety.PART if self.in_transaction else Safety.WRITE
        with (
            self.translating(safety, seconds),
            watchdog.limit(seconds, lambda: self.engine.cancel(self.connection, _CANCEL_SECONDS)),
        ):
            yield seconds

    @contextmanager
    def translating(self, safety: Safety, timeout: float | None = None) -> Iterator[None]:
        """Gives a driver's errors their meaning; an interrupt ends the statement on the server too."""
        deadline = NEVER if timeout is None else Deadline(timeout)
        try:
            with self.database.guard.translating(deadline=deadline, safety=safety, doing="migration"):
                yield
        except Exception:
            raise
        except BaseException:
            self.engine.cancel(self.connection, _CANCEL_SECONDS)
            raise

    def is_lock_wait(self, error: BaseException) -> bool:
        """True if the error says that a lock was not granted in time; its statement was not applied."""
        cause = error.__cause__
        return cause is not None and self.engine.classify(cause).kind is FailureKind.BUSY
