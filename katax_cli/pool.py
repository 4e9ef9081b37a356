"""Pool metrics: how full any connection pool is, katax's own or a foreign one. The public face."""

from __future__ import annotations

from katax_cli.services.program.pool_metrics import MetricsPool, create_metrics_pool, is_metrics_pool
from katax_cli.snapshot import PoolStats

__all__ = ["MetricsPool", "PoolStats", "create_metrics_pool", "is_metrics_pool"]
