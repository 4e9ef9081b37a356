"""From the settings of a connection to a redis-py client: one server, a socket, TLS, Sentinel or Cluster."""

from __future__ import annotations

from typing import Any, cast

from redis.client import Redis
from redis.connection import AbstractConnection

from katax_cli.engines.redis.connection import UnixConnection
from katax_cli.engines.redis.plan import ClientPlan
from katax_cli.engines.redis.pool import WaitingPool


def client(plan: ClientPlan) -> Any:
    """A client that has not connected yet."""
    settings = plan.settings
    if settings.topology == "single":
        return _single(plan)
    from katax_cli.engines.redis import topologies

    return topologies.sentinel(plan) if settings.topology == "sentinel" else topologies.cluster(plan)


def _single(plan: ClientPlan) -> Redis:
    settings = plan.settings
    socket = plan.socket or settings.socket
    pool_class = plan.pool_of(WaitingPool)
    if socket:
        connection_class: type[AbstractConnection] = plan.class_of(UnixConnection)
        where: dict[str, Any] = {"path": socket, "socket_connect_timeout": settings.connect_timeout}
    else:
        connection_class = plan.connection_class()
        where = {"host": settings.host or "localhost", "port": settings.port or 6379, **plan.network()}
    return Redis.from_pool(pool_class(connection_class=connection_class, **where, **plan.single_options()))


def open_one(client: Any) -> None:
    """Opens, and so logs in, one connection of the client's pool (a cluster's nodes were asked already)."""
    if isinstance(client, Redis):
        pool = client.connection_pool
        pool.release(pool.get_connection())


def pools(client: Any) -> list[WaitingPool]:
    """The pools of a client: one, or one for each node of a cluster."""
    if isinstance(client, Redis):
        return [cast("WaitingPool", client.connection_pool)]
    return [node.redis_connection.connection_pool for node in client.get_nodes() if node.redis_connection]
