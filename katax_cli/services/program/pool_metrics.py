"""The use of a pool, katax's own or a foreign one; no foreign library is imported to find out.

A foreign pool can only be met where its library is loaded, so types are told by the modules of their classes.
Counters that a library does not publish are read from its pool's own state, never from the server.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import methodcaller
from typing import Any, TypeGuard

from katax_cli.core.pooling.pool import Pool
from katax_cli.services.databases.database import Database
from katax_cli.snapshot import PoolStats

KNOWN = (
    "katax's databases and pools, psycopg_pool, SQLAlchemy engines and pools, redis-py clients and pools, "
    "pymongo clients, sqlite3 connections"
)


class MetricsPool:
    """A pool that says how full it is; everything else of it is as before."""

    def __init__(self, pool: Any, read: Callable[[Any], PoolStats]) -> None:
        self.pool = pool
        self._read = read

    def get_metrics(self) -> PoolStats:
        """The pool at this moment, without a round trip."""
        return self._read(self.pool)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["pool"], name)

    def __repr__(self) -> str:
        return f"<MetricsPool of a {type(self.pool).__name__}>"


def create_metrics_pool(pool: Any) -> MetricsPool:
    """The pool with `get_metrics()`; the pool itself is not changed. Raises TypeError for an unknown kind."""
    if isinstance(pool, MetricsPool):
        return pool
    return MetricsPool(pool, reader_of(pool))


def is_metrics_pool(pool: object) -> TypeGuard[MetricsPool]:
    """True if it has `get_metrics()`."""
    return callable(getattr(pool, "get_metrics", None))


def reader_of(pool: object) -> Callable[[Any], PoolStats]:
    """The function that reads this kind of pool. Raises TypeError for an unknown kind."""
    if isinstance(pool, Database):
        return methodcaller("pool_stats")
    if isinstance(pool, Pool):
        return Pool.stats
    for kind in type(pool).__mro__:
        reader = _READERS.get((kind.__module__.partition(".")[0], kind.__name__))
        if reader is not None:
            return reader
    raise TypeError(f"a {type(pool).__name__} has no pool metrics; they exist for {KNOWN}")


def in_use(pool: object) -> int:
    """Connections that are out and will come back; 0 for what is no pool.

    A sqlite3 connection is always in use, by its caller.
    """
    try:
        read = reader_of(pool)
    except TypeError:
        return 0
    return 0 if read is _sqlite_connection else read(pool).active


def _psycopg_pool(pool: Any) -> PoolStats:
    stats = pool.get_stats()
    total, idle = stats["pool_size"], stats["pool_available"]
    waiting = stats.get("requests_waiting", 0)
    return PoolStats(stats["pool_max"], total=total, active=total - idle, idle=idle, waiting=waiting)


def _sqlalchemy_engine(engine: Any) -> PoolStats:
    return reader_of(engine.pool)(engine.pool)


def _sqlalchemy_queue(pool: Any) -> PoolStats:
    """`max` is 0 for a pool without a limit, as in psycopg_pool."""
    idle, active = pool.checkedin(), pool.checkedout()
    limit = 0 if pool._max_overflow < 0 else pool.size() + pool._max_overflow
    waiting = _waiters(getattr(getattr(pool, "_pool", None), "not_empty", None))
    return PoolStats(limit, total=idle + active, active=active, idle=idle, waiting=waiting)


def _redis_client(client: Any) -> PoolStats:
    return reader_of(client.connection_pool)(client.connection_pool)


def _redis_cluster(cluster: Any) -> PoolStats:
    return _sum([_redis_node(node) for node in cluster.get_nodes()])


def _redis_node(node: Any) -> PoolStats:
    if hasattr(node, "redis_connection"):
        client = node.redis_connection
        return PoolStats(0, total=0, active=0, idle=0, waiting=0) if client is None else _redis_client(client)
    # redis.asyncio's nodes are pools themselves.
    total, idle = len(node._connections), len(node._free)
    return PoolStats(node.max_connections, total=total, active=total - idle, idle=idle, waiting=0)


def _redis_pool(pool: Any) -> PoolStats:
    """Connections that were made and broke off since count as there: the next user opens them again."""
    idle, active = len(pool._get_free_connections()), len(pool._get_in_use_connections())
    # The second is that of redis.asyncio.
    condition = getattr(getattr(pool, "pool", None), "not_empty", getattr(pool, "_condition", None))
    return PoolStats(
        pool.max_connections, total=idle + active, active=active, idle=idle, waiting=_waiters(condition)
    )


def _pymongo_client(client: Any) -> PoolStats:
    """Over the pools of all servers; the connections of the driver's monitor belong to none."""
    servers = list(client._topology._servers.values()) if client._topology is not None else []
    return _sum([_pymongo_pool(server.pool) for server in servers])


def _pymongo_pool(pool: Any) -> PoolStats:
    idle, active = len(pool.conns), pool.active_sockets
    limit = 0 if pool.max_pool_size == float("inf") else int(pool.max_pool_size)
    waiting = _waiters(pool.size_cond)
    return PoolStats(limit, total=idle + active, active=active, idle=idle, waiting=waiting)


def _waiters(condition: object) -> int:
    return len(getattr(condition, "_waiters", ()))


def _sqlite_connection(_connection: object) -> PoolStats:
    """One connection, always in use by its holder."""
    return PoolStats(max=1, total=1, active=1, idle=0, waiting=0)


def _sum(pools: list[PoolStats]) -> PoolStats:
    return PoolStats(
        max=sum(pool.max for pool in pools),
        total=sum(pool.total for pool in pools),
        active=sum(pool.active for pool in pools),
        idle=sum(pool.idle for pool in pools),
        waiting=sum(pool.waiting for pool in pools),
    )


_READERS: dict[tuple[str, str], Callable[[Any], PoolStats]] = {
    ("psycopg_pool", "BasePool"): _psycopg_pool,
    ("sqlalchemy", "Engine"): _sqlalchemy_engine,
    ("sqlalchemy", "AsyncEngine"): lambda engine: _sqlalchemy_engine(engine.sync_engine),
    ("sqlalchemy", "QueuePool"): _sqlalchemy_queue,
    ("redis", "Redis"): _redis_client,
    ("redis", "RedisCluster"): _redis_cluster,
    ("redis", "ConnectionPool"): _redis_pool,
    ("pymongo", "MongoClient"): _pymongo_client,
    ("pymongo", "AsyncMongoClient"): _pymongo_client,
    ("sqlite3", "Connection"): _sqlite_connection,
}
