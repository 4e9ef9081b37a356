"""A database and its Redis, looked at together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from katax_cli.core.text.duration import Duration
from katax_cli.services.calls.query_metrics import SLOW_MS
from katax_cli.services.databases.database import Database

if TYPE_CHECKING:
    from katax_cli.engines.base import SlowQuery
    from katax_cli.errors import KataxError


class Monitor:
    """Asks the servers themselves; `redis` may be left out."""

    def __init__(self, db: Database, redis: Database | None = None) -> None:
        self.db = db
        self.redis = redis

    def get_metrics(self, *, timeout: Duration | None = None) -> dict[str, Mapping[str, object]]:
        """The numbers of `katax db metrics` under the name of each engine: `postgresql`, `redis`.

        Where a server does not count its statements, `queries` are those of this process.
        """
        return {one.engine.name: _with_own_queries(one, one.metrics(timeout=timeout)) for one in self._all()}

    def get_slow_queries(self, ms: float = SLOW_MS, *, timeout: Duration | None = None) -> list[SlowQuery]:
        """Statements that the database server remembers to have taken at least so many milliseconds.

        Raises WrongEngine or ConfigError where it remembers none, saying how it would.
        """
        return self.db.slow_queries(ms, timeout=timeout)

    def on_connection_error(self, listener: Callable[[KataxError], object]) -> Callable[[], None]:
        """Calls `listener(error)` when either server is not reached, lost or refuses the login.

        Returns what removes it.
        """
        removers = [one.on("connection_error", listener) for one in self._all()]

        def remove_all() -> None:
            for remove in removers:
                remove()

        return remove_all

    def _all(self) -> list[Database]:
        return [one for one in (self.db, self.redis) if one is not None]


def _with_own_queries(db: Database, metrics: Mapping[str, object]) -> Mapping[str, object]:
    own = db.observer.metrics
    queries = metrics.get("queries")
    if own is None or not isinstance(queries, Mapping) or queries.get("count") is not None:
        return metrics
    durations = own.durations
    average = durations.mean
    avg_ms = None if average is None else round(average * 1000, 3)
    return {**metrics, "queries": {"count": durations.count, "avg_ms": avg_ms}}
