"""Clients of more than one server: the primary that Sentinels name, and Redis Cluster."""

from __future__ import annotations

from contextlib import nullcontext
from contextvars import ContextVar
from typing import Any

from redis.client import CaseInsensitiveDict, Redis
from redis.cluster import ClusterNode, RedisCluster
from redis.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from katax_cli.engines.redis.connection import OneRoundTrip
from katax_cli.engines.redis.plan import ClientPlan, is_encrypted, no_retry
from katax_cli.engines.redis.pool import WaitingPool
from katax_cli.errors import ConfigError


class SentinelTcpConnection(OneRoundTrip, SentinelManagedConnection):
    """To the primary that the Sentinels name."""


class SentinelTlsConnection(OneRoundTrip, SentinelManagedSSLConnection):
    """The same over TLS."""


class SentinelPool(SentinelConnectionPool, WaitingPool):
    """Sentinel's pool, which waits and counts as ours does."""


def sentinel(plan: ClientPlan) -> Redis:
    """A client of the primary named by the Sentinels; after a failover new connections go to the new one.

    The profile's login is the servers'; Sentinels with a login of their own take it from the URL's options
    `sentinel_user` and `sentinel_password`.
    """
    settings = plan.settings
    if not settings.service:
        raise ConfigError(f"{settings.name!r} names no service; expected sentinel://host:26379/SERVICE")
    connection_class: type[OneRoundTrip] = (
        SentinelTlsConnection if is_encrypted(settings) else SentinelTcpConnection
    )
    manager = Sentinel(settings.nodes, sentinel_kwargs=_sentinel_options(plan))
    client: Redis = manager.master_for(
        settings.service,
        connection_pool_class=plan.pool_of(SentinelPool),
        connection_class=plan.class_of(connection_class),
        **plan.network(),
        **plan.single_options(),
    )
    return client


def _sentinel_options(plan: ClientPlan) -> dict[str, Any]:
    settings = plan.settings
    return {
        "username": settings.options.get("sentinel_user"),
        "password": settings.options.get("sentinel_password"),
        "socket_timeout": settings.connect_timeout,
        "ssl": is_encrypted(settings),
        "protocol": 2,
        "driver_info": None,
        "retry": no_retry(),
        **plan.network(),
    }


_as_sent: ContextVar[bool] = ContextVar("redis_replies_as_sent", default=False)


class _Callbacks(CaseInsensitiveDict):
    """redis-py's conversions of replies, out of sight while a reply is wanted as it was sent."""

    def __contains__(self, name: object) -> bool:
        return not _as_sent.get() and super().__contains__(name)


class ClusterClient(RedisCluster):
    """A cluster client that can also give replies as the server sent them."""

    def raw(self, *command: Any) -> Any:
        """Runs one command on the node that its keys are on, or on the nodes that redis-py sends it to."""
        name = command[0].decode() if isinstance(command[0], bytes) else command[0]
        token = _as_sent.set(True)
        try:
            return self.execute_command(name, *command[1:])
        finally:
            _as_sent.reset(token)

    def _get_command_keys(self, *command: Any) -> Any:
        # For a command that it does not know, redis-py asks for the server's table and reads it itself.
        token = _as_sent.set(False)
        try:
            return super()._get_command_keys(*command)
        finally:
            _as_sent.reset(token)

    def get_redis_connection(self, node: ClusterNode) -> Redis:
        redis = super().get_redis_connection(node)
        if not isinstance(redis.response_callbacks, _Callbacks):
            redis.response_callbacks = _Callbacks(redis.response_callbacks)
        return redis

    def close(self) -> None:
        """Closes the nodes' pools too: redis-py leaves those that it made from a URL to the garbage collector."""
        self.disconnect_connection_pools()
        super().close()


def cluster(plan: ClientPlan) -> ClusterClient:
    """A cluster client; asks the nodes of the profile, in their order, for the others. Redirects are followed."""
    settings = plan.settings
    if settings.database not in (None, "", "0"):
        raise ConfigError(f"{settings.name!r} has the database {settings.database!r}; a cluster has only 0")
    (host, port), *others = settings.nodes
    options = plan.options()
    login = options["credential_provider"]
    with login.at_most_once() if login else nullcontext():
        # Only with a URL does redis-py make the nodes' pools from the classes that it is given.
        return ClusterClient(
            url=f"redis://{host}:{port}",
            startup_nodes=[ClusterNode(*other) for other in others],
            retry=no_retry(),
            connection_pool_class=plan.pool_of(WaitingPool),
            connection_class=plan.connection_class(),
            **plan.network(),
            **options,
        )
