"""Frozen data that crosses layers: what pools, breakers, checks and whole systems look like at one moment.

Nothing here computes, connects or formats. Durations are seconds unless the name says `_ms`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, Literal, NamedTuple, TypeVar

HealthStatus = Literal["healthy", "degraded", "unhealthy"]
CheckStatus = Literal["healthy", "degraded", "unhealthy", "skipped"]
BreakerState = Literal["closed", "open", "half_open", "forced_open", "disabled"]
JobState = Literal["ran", "skipped", "missed", "failed", "killed", "running"]

R = TypeVar("R")


class PoolStats(NamedTuple):
    """Connections of one pool: the most it may open, those open, in use, free, and the callers waiting."""

    max: int
    total: int
    active: int
    idle: int
    waiting: int


class BreakerStats(NamedTuple):
    """A breaker as seen now; times are seconds since the epoch."""

    state: BreakerState
    failures: int
    last_failure_at: float | None = None
    next_probe_at: float | None = None
    reason: str | None = None


class QueryStats(NamedTuple):
    """The calls of a period in milliseconds, None when there were none; `slow_count` of them were slow."""

    total: int
    avg_ms: float | None
    min_ms: float | None
    max_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    slow_count: int
    failed: int = 0


class Check(NamedTuple):
    """One check of one connection."""

    name: str
    status: CheckStatus
    latency_ms: float | None = None
    message: str | None = None


class ServerStanding(NamedTuple):
    """The part that a server plays; `lag_seconds` is None when it follows no other server or does not say."""

    role: str
    writable: bool
    lag_seconds: float | None = None
    why: str | None = None


class Headroom(NamedTuple):
    """The use of a limited resource, in `unit`; `seconds_left` at the current pace, None: not nearing the limit."""

    name: str
    used: float
    limit: float | None
    unit: str
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class Depth:
    """The results of a verbose probe: the failing layer, its cause, the certificate's last days, limited resources."""

    first_failing_layer: str | None = None
    likely_cause: str | None = None
    certificate_days: float | None = None
    headroom: tuple[Headroom, ...] = ()
    recommendations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConnectionHealth:
    """The result of a probe of one connection; `latency_ms` is a ping on an open connection.

    `maintenance`: an operator's reason to refuse calls to the server, which is then expected to fail.
    """

    status: HealthStatus
    latency_ms: float | None
    connect_ms: float | None
    checks: tuple[Check, ...] = ()
    pool: PoolStats | None = None
    server: Mapping[str, object] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    depth: Depth | None = None
    maintenance: str | None = None


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The health of a profile: the worst of its connections that are not under maintenance."""

    status: HealthStatus
    timestamp: datetime
    profile: str
    connections: Mapping[str, ConnectionHealth]


class Part(NamedTuple, Generic[R]):
    """One part of a Snapshot: its rows, their source, and when that answered last (seconds since the epoch).

    `missing`: why there are no rows, or none newer than that.
    """

    rows: tuple[R, ...]
    source: str
    seen_at: float | None
    missing: str | None = None


class Watched(NamedTuple):
    """The observation of a connection: its last check, and its pings so far, None for one that failed.

    `late`: why nothing newer is known.
    """

    checked_at: float | None
    latencies_ms: tuple[float | None, ...] = ()
    late: str | None = None


class Process(NamedTuple):
    """A long-lived process that reports; times are seconds since the epoch."""

    id: str
    kind: str
    host: str
    pid: int
    started_at: float
    seen_at: float

    @property
    def label(self) -> str:
        return f"{self.kind} {self.host}:{self.pid}"


class PoolTrail(NamedTuple):
    """The pool of one connection in one process: how it was, oldest first, and when it said so last."""

    connection: str
    process: str
    samples: tuple[PoolStats, ...]
    seen_at: float


class Circuit(NamedTuple):
    """A circuit: what was decided for all (`process` None), or the breaker of one long-lived process."""

    connection: str
    state: BreakerState
    failures: int
    last_failure_at: datetime | None
    next_probe_at: datetime | None
    reason: str | None
    process: str | None


class Traffic(NamedTuple):
    """The calls on one connection as its server counts them, or a process; None: not known.

    `p95_ms`, `slow` and `failed` are of the last minute; `trail` is `per_second`, oldest first.
    """

    connection: str
    source: str
    per_second: float | None
    p95_ms: float | None
    slow: int | None
    failed: int | None
    trail: tuple[float, ...]
    seen_at: float


class SlowCall(NamedTuple):
    """A call that took long: its statement without values, the process that made it, and when."""

    connection: str
    process: str
    statement: str
    duration_ms: float
    happened_at: float


class RunningSession(NamedTuple):
    """A session of a server; None for what the server does not say. Statements are without values.

    `busy`: it runs a statement. Without a `pid` it stands for what cannot be seen, and `statement` says why.
    """

    connection: str
    pid: int | str | None
    user: str | None
    host: str | None
    database: str | None
    state: str
    wait: str | None
    age_seconds: float | None
    transaction_age_seconds: float | None
    statement: str | None
    busy: bool
    seen_at: float


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job now; `last_state` and `last_reason` are those of the run that ended last."""

    name: str
    schedule: str
    timezone: str
    enabled: bool
    running: int
    next_at: datetime | None
    last_state: JobState | None
    last_reason: str | None
    last_finished_at: datetime | None


class JobRun(NamedTuple):
    """An occurrence of a job and its outcome; times are seconds since the epoch."""

    run_id: str
    job: str
    scheduled_at: float
    started_at: float | None
    duration_ms: int | None
    state: JobState
    reason: str | None
    host: str


class SocketServer(NamedTuple):
    """A Socket.IO server of one process; `trouble`: why it does not do its work."""

    name: str
    process: str
    clients: int
    rooms: int
    received_per_second: float | None
    emitted_per_second: float | None
    refused: int
    trouble: str | None
    seen_at: float


class Happening(NamedTuple):
    """Something that an operator may want to know of; `happened_at` is seconds since the epoch."""

    happened_at: float
    level: Literal["info", "warning", "error"]
    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A profile's services at one moment, as far as they are known; `taken_at` is seconds since the epoch.

    `health` and `watched` have one entry for each connection; `health` none for one that never answered yet.
    """

    taken_at: float
    role: str
    health: HealthReport
    watched: Mapping[str, Watched]
    processes: Part[Process]
    pools: Part[PoolTrail]
    circuits: Part[Circuit]
    traffic: Part[Traffic]
    slow: Part[SlowCall]
    jobs: Part[JobStatus]
    runs: Part[JobRun]
    sockets: Part[SocketServer]
    activity: Part[RunningSession]
    log: Part[Happening]

    @property
    def status(self) -> str:
        """The health of all connections: unknown while one of them hangs and the others are well."""
        hangs = any(watched.late for watched in self.watched.values())
        return "unknown" if hangs and self.health.status == "healthy" else self.health.status
