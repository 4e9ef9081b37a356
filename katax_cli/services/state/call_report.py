"""A process's report on its own calls: their number, their durations, and the slow ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.services.databases.database import Database

PERIOD = 60.0
"""Seconds for which percentiles, slow and failed calls are reported."""
SLOW_CALLS = 20
_SHORTEST = 1.0
_STATEMENT = 200

Row = dict[str, Any]


class EventRate:
    """Events per second, from totals that are read again and again."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, float, float | None]] = {}

    def of(self, name: str, total: float, now: float) -> float | None:
        """Since the reading before, a second ago at least; None for the first one, and after a new start."""
        at, before, pace = self._seen.get(name, (now, total, None))
        if total < before:
            pace, at = None, now
        elif now - at >= _SHORTEST:
            pace, at = round((total - before) / (now - at), 3), now
        elif name in self._seen:
            return pace
        self._seen[name] = (at, total, pace)
        return pace


class CallWatch:
    """Follows the calls on databases as they are opened; `close` ends that. A call costs nothing unless it is slow."""

    def __init__(self, *, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._pace = EventRate()
        self._slow: deque[Row] = deque(maxlen=SLOW_CALLS)
        self._followed: dict[str, tuple[Database, Callable[[], None]]] = {}

    def traffic(self, databases: Mapping[str, Database]) -> list[Row]:
        """A row for each database; None for what it does not count."""
        return [self._row(name, database) for name, database in databases.items()]

    def slow(self) -> list[Row]:
        """The last slow calls, without values."""
        return list(self._slow)

    def follow(self, databases: Mapping[str, Database]) -> None:
        """Listens to those that are new."""
        for name, database in databases.items():
            known, ignore = self._followed.get(name, (None, None))
            if known is database:
                continue
            if ignore is not None:
                ignore()
            self._followed[name] = (database, database.on("slow_query", self._listener(name)))

    def close(self) -> None:
        """Stops listening."""
        while self._followed:
            _, (_, ignore) = self._followed.popitem()
            ignore()

    def _listener(self, name: str) -> Callable[[str, float], None]:
        def heard(statement: str, duration_ms: float) -> None:
            self._slow.append(
                {
                    "connection": name,
                    "statement": " ".join(statement.split())[:_STATEMENT],
                    "duration_ms": round(duration_ms, 3),
                    "happened_at": self._clock.now(),
                }
            )

        return heard

    def _row(self, name: str, database: Database) -> Row:
        metrics = database.observer.metrics
        if metrics is None:
            return {
                "connection": name,
                **dict.fromkeys(("per_second", "p95_ms", "slow", "failed")),
            }
        pace = self._pace.of(name, metrics.durations.count, self._clock.monotonic())
        stats = metrics.stats(period=PERIOD, slow_ms=database.observer.log.slow_ms)
        return {
            "connection": name,
            "per_second": pace,
            "p95_ms": stats.p95_ms,
            "slow": stats.slow_count,
            "failed": stats.failed,
        }
