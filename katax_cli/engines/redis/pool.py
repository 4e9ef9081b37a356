"""redis-py's blocking pool, with the caller's limit on every connection that it hands out, and with upkeep.

redis-py keeps connections for ever. Its queue and its list of connections are used here, which it does not document:
without its own way through them, which counts each step for its observability, a GET takes two thirds of the time
(benchmarks/drivers.py).
"""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty
from typing import TYPE_CHECKING, Any

from redis.connection import BlockingConnectionPool

from katax_cli.core.clock import SYSTEM
from katax_cli.engines.redis.time_limits import at_most
from katax_cli.errors import PoolTimeout

if TYPE_CHECKING:
    from katax_cli.core.settings import PoolSettings
    from katax_cli.snapshot import PoolStats


class WaitingPool(BlockingConnectionPool):
    """Waits for a free connection as long as the settings and the caller allow, then raises PoolTimeout.

    `label` names the connection in errors; subclasses made by `labelled` set it, since redis-py makes the
    pools of a cluster from nothing but a class and its own arguments.
    """

    label = "redis"

    def __init__(self, **options: Any) -> None:
        self._waiting = 0
        super().__init__(**options)

    @property
    def timeout(self) -> float | None:
        return at_most(self._timeout)

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        self._timeout = seconds

    def get_connection(self, command_name: object = None, *keys: object, **options: object) -> Any:
        self._checkpid()
        connection = self._take() or self.make_connection()
        try:
            connection.make_ready()
        except BaseException:
            self.release(connection)
            raise
        return connection

    def release(self, connection: Any) -> None:
        self._checkpid()
        owned = self.owns_connection(connection)
        # What one caller did to the session (SELECT, MULTI) would meet the next one.
        if not owned or connection.is_soiled or connection.should_reconnect():
            connection.disconnect()
        connection.idle_since = SYSTEM.monotonic()
        self.pool.put_nowait(connection if owned else None)

    @property
    def opened(self) -> int:
        """Logins so far, of the connections that there are."""
        return sum(connection.logins for connection in list(self._connections))

    def maintain(self, settings: PoolSettings, *, fill: bool) -> None:
        """Closes idle connections past their limits; with `fill` opens up to `settings.min`."""
        now = SYSTEM.monotonic()
        surplus = self.stats().total - settings.min
        over = settings.max_lifetime
        for connection in self._take_idle(lambda idle: now >= idle.opened_at + over or idle.has_news()):
            self._end(connection)
            surplus -= 1
        for connection in self._take_idle(lambda idle: now >= idle.idle_since + settings.idle_timeout):
            if surplus > 0:
                connection.disconnect()
                surplus -= 1
            self._put_back(connection)
        if fill:
            self._fill(settings.min)

    def discard(self, before: float) -> None:
        """Ends connections opened before that moment; those in use when they come back."""
        for connection in list(self._connections):
            if connection.opened_at < before:
                connection.mark_for_reconnect()
        for connection in self._take_idle(lambda idle: idle.should_reconnect()):
            self._end(connection)

    def _take_idle(self, wanted: Callable[[Any], bool]) -> list[Any]:
        """Open connections that lie idle, out of the queue until they are put back."""
        with self.pool.mutex:
            queue = self.pool.queue
            taken = [idle for idle in queue if idle is not None and idle.is_connected and wanted(idle)]
            for connection in taken:
                queue.remove(connection)
        return taken

    def _end(self, connection: Any) -> None:
        connection.disconnect()
        self._put_back(connection)

    def _put_back(self, connection: Any) -> None:
        """To the bottom of the stack, where what is used least lies."""
        with self.pool.mutex:
            self.pool.queue.insert(0, connection)
            self.pool.not_empty.notify()

    def _fill(self, least: int) -> None:
        for _ in range(least - self.stats().total):
            place = self._take_place()
            if place is None:
                return
            connection = place[0] or self.make_connection()
            try:
                connection.connect()
            finally:
                self._put_back(connection)

    def _take_place(self) -> tuple[Any] | None:
        """A place without an open connection, out of the queue; None when there is none."""
        with self.pool.mutex:
            queue = self.pool.queue
            for index, idle in enumerate(queue):
                if idle is None or not idle.is_connected:
                    del queue[index]
                    return (idle,)
        return None

    def stats(self) -> PoolStats:
        """Connections as they are now; reads the pool's own state, never the server."""
        with self.pool.mutex:
            free = list(self.pool.queue)
        idle = sum(1 for connection in free if connection is not None and connection.is_connected)
        active = self.max_connections - len(free)
        from katax_cli.snapshot import PoolStats

        return PoolStats(
            max=self.max_connections, total=active + idle, active=active, idle=idle, waiting=self._waiting
        )

    def _take(self) -> Any:
        """The connection that came back last; None for a place without one."""
        patience = self.timeout
        # No lock: see `Histogram.observe`.
        self._waiting += 1
        try:
            return self.pool.get(timeout=patience)
        except Empty:
            raise self._exhausted(patience) from None
        finally:
            self._waiting -= 1

    def _exhausted(self, waited: float | None) -> PoolTimeout:
        now = self.stats()
        # We still count as waiting ourselves.
        return PoolTimeout(
            self.label, waited=waited or 0.0, active=now.active, max=now.max, waiting=now.waiting - 1
        )


def labelled(pool_class: type[WaitingPool], label: str) -> type[WaitingPool]:
    """A pool class whose errors name the connection."""
    return type(pool_class.__name__, (pool_class,), {"label": label})
