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


@dataclass(frozen=True, slots=True)
class ConnectionHealth:
    """What a probe of one connection found; `latency_ms` is a ping on an open connection."""

    status: HealthStatus
    latency_ms: float | None
    connect_ms: float | None
    checks: tuple[Check, ...] = ()
    pool: PoolStats | None = None
    server: Mapping[str, object] = field(default_factory=dict)
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The health of a profile: the worst of its connections."""

    status: HealthStatus
    timestamp: datetime
    profile: str
    connections: Mapping[str, ConnectionHealth]
