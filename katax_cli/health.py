"""Is a database well, and how has it been: the public face of health checks and query metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from logging import getLogger
from threading import Event, Lock, Thread, current_thread
from typing import TYPE_CHECKING, Protocol

from katax_cli.core.callables import completed, plain
from katax_cli.core.clock import SYSTEM
from katax_cli.core.forks import follow
from katax_cli.core.measure.health import HealthPolicy
from katax_cli.core.measure.recommend import ConnectionFacts, recommend
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.text.duration import Duration, in_seconds
from katax_cli.errors import ConfigError, Unavailable
from katax_cli.services.calls.query_metrics import MAX_METRICS, PERIOD, SLOW_MS, QueryMetrics
from katax_cli.services.databases.database import Database
from katax_cli.services.health.probe import PROBE_SECONDS, probe
from katax_cli.snapshot import Check, HealthStatus, PoolStats, QueryStats

if TYPE_CHECKING:
    from katax_cli.services.state.reporter import Reporter
    from katax_cli.services.state.store import HealthRecord

__all__ = [
    "MAX_METRICS",
    "Check",
    "HealthCheckResult",
    "HealthMetrics",
    "HealthMonitor",
    "MetricsResult",
    "check_database_health",
    "get_metrics",
    "has_database_metrics",
    "perform_health_check",
]

RESERVED_CONNECTIONS = 3
"""Connections that a server keeps for its administrators; PostgreSQL's superuser_reserved_connections."""
_POLICY = HealthPolicy()
_STOP_SECONDS = 1.0


class HasPoolStats(Protocol):
    """The result of `create_metrics_pool`."""

    def get_metrics(self) -> PoolStats: ...


class HealthLog(Protocol):
    """A logger: the standard library's, or katax's own."""

    def warning(self, msg: str) -> object: ...
    def error(self, msg: str) -> object: ...


@dataclass(frozen=True, slots=True)
class HealthMetrics:
    """The measurements: the milliseconds of a ping, None when it failed, and the pool."""

    check_latency_ms: float | None
    pool: PoolStats | None


@dataclass(frozen=True, slots=True)
class HealthCheckResult:
    """The result of a check; `details` are filled by a verbose one: `server` and `recommendations`."""

    status: HealthStatus
    checks: tuple[Check, ...]
    errors: tuple[str, ...]
    metrics: HealthMetrics
    details: Mapping[str, object]
    timestamp: datetime

    @property
    def healthy(self) -> bool:
        return self.status == "healthy"

    @property
    def error(self) -> str | None:
        """The first error; None when there is none."""
        return self.errors[0] if self.errors else None


@dataclass(frozen=True, slots=True)
class MetricsResult:
    """The measurements of a database over the last `period` seconds."""

    period: float
    timestamp: datetime
    connections: PoolStats
    queries: QueryStats
    recommendations: tuple[str, ...]


def check_database_health(db: Database, pool: HasPoolStats | None = None) -> HealthCheckResult:
    """Connects unless connected and pings, in one attempt and past the breaker; errors are in the result.

    Healthy below 100 ms, degraded up to 500, unhealthy above or when it fails; takes 5 s at the most.
    """
    return perform_health_check(db, pool=pool)


def perform_health_check(
    db: Database,
    *,
    pool: HasPoolStats | None = None,
    verbose: bool = False,
    logger: HealthLog | None = None,
) -> HealthCheckResult:
    """The same; `verbose` adds what the server says of itself and what to do, `logger` hears of what is not well."""
    _needs_database(db, "a health check")
    seen = probe(db, _POLICY, Deadline(PROBE_SECONDS))
    stats = db.pool_stats() if pool is None else pool.get_metrics()
    result = HealthCheckResult(
        seen.status,
        seen.checks,
        seen.errors,
        HealthMetrics(seen.latency_ms, stats),
        _details(db, stats, seen.server) if verbose else {},
        datetime.fromtimestamp(SYSTEM.now()).astimezone(),
    )
    if logger is not None and not result.healthy:
        logger.warning(f"{db.name!r} is {result.status}{': ' + result.error if result.error else ''}")
    return result


def _needs_database(db: object, wanted_by: str) -> Database:
    if not isinstance(db, Database):
        kind = f"{type(db).__module__.partition('.')[0]}'s {type(db).__name__}"
        raise TypeError(
            f"{wanted_by} needs a database of katax and was given {kind}; "
            "make one with Katax().database(name, connection=url), and give a foreign pool as pool="
        )
    return db


def _details(db: Database, pool: PoolStats, server: Mapping[str, object]) -> Mapping[str, object]:
    most = server.get("max_connections")
    metrics = db.observer.metrics
    facts = ConnectionFacts(
        queries=None if metrics is None else metrics.stats(),
        pool=pool,
        max_connections=most if isinstance(most, int) else None,
        reserved=RESERVED_CONNECTIONS,
    )
    return {"server": dict(server), "recommendations": recommend(facts)}


def has_database_metrics(db: object) -> bool:
    """True if its calls are counted, as those of every database of katax are unless `keep_metrics(0)` was said."""
    return isinstance(_metrics(db), QueryMetrics)


