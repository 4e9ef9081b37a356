"""Redis (and what speaks its protocol) through redis-py's client and pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

from redis import exceptions
from redis.client import Redis

from katax_cli.core.engine_names import EngineName
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.resilience.failure import Failure
from katax_cli.core.settings import ConnectionSettings
from katax_cli.engines.base import Serving
from katax_cli.engines.redis import batch, connect, failures, guard
from katax_cli.engines.redis.plan import ClientPlan
from katax_cli.engines.redis.time_limits import limited

if TYPE_CHECKING:
    from katax_cli.engines.redis.subscriber import RedisSubscriber
    from katax_cli.snapshot import PoolStats


SLOTS = 16384
"""Of a cluster; each key is in one of them."""


class RedisEngine:
    """Engine, KeyValueEngine, Subscribes, ReportsServer and ReportsServing; those say what the methods promise."""

    name: EngineName = "redis"
    plan_class = ClientPlan

    def __init__(self, settings: ConnectionSettings) -> None:
        self.settings = settings

    def connect(self, timeout: float | None) -> Any:
        """A client whose first connection is open and logged in: one round trip, one login attempt.

        `timeout` also bounds each later answer for which `limited` or `command` say nothing else.
        An embedded server is started when it does not run; raises EmbeddedUnavailable without a server
        binary, Unavailable when it does not start, UntrustedFile when others could have put it there.
        """
        return self._open(timeout, subscriber=False)

    def connect_subscriber(self, timeout: float | None) -> Any:
        """A client for pub/sub alone: `timeout` bounds connecting, messages are waited for without limit.

        TCP keepalive and a ping every 30 s distinguish silence from a dead connection.
        """
        return self._open(timeout, subscriber=True)

    def _open(self, timeout: float | None, *, subscriber: bool) -> Any:
        with limited(timeout):
            plan = self.plan_class(self.settings, timeout, self._embedded_socket(timeout), subscriber)
            client = connect.client(plan)
            try:
                connect.open_one(client)
            except BaseException:
                self.close(client)
                raise
        return client

    def _embedded_socket(self, timeout: float | None) -> str | None:
        if not self.settings.embedded:
            return None
        from katax_cli.engines.redis import embedded

        return str(embedded.ensure(self.settings, timeout))

    def ping(self, connection: Any, timeout: float | None) -> None:
        self.command(connection, "PING", timeout=timeout)

    def close(self, connection: Any) -> None:
        connection.close()

    def classify(self, error: BaseException) -> Failure:
        return failures.classify(error)

    def command(self, client: Any, *args: bytes | str | int | float, timeout: float | None = None) -> Any:
        """The reply as the server sent it."""
        with limited(timeout):
            return batch.command(client, args) if isinstance(client, Redis) else client.raw(*args)

    def pipeline(
        self,
        client: Any,
        commands: Sequence[Sequence[bytes | str | int | float]],
        timeout: float | None = None,
        *,
        tolerant: bool = False,
    ) -> list[Any]:
        with limited(timeout):
            return batch.pipeline(client, commands, tolerant=tolerant)

    def only_reads(self, command: Sequence[bytes | str | int | float]) -> bool:
        return guard.only_reads(command)

    def shards(self, client: Any) -> Sequence[Any]:
        return batch.shards(client)

    def subscriber(self, timeout: float | None) -> RedisSubscriber:
        from katax_cli.engines.redis.subscriber import RedisSubscriber

        return RedisSubscriber(self.connect_subscriber(timeout))

    def limited(self, timeout: float | None) -> AbstractContextManager[None]:
        """Within it, each answer to any call on any client (pipelines, scripts) takes `timeout` at most."""
        return limited(timeout)

    def maintain(self, client: Any, *, fill: bool) -> None:
        for pool in connect.pools(client):
            pool.maintain(self.settings.pool, fill=fill)

    def discard(self, client: Any, before: float) -> None:
        for pool in connect.pools(client):
            pool.discard(before)

    def opened(self, client: Any) -> int:
        return sum(pool.opened for pool in connect.pools(client))

    def pool_stats(self, client: Any) -> PoolStats:
        pools = [pool.stats() for pool in connect.pools(client)]
        sums = (
            sum(getattr(each, part) for each in pools)
            for part in ("max", "total", "active", "idle", "waiting")
        )
        from katax_cli.snapshot import PoolStats

        return PoolStats(*sums)

    def server(self, connection: Any, timeout: float | None = None) -> Mapping[str, object]:
        """Version, role, clients, memory in bytes and uptime in seconds, from one INFO."""
        return server_facts(cast("bytes", self.command(connection, "INFO", timeout=timeout)))

    def serving(self, connection: Any, timeout: float | None = None) -> Serving | None:
        """A cluster's answer about its slots: a cluster in state `fail` serves no key at all.

        A primary that died is found out by asking it: the others take `cluster-node-timeout` to notice.
        """
        if self.settings.topology != "cluster":
            return None
        info = info_fields(cast("bytes", self.command(connection, "CLUSTER", "INFO", timeout=timeout)))
        served = int(info.get("cluster_slots_ok", 0))
        uncovered = f"{SLOTS - served} of {SLOTS} slots are not served" if served < SLOTS else None
        if info.get("cluster_state") != "ok":
            told = f"cluster_state:{info.get('cluster_state', 'unknown')}"
            return Serving("unhealthy", f"{told}; {uncovered}" if uncovered else told)
        if gone := self._silent_primary(connection, timeout):
            return Serving("unhealthy", gone)
        return Serving("degraded", uncovered) if uncovered else Serving("healthy")

    def _silent_primary(self, connection: Any, timeout: float | None) -> str | None:
        """Says which of the primaries that own slots does not answer."""
        from redis.cluster import ClusterNode

        deadline = Deadline(timeout)
        ranges = self.command(connection, "CLUSTER", "SLOTS", timeout=deadline.within(None))
        # redis-py has another name for a node that calls itself localhost.
        owners = {ClusterNode((owner[0] or b"").decode(), owner[1]).name for _, _, owner, *_ in ranges}
        for node in connection.get_primaries():
            if node.name not in owners:
                continue
            deadline.check(self.settings.name, "asking each primary")
            try:
                self.ping(connection.get_redis_connection(node), deadline.within(None))
            except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
                return f"{node.name} does not answer: {error}"
        return None


def server_facts(info: bytes) -> dict[str, object]:
    """The facts of INFO that health reports show; a number where the server sends a number."""
    facts = info_fields(info)
    return {ours: _number(facts[theirs]) for ours, theirs in _FACTS.items() if theirs in facts}


def info_fields(info: bytes) -> dict[str, str]:
    """INFO's text as fields, by the server's names."""
    lines = (line.partition(":") for line in info.decode("utf-8", "replace").splitlines())
    return {key: value for key, colon, value in lines if colon}


_FACTS = {
    "version": "redis_version",
    "role": "role",
    "mode": "redis_mode",
    "uptime_seconds": "uptime_in_seconds",
    "connections": "connected_clients",
    "max_connections": "maxclients",
    "memory_bytes": "used_memory",
    "max_memory_bytes": "maxmemory",
    "replicas": "connected_slaves",
    "primary_link": "master_link_status",
}


def _number(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def create(settings: ConnectionSettings) -> RedisEngine:
    """The engine for one connection; connects nowhere yet."""
    return RedisEngine(settings)
