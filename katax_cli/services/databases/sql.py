"""The SQL databases: queries, streams and transactions on one named connection, every one a guarded call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload
from weakref import WeakSet

from katax_cli.core.callables import completed, plain
from katax_cli.core.pooling.pool import Pool
from katax_cli.core.resilience.deadline import NEVER, Deadline
from katax_cli.core.sql import AnySql, Residue, Statement, fingerprint, redact, statement_of
from katax_cli.core.text.duration import Duration
from katax_cli.engines.base import (
    Params,
    Result,
    SqlEngine,
)
from katax_cli.errors import ConfigError, PoolClosed, Refused
from katax_cli.services.calls.guard import Guard, Safety, Sent
from katax_cli.services.calls.watchdog import watchdog
from katax_cli.services.databases.database import MakeDeadline, Work, end_tunnel
from katax_cli.services.databases.lease import Lease, Leases
from katax_cli.services.databases.origin import Isolation, TransactionMode, TransactionOrigin
from katax_cli.services.databases.postgresql.notifications import (
    Notifications,
    check_channels,
    check_engine,
)
from katax_cli.services.databases.session import Session
from katax_cli.services.databases.statements import Queries
from katax_cli.services.databases.streams import StreamingDatabase
from katax_cli.services.databases.transaction import Transaction, TransactionBlock

if TYPE_CHECKING:
    from katax_cli.services.databases.replicas import Replicas
    from katax_cli.snapshot import PoolStats

T = TypeVar("T")

_SHOWN_SQL = 10_000
_CHECK_AT_LEAST = 0.1
"""Seconds for the answer of a connection that lay idle, also when the caller has none left."""


class SqlDatabase(StreamingDatabase, Queries):
    """PostgreSQL, MySQL/MariaDB or SQLite, through katax's own pool."""

    engine: SqlEngine

    def __init__(self, engine: SqlEngine, guard: Guard, make_deadline: MakeDeadline | None = None) -> None:
        super().__init__(engine, guard, make_deadline)
        self._origin = TransactionOrigin(engine, guard, self._lease, self.observer)
        self.pool: Pool[Any] = Pool(
            self.name,
            self._open,
            close=engine.close,
            check=self._check,
            is_broken=engine.is_broken,
            reset=self._reset,
            settings=self.settings.pool,
        )
        self.leases = Leases(engine, self.pool)
        self.replicas: Replicas[SqlDatabase] | None = None
        self._listening: WeakSet[Notifications] = WeakSet()

    def _check(self, connection: Any, seconds: float) -> None:
        """Pings an idle connection. Raises TimeoutError without an answer in the time for connecting."""
        seconds = min(max(seconds, _CHECK_AT_LEAST), self.settings.connect_timeout)
        with watchdog.limit(seconds, partial(self.engine.interrupt, connection)) as late:
            self.engine.ping(connection, seconds)
        if late.fired:
            raise TimeoutError(f"no answer in {seconds:g} s")

    def _open(self, timeout: float | None) -> Any:
        connection = self._connect(timeout)
        try:
            self._configure(connection)
        except BaseException:
            self.engine.close(connection)
            raise
        return connection

    def _configure(self, connection: Any) -> None:
        if self.settings.pool.configure is not None:
            self.settings.pool.configure(connection)
            self.engine.undo(connection)

    def _reset(self, connection: Any) -> None:
        """Makes a used connection like new, within the time for connecting; plain calls leave nothing to do."""
        reset = self.settings.pool.reset
        if reset is None and not self.engine.needs_reset(connection):
            return
        seconds = self.settings.connect_timeout
        with watchdog.limit(seconds, partial(self.engine.interrupt, connection)) as late:
            if self.engine.needs_reset(connection):
                self.engine.reset(connection)
                self._configure(connection)
            if reset is not None:
                reset(connection)
                self.engine.undo(connection)
        if late.fired:
            raise TimeoutError(f"not reset in {seconds:g} s")

    def together(self, *, timeout: Duration | None = None) -> TransactionBlock:
        return self.transaction(timeout=timeout)

    def run(
        self, sql: AnySql, params: Params = None, *, timeout: Duration | None = None, idempotent: bool = False
    ) -> Result:
        statement = statement_of(sql, self.engine.dialect)
        return self._guarded(
            lambda connection, seconds: self.engine.execute(connection, statement, params, seconds),
            statement,
            params,
            timeout=timeout,
            idempotent=idempotent,
        )

    def execute_many(self, sql: AnySql, rows: Sequence[Params], *, timeout: Duration | None = None) -> int:
        statement = statement_of(sql, self.engine.dialect)
        return self._guarded(
            lambda connection, seconds: self.engine.execute_many(connection, statement, rows, seconds),
            statement,
            rows,
            timeout=timeout,
        )

    @overload
    def transaction(
        self,
        work: Callable[[Transaction], T],
        *,
        timeout: Duration | None = None,
        isolation: Isolation | None = None,
        read_only: bool = False,
        deferrable: bool = False,
    ) -> T: ...
    @overload
    def transaction(
        self,
        work: None = None,
        *,
        timeout: Duration | None = None,
        isolation: Isolation | None = None,
        read_only: bool = False,
        deferrable: bool = False,
    ) -> TransactionBlock: ...
    def transaction(
        self,
        work: Callable[[Transaction], T] | None = None,
        *,
        timeout: Duration | None = None,
        isolation: Isolation | None = None,
        read_only: bool = False,
        deferrable: bool = False,
    ) -> T | TransactionBlock:
        """A transaction: as a `with` block, or of a callable.

        A callable is run again as a whole when the server rolled it back (serialization failure, deadlock);
        a block raises. `isolation` is a level such as "serializable", which SQLite always has; a `read_only` one
        raises Refused for writes and is rolled back at its end; a `deferrable` one, serializable and read-only on
        PostgreSQL, waits at its begin until it can no longer fail.
        """
        deadline = self._deadline(timeout)
        origin = self._of_mode(isolation, read_only, deferrable)
        if work is None:
            return TransactionBlock(origin, deadline)
        plain(work, "transaction()")

        def attempt(sent: Sent) -> T:
            with (
                self._lease(deadline) as connection,
                Transaction(origin, connection, deadline, sent) as transaction,
            ):
                return completed(work(transaction), work, "transaction()")

        return self.guard.call(attempt, deadline=deadline, safety=Safety.WHOLE, doing="transaction")

    @contextmanager
    def session(self, *, timeout: Duration | None = None) -> Iterator[Session]:
        """One connection for statements that build on each other, as a `with` block."""
        deadline = self._deadline(timeout)
        with ExitStack() as stack:

            def open_session(_sent: Sent) -> Session:
                connection = stack.enter_context(self._lease(deadline))
                self.engine.mark(connection, Residue.RESETTABLE)
                session = Session(self._origin, connection, deadline)
                stack.callback(session.end)
                return session

            yield self.guard.call(open_session, deadline=deadline, safety=Safety.READ, doing="connecting")

    def listen(
        self,
        *channels: str,
        timeout: Duration | None = None,
        connect_timeout: Duration | None = None,
    ) -> Notifications:
        """Notifications of channels on PostgreSQL, on a connection of their own: `with db.listen("jobs") as events:`.

        A loop over them gives a `Notification(channel, payload, pid)` for each, and a `NotificationGap(seconds)` when
        the connection was lost and is back, since notifications of that time are lost. It waits without end, or until
        nothing came for `timeout` seconds. Raises ConfigError behind a transaction pooler without direct_url.
        """
        check_channels(channels)
        deadline = self._deadline(connect_timeout)
        made = Notifications(self.engine, self.guard, channels, deadline=deadline, timeout=timeout)
        self._listening.add(made)
        return made

    def notify(self, channel: str, payload: str = "", *, timeout: Duration | None = None) -> None:
        """Sends a notification, at once; in a transaction, `transaction.execute("select pg_notify(…)")` at its end.

        Raises QueryError for a payload of 8,000 bytes and more, Refused on a read-only connection.
        """
        check_channels([channel])
        check_engine(self.engine, "notify()")
        self.settings.refuse_read_only()
        statement = statement_of("SELECT pg_notify($1, $2)", self.engine.dialect)
        with self.observer.watch(statement.text, (channel, payload)):
            self.ask(
                lambda connection, seconds: self.engine.execute(
                    connection, statement, (channel, payload), seconds
                ),
                safety=Safety.WRITE,
                timeout=timeout,
                doing="notify",
            )

    def begin(
        self,
        *,
        timeout: Duration | None = None,
        isolation: Isolation | None = None,
        read_only: bool = False,
        deferrable: bool = False,
    ) -> Transaction:
        """An open transaction, to be ended with `commit()` or `rollback()`; see `transaction`."""
        origin = self._of_mode(isolation, read_only, deferrable)
        return TransactionBlock(origin, self._deadline(timeout)).begin()

    def _of_mode(self, isolation: Isolation | None, read_only: bool, deferrable: bool) -> TransactionOrigin:
        if isolation is None and not read_only and not deferrable:
            return self._origin
        mode = TransactionMode(isolation, read_only, deferrable)
        mode.characteristics(self.engine)
        return replace(self._origin, mode=mode)

    def replica(self, *, timeout: Duration | None = None) -> SqlDatabase:
        """One of the connection's replicas that can be reached, for reading; it is closed with this database.

        The primary never stands in. Raises ConfigError when there are none, Unavailable when none answers.
        """
        if self.closed:
            raise PoolClosed(self.name)
        if self.replicas is None:
            raise ConfigError(
                f"{self.name!r} has no replicas; name their urls in its profile under 'replicas'"
            )
        return self.replicas.choose(timeout)

    def get_client(self, *, timeout: Duration | None = None) -> Any:
        """The driver's own connection, out of the pool until `release`. Raises Refused when read-only."""
        if self.settings.read_only:
            raise Refused(f"{self.name!r} is read-only, so its driver's connection is not handed out")
        client = self.pool.acquire(self._deadline(timeout).within(None))
        self.engine.mark(client, Residue.RESETTABLE)
        self.leases.running.add(client)
        return client

    def release(self, client: Any) -> None:
        """Gives a connection of `get_client` back; an open transaction is rolled back, the session reset."""
        self.leases.running.discard(client)
        self.pool.release(client, broken=self.engine.is_broken(client))

    @property
    def closed(self) -> bool:
        return self.pool.closed

    def pool_stats(self) -> PoolStats:
        return self.pool.stats()

    def maintain(self, *, fill: bool) -> None:
        with self.guard.translating(deadline=NEVER, safety=Safety.PROBE, doing="filling the pool"):
            self.pool.maintain(fill=fill)

    def doubt(self) -> None:
        self.pool.doubt()

    def renew(self) -> None:
        self.pool.renew()

    def opened(self) -> int:
        return self.pool.counters()["opened"]

    def cancel_running(self) -> None:
        self.leases.cancel_running()
        for replica in self._open_replicas():
            replica.cancel_running()

    def interrupt_running(self) -> None:
        """Breaks the connections that are in use, from another thread: their server answers nothing."""
        for connection in tuple(self.leases.running):
            self.engine.interrupt(connection)

    def _reopen(self) -> None:
        self.pool.open()

    def close(self, *, timeout: Duration = 0.0) -> tuple[str, ...]:
        deadline = Deadline(timeout)
        self._end_upkeep()
        for listening in tuple(self._listening):
            listening.close()
        out = [str(leased) for leased in self.leases.close(deadline.remaining())]
        for replica in self._open_replicas():
            out += replica.close(timeout=deadline.remaining())
        end_tunnel(self.engine)
        return tuple(out)

    def left_open(self) -> tuple[str, ...]:
        pools = (self.pool, *(replica.pool for replica in self._open_replicas()))
        return tuple(str(leased) for pool in pools for leased in pool.left_open())

    def _open_replicas(self) -> list[SqlDatabase]:
        return [] if self.replicas is None else self.replicas.opened()

    def _guarded(
        self,
        work: Work[T],
        statement: Statement,
        params: object,
        *,
        timeout: Duration | None,
        idempotent: bool = False,
    ) -> T:
        safety = Safety.IDEMPOTENT if idempotent else self._origin.safety(statement)
        if self.settings.read_only:
            work = self._guarding(work, statement)
        with self.observer.watch(statement.text, params):
            return self.ask(work, safety=safety, timeout=timeout, doing="query")

    def _guarding(self, work: Work[T], statement: Statement) -> Work[T]:
        def guarded(connection: Any, seconds: float | None) -> T:
            with self._origin.guarded(connection, statement):
                return work(connection, seconds)

        return guarded

    def _redacted(self, statement: str) -> str:
        return redact(statement, self.engine.dialect, max_length=_SHOWN_SQL)

    def _fingerprint(self, statement: str) -> str:
        return fingerprint(statement, self.engine.dialect)

    def _lease(self, deadline: Deadline) -> Lease:
        return Lease(self.leases, deadline)
