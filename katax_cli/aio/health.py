"""Health checks and metrics of databases for tasks."""

from __future__ import annotations

from functools import partial
from typing import Any

from katax_cli import health
from katax_cli.aio.database import AsyncDatabase
from katax_cli.core.text.duration import Duration
from katax_cli.engines.awaited.calls import in_thread
from katax_cli.health import (
    RESERVED_CONNECTIONS,
    HasPoolStats,
    HealthCheckResult,
    HealthLog,
    MetricsResult,
)
from katax_cli.services.calls.query_metrics import PERIOD, SLOW_MS


async def perform_health_check(
    db: AsyncDatabase[Any],
    *,
    pool: HasPoolStats | None = None,
    verbose: bool = False,
    logger: HealthLog | None = None,
) -> HealthCheckResult:
    """One probe, past the breaker: healthy below 100 ms, degraded up to 500; takes 5 s at the most."""
    check = partial(health.perform_health_check, db.wraps, pool=pool, verbose=verbose, logger=logger)
    # In a thread: it asks what drivers can only be asked by blocking, and a busy event loop is not the server's fault.
    return await db.home.call(in_thread, f"katax-health-{db.name}", check)


async def check_database_health(
    db: AsyncDatabase[Any], pool: HasPoolStats | None = None
) -> HealthCheckResult:
    """The same, without more."""
    return await perform_health_check(db, pool=pool)


def get_metrics(
    db: AsyncDatabase[Any],
    *,
    period: Duration = PERIOD,
    pool: HasPoolStats | None = None,
    slow_ms: float = SLOW_MS,
    max_connections: int | None = None,
    reserved: int = RESERVED_CONNECTIONS,
    instances: int = 1,
) -> MetricsResult:
    """`katax_cli.get_metrics` of a database for tasks: its calls, the pool, and what to do; asks no server."""
    return health.get_metrics(
        db.wraps,
        period=period,
        pool=pool,
        slow_ms=slow_ms,
        max_connections=max_connections,
        reserved=reserved,
        instances=instances,
    )