def get_metrics(
    db: Database,
    *,
    period: Duration = PERIOD,
    pool: HasPoolStats | None = None,
    slow_ms: float = SLOW_MS,
    max_connections: int | None = None,
    reserved: int = RESERVED_CONNECTIONS,
    instances: int = 1,
) -> MetricsResult:
    """The last `max_metrics` calls of the last `period` seconds, the pool, and what to do; asks no server.

    `max_connections` of the server and the `instances` that share it let the size of the pool be judged.
    Raises ConfigError when the calls are not counted.
    """
    metrics = _metrics(db)
    if metrics is None:
        raise ConfigError("get_metrics needs a database of katax whose calls are counted; see keep_metrics")
    stats = db.pool_stats() if pool is None else pool.get_metrics()
    seconds = in_seconds(period)
    queries = metrics.stats(period=seconds, slow_ms=slow_ms)
    facts = ConnectionFacts(queries, stats, max_connections, reserved, instances)
    now = datetime.fromtimestamp(SYSTEM.now()).astimezone()
    return MetricsResult(seconds, now, stats, queries, recommend(facts))


def _metrics(db: object) -> QueryMetrics | None:
    return db.observer.metrics if isinstance(db, Database) else None


OnCheck = Callable[[HealthCheckResult], object]


class HealthMonitor:
    """Checks one database again and again, in a daemon thread named after it; two checks never overlap.

    The first check is made at once, the others `interval` seconds after the one before began, or ended when
    it took longer. With the `reporter` of a runtime (`Runtime.report`) the results are kept in the state database.
    Raises ValueError for an interval that is no time.
    """

    def __init__(
        self,
        db: Database,
        *,
        pool: HasPoolStats | None = None,
        interval: Duration = _POLICY.interval,
        logger: HealthLog | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        seconds = in_seconds(interval)
        if not seconds > 0:
            raise ValueError(f"interval is {seconds:g}, expected more than 0 seconds")
        self.database = _needs_database(db, "HealthMonitor")
        self._pool = pool
        self._interval = seconds
        self._logger = logger
        self._reporter = reporter
        self._checking = Lock()
        self._switching = Lock()
        self._last: HealthCheckResult | None = None
        self._thread: Thread | None = None
        self._stopping = Event()
        self._on_check: OnCheck | None = None
        follow(self)

    def after_fork(self) -> None:
        """The child has no thread of its parent's: one that ran starts again, with a first check at once."""
        ran = self._thread is not None and not self._stopping.is_set()
        self._checking, self._switching = Lock(), Lock()
        self._thread = self._last = None
        if ran:
            self.start(self._on_check)

    def start(self, on_check: OnCheck | None = None) -> None:
        """Begins; nothing when it runs already. An exception in `on_check(result)` is logged, and it goes on."""
        if on_check is not None:
            plain(on_check, "on_check")
        with self._switching:
            if self.is_running():
                return
            if self.database.closed:
                raise Unavailable(
                    self.database.name, "it was closed; connect it again before it is monitored"
                )
            self._stopping = Event()
            self._on_check = on_check
            name = f"katax-health-{self.database.name}"
            self._thread = Thread(target=self._run, args=(self._stopping, on_check), name=name, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ends it: no check begins any more and no result is announced; a check under way is left behind."""
        with self._switching:
            self._stopping.set()
            thread, self._thread = self._thread, None
        if thread is not None and thread is not current_thread():
            thread.join(_STOP_SECONDS)

    def check_now(self) -> HealthCheckResult:
        """A check on the caller's thread, after the one under way."""
        with self._checking:
            self._last = perform_health_check(self.database, pool=self._pool, logger=self._logger)
            return self._last

    def get_last_check(self) -> HealthCheckResult | None:
        """The result of the last check; None before the first."""
        return self._last

    def is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive() and not self._stopping.is_set()

    def _run(self, stopping: Event, on_check: OnCheck | None) -> None:
        pause = 0.0
        while not stopping.wait(pause):
            began = SYSTEM.monotonic()
            self._check(stopping, on_check)
            pause = max(0.0, self._interval - (SYSTEM.monotonic() - began))

    def _check(self, stopping: Event, on_check: OnCheck | None) -> None:
        try:
            result = self.check_now()
            if self._reporter is not None:
                self._reporter.record(_record(self.database.name, result))
            if on_check is not None and not stopping.is_set():
                completed(on_check(result), on_check, "on_check")
        except Exception as error:  # noqa: BLE001 - the worker's boundary: a monitor that dies watches nothing
            log = self._logger or getLogger("katax.health")
            log.error(
                f"the health monitor of {self.database.name!r} goes on after {type(error).__name__}: {error}"
            )


def _record(connection: str, result: HealthCheckResult) -> HealthRecord:
    from katax_cli.services.state.store import HealthRecord

    connect_ms = next((check.latency_ms for check in result.checks if check.name == "connect"), None)
    return HealthRecord(
        result.timestamp.timestamp(),
        connection,
        result.status,
        result.metrics.check_latency_ms,
        connect_ms,
        "; ".join(result.errors) or None,
    )
