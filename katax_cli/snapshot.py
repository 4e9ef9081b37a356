"""Frozen data that crosses layers: what pools, breakers, checks and whole systems look like at one moment.

Nothing here computes, connects or formats. Durations are seconds unless the name says `_ms`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

HealthStatus = Literal["healthy", "degraded", "unhealthy"]
CheckStatus = Literal["healthy", "degraded", "unhealthy", "skipped"]
BreakerState = Literal["closed", "open", "half_open", "forced_open", "disabled"]


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


class Standing(NamedTuple):
    """The part that a server plays; `lag_seconds` is None when it follows no other server or does not say."""

    role: str
    writable: bool
    lag_seconds: float | None = None
    why: str | None = None


class Headroom(NamedTuple):
    """How much of something is used, in `unit`; `seconds_left` until the limit at the pace seen, None: not nearing."""

    name: str
    used: float
    limit: float | None
    unit: str
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class Depth:
    """What a verbose probe adds: where it ends and why, how long the certificate is good, and what gets scarce."""

    first_failing_layer: str | None = None
    likely_cause: str | None = None
    certificate_days: float | None = None
    headroom: tuple[Headroom, ...] = ()
    recommendations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConnectionHealth:
    """What a probe of one connection found; `latency_ms` is a ping on an open connection.

    `maintenance`: why an operator keeps everybody off the server, which is then expected to be ill.
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
