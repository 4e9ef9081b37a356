"""Recommendations for measured numbers: one table of rules over values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from katax_cli.snapshot import PoolStats, QueryStats

SLOW_SHARE = 0.05
TAIL_FACTOR = 5.0
BUSY_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class ConnectionFacts:
    """The facts about one connection; None: not known. `instances` of the program share the server."""

    queries: QueryStats | None = None
    pool: PoolStats | None = None
    max_connections: int | None = None
    reserved: int = 0
    instances: int = 1

    @property
    def fair_share(self) -> int | None:
        """Connections that each instance may have at the most: (max_connections − reserved) / instances."""
        if self.max_connections is None:
            return None
        return (self.max_connections - self.reserved) // self.instances


def _many_slow(facts: ConnectionFacts) -> str | None:
    seen = facts.queries
    if seen is None or seen.slow_count <= SLOW_SHARE * seen.total:
        return None
    return (
        f"{seen.slow_count} of {seen.total} queries were slow; "
        "look at 'katax db slow' and at the indexes of their tables"
    )


def _long_tail(facts: ConnectionFacts) -> str | None:
    seen = facts.queries
    if seen is None or seen.p95_ms is None or seen.avg_ms is None or seen.p95_ms <= TAIL_FACTOR * seen.avg_ms:
        return None
    return (
        f"the 95th percentile, {seen.p95_ms:g} ms, is more than {TAIL_FACTOR:g} times the average of "
        f"{seen.avg_ms:g} ms; a few queries wait for locks or read far more than the others"
    )


def _busy_pool(facts: ConnectionFacts) -> str | None:
    pool = facts.pool
    if pool is None or pool.active <= BUSY_SHARE * pool.max:
        return None
    return (
        f"{pool.active} of {pool.max} connections of the pool are in use; "
        "raise pool.max or return connections sooner"
    )


def _waiters(facts: ConnectionFacts) -> str | None:
    pool = facts.pool
    if pool is None or pool.waiting == 0:
        return None
    return f"{pool.waiting} callers wait for a connection; raise pool.max or make transactions shorter"


def _greedy_pool(facts: ConnectionFacts) -> str | None:
    pool, share = facts.pool, facts.fair_share
    if pool is None or share is None or pool.max <= share:
        return None
    return (
        f"the pool may open {pool.max} connections, but the server has {share} for each of "
        f"{facts.instances} instances ({facts.max_connections} − {facts.reserved} reserved); lower pool.max"
    )


RULES: tuple[Callable[[ConnectionFacts], str | None], ...] = (
    _many_slow,
    _long_tail,
    _busy_pool,
    _waiters,
    _greedy_pool,
)
"""Each says what it recommends, or nothing; in the order in which they are shown."""


def recommend(facts: ConnectionFacts) -> tuple[str, ...]:
    """The recommendations of the rules for these facts."""
    return tuple(text for rule in RULES if (text := rule(facts)) is not None)
