"""Health checks and metrics of databases for tasks."""

from __future__ import annotations

from functools import partial
from typing import Any

from katax_cli import health
from katax_cli.aio.database import AsyncDatabase
from katax_cli.core.text.duration import Duration
from katax_cli.engines.awaited.calls import in_thread
from katax_cli.health import HealthCheckResult, HealthLog, MetricsResult
from katax_cli.services.calls.query_metrics import PERIOD, SLOW_MS


async def perform_health_check(
    db: AsyncDatabase[Any], *, verbose: bool = False, logger: HealthLog | None = None
) -> HealthCheckResult:
    """One probe, past the breaker: healthy below 100 ms, degraded up to 500; takes 5 s at the most."""
    check = partial(health.perform_health_check, db.wraps, verbose=verbose, logger=logger)
    # In a thread: it asks what drivers can only be asked by blocking, and a busy event loop is not the server's fault.
    return await db.home.call(in_thread, f"katax-health-{db.name}", check)


async def check_database_health(db: AsyncDatabase[Any]) -> HealthCheckResult:
    """The same, without more."""
    return await perform_health_check(db)


def get_metrics(
    db: AsyncDatabase[Any], *, period: Duration = PERIOD, slow_ms: float = SLOW_MS
) -> MetricsResult:
    """The calls of the last `period` seconds and the pool now. Raises ConfigError when they are not counted."""
    return health.get_metrics(db.wraps, period=period, slow_ms=slow_ms)
