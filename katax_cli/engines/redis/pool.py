"""redis-py's blocking pool, with the caller's limit on every connection that it hands out."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from redis.connection import BlockingConnectionPool, Connection
from redis.exceptions import ConnectionError as RedisConnectionError

from katax_cli.engines.redis.limits import at_most
from katax_cli.errors import PoolTimeout

if TYPE_CHECKING:
    from katax_cli.snapshot import PoolStats


class Pool(BlockingConnectionPool):
    """Waits for a free connection as long as the settings and the caller allow, then raises PoolTimeout.

    `label` names the connection in errors; subclasses made by `labelled` set it, since redis-py makes the
    pools of a cluster from nothing but a class and its own arguments.
    """

    label = "redis"

    def __init__(self, **options: Any) -> None:
        self._counting = threading.Lock()
        self._waiting = 0
        super().__init__(**options)

    @property
    def timeout(self) -> float | None:
        return at_most(self._timeout)

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        self._timeout = seconds

    def get_connection(self, command_name: object = None, *keys: object, **options: object) -> Connection:
        connection = self._take()
        connection.update_current_socket_timeout(connection.socket_timeout)
        return connection

    def release(self, connection: Any) -> None:
        # What one caller did to the session (SELECT, MULTI) would meet the next one.
        if getattr(connection, "is_soiled", False):
            connection.disconnect()
        super().release(connection)

    def stats(self) -> PoolStats:
        """Connections as they are now; reads the pool's own books, never the server."""
        with self.pool.mutex:
            free = list(self.pool.queue)
        idle = sum(1 for connection in free if connection is not None and connection.is_connected)
        active = self.max_connections - len(free)
        from katax_cli.snapshot import PoolStats

        return PoolStats(
            max=self.max_connections, total=active + idle, active=active, idle=idle, waiting=self._waiting
        )

    def _take(self) -> Connection:
        patience = self.timeout
        self._count(1)
        try:
            connection: Connection = super().get_connection()
        except RedisConnectionError as error:
            if type(error) is RedisConnectionError and str(error) == "No connection available.":
                raise self._exhausted(patience) from error
            raise
        finally:
            self._count(-1)
        return connection

    def _count(self, change: int) -> None:
        with self._counting:
            self._waiting += change

    def _exhausted(self, waited: float | None) -> PoolTimeout:
        now = self.stats()
        # We still count as waiting ourselves.
        return PoolTimeout(
            self.label, waited=waited or 0.0, active=now.active, max=now.max, waiting=now.waiting - 1
        )


def labelled(pool_class: type[Pool], label: str) -> type[Pool]:
    """A pool class whose errors name the connection."""
    return type(pool_class.__name__, (pool_class,), {"label": label})
