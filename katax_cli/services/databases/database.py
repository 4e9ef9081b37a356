"""The common part of all five engines for applications and commands: one object for one named connection."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar
from weakref import ref

from katax_cli.core.engine_names import SERVER_ENGINES
from katax_cli.core.resilience.deadline import NEVER, Deadline
from katax_cli.core.resilience.failure import Failure, FailureKind
from katax_cli.core.text.duration import FOREVER, Duration
from katax_cli.engines.registry import part
from katax_cli.errors import KataxError, WrongEngine
from katax_cli.services.calls.events import EventName, Events
from katax_cli.services.calls.guard import Guard, Safety, Sent
from katax_cli.services.calls.left_behind import BoundedCallTimeout, bounded
from katax_cli.services.calls.observer import Observer, QueryLogging
from katax_cli.services.calls.query_metrics import MAX_METRICS, SLOW_MS, QueryMetrics

if TYPE_CHECKING:
    from katax_cli.core.resilience.breaker import CallBreaker
    from katax_cli.core.settings import ConnectionSettings
    from katax_cli.engines.base import Engine, ReportsMetrics, Serving, SlowQuery, Table, TableDescription
    from katax_cli.services.databases.upkeep import Upkeep
    from katax_cli.snapshot import BreakerState, PoolStats

T = TypeVar("T")


MakeDeadline = Callable[[Duration | None], Deadline]
TimeLimit = Duration | Deadline | None
"""How long a call may take: a time, a deadline that it shares with others, or None: as the connection says."""
_CONNECT_GRACE = 0.2
"""Seconds that a driver gets after its time to say itself why it could not connect."""
Work = Callable[[Any, float | None], T]


class Database(ABC):
    """A named connection: opened when first used, guarded, observed, closed; `connect` opens it again.

    `timeout` parameters are seconds for the whole call: waiting, connecting, retrying and the statement.
    Errors are those of `katax_cli.errors`.
    """

    def __init__(self, engine: Engine, guard: Guard, make_deadline: MakeDeadline | None = None) -> None:
        self.engine = engine
        self.settings = engine.settings
        self.name = engine.settings.name
        self.guard = guard
        self.events = Events()
        self.observer = Observer(
            self.name, self.events, redacted=self._redacted, fingerprint=self._fingerprint
        )
        self.upkeep: Upkeep | None = None
        guard.on_connection_error = partial(self.events.emit, "connection_error")
        guard.on_loss = self._lost
        guard.is_closed = lambda: self.closed
        guard.connect_seconds = connect_limit(engine.settings)
        if guard.breaker is not None:
            self._watch_breaker(guard.breaker)
        usual = engine.settings.statement_timeout
        self._deadline = make_deadline or (lambda seconds: Deadline(usual if seconds is None else seconds))

    def callers_deadline(self) -> Deadline:
        """The caller's deadline for all of it; the connection's own limit for statements does not count."""
        deadline = self._deadline(FOREVER)
        return NEVER if deadline.within(None) is None else deadline

    def connect(self, *, timeout: Duration | None = None, probing: bool = False) -> None:
        """Opens a connection unless there is one, also after `close`. Raises Unavailable or ConfigError.

        `probing`: in one attempt, past the breaker, as `ping`; it opens nothing that was closed.
        """
        if self.closed and not probing:
            self._reopen()
            if self.upkeep is not None:
                self.upkeep.resume()
        safety = Safety.PROBE if probing else Safety.READ
        self.ask(lambda _connection, _seconds: None, safety=safety, timeout=timeout, doing="connecting")

    def ping(self, *, timeout: Duration | None = None) -> None:
        """One round trip to the server, in one attempt, whatever the breaker says."""
        self.ask(self.engine.ping, safety=Safety.PROBE, timeout=timeout, doing="ping")

    def health_check(self, *, timeout: Duration | None = None) -> bool:
        """True if the server answers a ping in time; asks no breaker."""
        try:
            self.ping(timeout=timeout)
        except KataxError:
            return False
        return True

    def server(self, *, timeout: Duration | None = None) -> Mapping[str, object]:
        """The server's version and state; empty for an engine without ReportsServer."""
        from katax_cli.engines.base import ReportsServer

        engine = self.engine
        if not isinstance(engine, ReportsServer):
            return {}
        return self.ask(engine.server, safety=Safety.PROBE, timeout=timeout, doing="asking for the version")

    def serving(self, *, timeout: Duration | None = None) -> Serving | None:
        """The health of a server's parts; None for an engine of one part."""
        from katax_cli.engines.base import ReportsServing

        engine = self.engine
        if not isinstance(engine, ReportsServing):
            return None
        return self.ask(engine.serving, safety=Safety.PROBE, timeout=timeout, doing="asking for its parts")

    def examine(self, question: Work[T], *, timeout: Duration | None = None, doing: str) -> T:
        """`question(connection, seconds left)` as a health check asks: in one attempt, past the breaker."""
        return self.ask(question, safety=Safety.PROBE, timeout=timeout, doing=doing)

    def metrics(self, *, timeout: Duration | None = None) -> Mapping[str, object]:
        """The server's load, with the keys of `katax db metrics`; None for what it does not report."""
        reporter: ReportsMetrics = part(self.engine, "metrics")
        return self.ask(reporter.metrics, safety=Safety.READ, timeout=timeout, doing="asking for metrics")

    def slow_queries(self, over_ms: float = SLOW_MS, *, timeout: Duration | None = None) -> list[SlowQuery]:
        """Statements that the server remembers to have taken at least so many milliseconds, the longest first.

        Redacted. Raises WrongEngine when the engine keeps none, ConfigError when this server does not.
        """
        from katax_cli.engines.base import SlowQueries

        reporter = part(self.engine, "metrics")
        if not isinstance(reporter, SlowQueries):
            lacks, works_on = "list of slow queries", SERVER_ENGINES
            raise WrongEngine(self.engine.name, lacks, wanted_by="db slow", works_on=works_on)
        return self.ask(
            lambda connection, seconds: reporter.slow_queries(connection, over_ms, seconds),
            safety=Safety.READ,
            timeout=timeout,
            doing="asking for slow queries",
        )

    def on(self, event: EventName, listener: Callable[..., Any]) -> Callable[[], None]:
        """Calls `listener` at every `query`, `slow_query` (sql, duration_ms), `connection_error` (error) or
        change of the `breaker` (new state, old state).

        Returns what removes it. SQL is redacted and parameters are never handed on.
        """
        return self.events.on(event, listener)

    def enable_query_logging(self, slow: bool = True, *, slow_ms: float = SLOW_MS, all: bool = False) -> None:
        """Logs slow statements as warnings, and with `all` every statement, to the logger `katax.query`.

        `slow_ms` is also from when on `slow_query` is raised. Statements are redacted, parameters left out.
        """
        self.observer.set_log(
            QueryLogging(
                slow=logging.WARNING if slow else None, all=logging.INFO if all else None, slow_ms=slow_ms
            )
        )

    def keep_metrics(self, max_metrics: int = MAX_METRICS) -> None:
        """Restarts the counts, keeping so many calls; 0 turns them off."""
        self.observer.metrics = QueryMetrics(max_metrics) if max_metrics else None

    @property
    def breaker(self) -> CallBreaker | None:
        """The breaker that stops calls to a server that is gone; None in single commands and probes."""
        return self.guard.breaker

    def keep_up(self) -> None:
        """From the first connection on a daemon thread keeps the pool and probes the server after an outage."""
        from katax_cli.services.databases.upkeep import Upkeep

        self.upkeep = Upkeep(self)
        self.guard.wait_for_server = self.upkeep.wait

    def probe(self) -> None:
        """One login and one ping on a connection of its own, past breaker and pool."""
        seconds = self.settings.connect_timeout
        with self.guard.translating(deadline=Deadline(None), safety=Safety.PROBE, doing="probing"):
            connection = open_bounded(self.engine, seconds)
            try:
                self.engine.ping(connection, seconds)
            finally:
                self.engine.close(connection)

    @abstractmethod
    def maintain(self, *, fill: bool) -> None:
        """Closes idle connections past their limits; with `fill` opens the fewest that the pool shall hold."""

    @abstractmethod
    def doubt(self) -> None:
        """The server was lost: idle connections are checked before they are used."""

    @abstractmethod
    def renew(self) -> None:
        """Discards connections that were opened before the server was lost."""

    @abstractmethod
    def opened(self) -> int:
        """Connections opened so far."""

    def _watch_breaker(self, breaker: CallBreaker) -> None:
        database = ref(self)

        def changed(new: BreakerState, old: BreakerState) -> None:
            owner = database()
            if owner is not None:
                if old in ("open", "forced_open") and new == "half_open":
                    owner.renew()
                owner.events.emit("breaker", new, old)

        breaker.on_state_change(changed)

    def _connect(self, timeout: float | None) -> Any:
        """A new connection; the thread that keeps the pool starts with the first."""
        if self.upkeep is not None:
            self.upkeep.start()
        connection = open_bounded(self.engine, timeout)
        # Half-open, few are let in: those who wait come when it is closed.
        if self.upkeep is not None and (self.breaker is None or self.breaker.is_closed()):
            self.upkeep.back()
        return connection

    def _lost(self) -> None:
        self.doubt()
        if self.upkeep is not None:
            self.upkeep.lost()

    @abstractmethod
    def _reopen(self) -> None:
        """Takes calls again after `close`."""

    def _end_upkeep(self) -> None:
        if self.upkeep is not None:
            self.upkeep.stop()

    @property
    def is_connected(self) -> bool:
        """True while a connection is open (no round trip: it may have died since)."""
        return self.pool_stats().total > 0

    @property
    @abstractmethod
    def closed(self) -> bool:
        """True after `close`."""

    @abstractmethod
    def pool_stats(self) -> PoolStats:
        """The pool at this moment."""

    @abstractmethod
    def cancel_running(self) -> None:
        """Ends what runs on the server for this object, from another thread; never raises."""

    @abstractmethod
    def close(self, *, timeout: Duration = 0.0) -> tuple[str, ...]:
        """Closes everything; waits up to `timeout` seconds for what is in use and names what was not returned."""

    @abstractmethod
    def left_open(self) -> tuple[str, ...]:
        """The names that a `close` under way will return; neither asks the server nor waits."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self.settings.type} at {self.settings.address}>"

    def ask(self, work: Work[T], *, safety: Safety, timeout: TimeLimit = None, doing: str) -> T:
        """Runs `work(connection, seconds left)` as a guarded call of this safety."""
        deadline = timeout if isinstance(timeout, Deadline) else self._deadline(timeout)

        def attempt(sent: Sent) -> T:
            with self._lease(deadline) as connection:
                sent.sent = True
                return work(connection, deadline.within(None))

        return self.guard.call(attempt, deadline=deadline, safety=safety, doing=doing)

    @abstractmethod
    def _redacted(self, statement: Any) -> str:
        """A statement without its values."""

    def _fingerprint(self, statement: Any) -> str:
        """A key that is equal for statements that differ in their values only."""
        return self._redacted(statement)

    @abstractmethod
    def _lease(self, deadline: Deadline) -> AbstractContextManager[Any]:
        """A connection for one attempt, watched by the deadline."""


class TabularDatabase(Database):
    """A database with tables, or collections in their place."""

    def tables(self, *, timeout: Duration | None = None) -> list[Table]:
        """User tables and views; collections and views."""
        from katax_cli.engines.base import Introspects

        assert isinstance(self.engine, Introspects)
        return self.ask(self.engine.tables, safety=Safety.READ, timeout=timeout, doing="listing the tables")

    def describe(self, name: str, *, timeout: Duration | None = None) -> TableDescription | None:
        """One table; None when there is none. Of a collection the fields are those of a sample."""
        from katax_cli.engines.base import Introspects

        assert isinstance(self.engine, Introspects)
        describe = self.engine.describe
        return self.ask(
            lambda connection, seconds: describe(connection, name, seconds),
            safety=Safety.READ,
            timeout=timeout,
            doing=f"describing {name!r}",
        )


class ConnectTimeout(TimeoutError):
    """A server that neither answered nor refused within the time for connecting."""


def connect_limit(settings: ConnectionSettings) -> float:
    """Seconds that opening a connection may take: each of its nodes is asked in turn."""
    return settings.connect_timeout * max(1, len(settings.nodes))


def open_bounded(engine: Engine, timeout: float | None) -> Any:
    """`engine.connect` that returns in time even when a name lookup hangs; raises ConnectTimeout then."""
    settings, limit = engine.settings, connect_limit(engine.settings)
    seconds = limit if timeout is None else min(limit, timeout)
    try:
        return bounded(
            lambda: engine.connect(seconds),
            timeout=seconds + _CONNECT_GRACE,
            name=f"katax-connect-{settings.name}",
            discard=engine.close,
        )
    except BoundedCallTimeout as error:
        encrypted = settings.tls is not None and settings.tls.mode != "disable"
        hint = "; does the server speak TLS?" if encrypted else ""
        raise ConnectTimeout(f"no answer in {seconds:.3g} s{hint}") from error


def end_tunnel(engine: Engine) -> None:
    """Ends the ssh of a connection that goes through another machine."""
    tunnel = getattr(engine, "tunnel", None)
    if tunnel is not None:
        tunnel.close()


def classify_with(engine: Engine) -> Callable[[BaseException], Failure]:
    """The engine's classification, and ours of a connect that did not come back; both say of which server."""
    address = engine.settings.address

    def classify(error: BaseException) -> Failure:
        late = isinstance(error, ConnectTimeout)
        failure = Failure(FailureKind.UNREACHABLE, str(error)) if late else engine.classify(error)
        if failure.kind is FailureKind.UNREACHABLE and address not in failure.message:
            return failure._replace(message=f"{address}: {failure.message}")
        return failure

    return classify
