"""A pooled connection for the length of a `with` block, and what happens when its deadline passes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple

from katax_cli.core.forks import follow
from katax_cli.core.pooling.pool import Leased, Pool
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.waiting import BlockLimit
from katax_cli.engines.base import SqlEngine
from katax_cli.errors import DeadlineExceeded
from katax_cli.services.calls.left_behind import start
from katax_cli.services.calls.watchdog import watchdog

SERVER_FIRST = 0.1
"""Seconds after a deadline that the server's own limit gets to end the statement."""
GRACE = 0.5
"""Seconds that a cancelled statement then gets to come back, before its connection is broken from this side."""
CANCEL_SECONDS = 2.0


class Patience(NamedTuple):
    """Seconds after a deadline: see SERVER_FIRST and GRACE."""

    server_first: float = SERVER_FIRST
    grace: float = GRACE


class Leases:
    """The common state of a pool's leases: its engine, and the connections that are out."""

    patience = Patience()

    def __init__(self, engine: SqlEngine, pool: Pool[Any]) -> None:
        self.engine = engine
        self.pool = pool
        self.running: set[Any] = set()
        follow(self)

    def after_fork(self) -> None:
        """Forgets the parent's connections: what runs on them is the parent's to cancel."""
        self.running = set()

    def cancel_running(self) -> None:
        """Ends the statements under way on the server."""
        self._cancel_all(CANCEL_SECONDS)

    def close(self, timeout: float) -> tuple[Leased, ...]:
        """Closes the pool. What is still out after most of `timeout` is cancelled on the server, then cut off.

        A server goes on with a statement whose client is gone.
        """
        kept = min(CANCEL_SECONDS, 0.2 * timeout + 0.3, timeout / 2)
        return self.pool.close(timeout - kept, before_cut=lambda: self._cancel_all(kept))

    def _cancel_all(self, seconds: float) -> float:
        """Side by side, since each may open a connection; what is left of `seconds` is theirs to come back.

        A cancel that takes longer goes on in its thread.
        """
        deadline = Deadline(seconds)
        name = f"katax-cancel-{self.pool.name}"
        calls = [
            start(name, partial(self.engine.cancel, connection, max(seconds, GRACE)))
            for connection in tuple(self.running)
        ]
        for call in calls:
            call.ended(deadline.remaining())
        return deadline.remaining()


class Lease:
    """One connection on loan. A generator would cost as much as all that it does.

    Past the deadline the server is asked to cancel the statement (it may have no limit of its own: MySQL has
    none for writes, a pooler forbids it), so that a write comes back as not applied; when that does not help,
    the connection is broken. A connection that was cancelled is not used again.
    """

    __slots__ = ("_connection", "_deadline", "_last_resort", "_leases", "_limit")

    def __init__(self, leases: Leases, deadline: Deadline) -> None:
        self._leases = leases
        self._deadline = deadline
        self._limit: BlockLimit | None = None
        self._last_resort: BlockLimit | None = None

    def __enter__(self) -> Any:
        leases, deadline = self._leases, self._deadline
        connection = self._connection = leases.pool.acquire(deadline.within(None))
        try:
            leases.running.add(connection)
            seconds = deadline.within(None)
            if seconds is not None:
                self._limit = watchdog.limit(seconds + leases.patience.server_first, self._cancel)
                self._limit.__enter__()
        except BaseException:
            self._give_back(broken=True)
            raise
        return connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection not in self._leases.running:
            # Left by a child made by fork: the connection is its parent's.
            return
        broken = True
        try:
            if error is not None and not isinstance(error, Exception | GeneratorExit):
                self._leases.engine.cancel(self._connection, CANCEL_SECONDS)
            if (limit := self._limit) is not None:
                # A cancellation that it started has ended then, and hits no other statement.
                limit.__exit__(None, None, None)
                if self._last_resort is not None:
                    self._last_resort.__exit__(None, None, None)
            cancelled = limit is not None and limit.fired
            broken = cancelled or (error is not None and self._leases.engine.is_broken(self._connection))
        finally:
            self._give_back(broken=broken)

    def _give_back(self, *, broken: bool) -> None:
        self._leases.running.discard(self._connection)
        self._leases.pool.release(self._connection, broken=broken)

    def _cancel(self) -> None:
        engine, connection = self._leases.engine, self._connection
        grace = self._leases.patience.grace
        self._last_resort = watchdog.limit(grace, lambda: engine.interrupt(connection))
        self._last_resort.__enter__()
        engine.cancel(connection, grace)


@contextmanager
def ending_overdue(engine: SqlEngine, connection: Any, deadline: Deadline) -> Iterator[None]:
    """The same for a statement on a connection that is kept: past the deadline it is cancelled, then cut off."""
    with ExitStack() as last_resort:

        def cancel() -> None:
            last_resort.enter_context(watchdog.limit(GRACE, lambda: engine.interrupt(connection)))
            engine.cancel(connection, GRACE)

        left = deadline.within(None)
        with watchdog.limit(None if left is None else left + SERVER_FIRST, cancel):
            yield


class IdleLimit:
    """Ends a stream whose server sends nothing, or takes nothing, for so many seconds; None sets no limit.

    Only waiting for the server counts, not what the program does between two batches. A connection that was cancelled
    is closed, since its next statement could be met.
    """

    __slots__ = ("_connection", "_engine", "_seconds", "_what")

    def __init__(self, engine: SqlEngine, connection: Any, seconds: float | None, what: str) -> None:
        self._engine = engine
        self._connection = connection
        self._seconds = seconds
        self._what = what

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around each wait for the server. Raises DeadlineExceeded when it took too long."""
        with self._limited() as limit:
            try:
                yield
            except Exception:
                if not limit.fired:
                    raise
        if limit.fired and self._seconds is not None:
            name = self._engine.settings.name
            raise DeadlineExceeded(name, doing=self._what, seconds=self._seconds) from None

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Around COMMIT and ROLLBACK, whose own end says what became of the transaction, also when it took too long."""
        with self._limited():
            yield

    @contextmanager
    def _limited(self) -> Iterator[BlockLimit]:
        limit = None
        try:
            with (
                ExitStack() as last_resort,
                watchdog.limit(self._seconds, partial(self._end, last_resort)) as limit,
            ):
                yield limit
        finally:
            if limit is not None and limit.fired:
                self._engine.close(self._connection)

    def _end(self, last_resort: ExitStack) -> None:
        engine, connection = self._engine, self._connection
        last_resort.enter_context(watchdog.limit(GRACE, lambda: engine.interrupt(connection)))
        engine.cancel(connection, GRACE)
