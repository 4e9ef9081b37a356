"""Redis Cluster and Sentinel, with real nodes."""

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from katax_cli.core.resilience.failure import FailureKind
from katax_cli.core.settings import ConnectionSettings, PoolSettings, Secret
from katax_cli.engines.redis import RedisEngine, create
from katax_cli.errors import ConfigError, PoolTimeout, Refused
from tests.engines.redis.test_engine import failure_of, settings_of
from tests.servers import Server
from tests.servers.fixtures import Throwaway
from tests.servers.rooms import free_port

SLOTS = 16384


def until(condition: Callable[[], Any]) -> Any:
    """Waits for a true answer; pytest's timeout ends it."""
    while True:
        with contextlib.suppress(Exception):
            if answer := condition():
                return answer
        time.sleep(0.02)


@contextlib.contextmanager
def opened(settings: ConnectionSettings) -> Iterator[tuple[RedisEngine, Any]]:
    engine = create(settings)
    client = engine.connect(60.0)
    try:
        yield engine, client
    finally:
        engine.close(client)


def tell(server: Server, *command: str | int) -> Any:
    with opened(settings_of(server.url)) as (engine, client):
        return engine.command(client, *command, timeout=60.0)


# --- cluster ---


def cluster_node() -> dict[str, str]:
    """The usual bus port is 10,000 above the node's own, where outgoing connections of others sit."""
    return {"cluster-enabled": "yes", "cluster-port": str(free_port()), "databases": "1"}


@pytest.fixture
def nodes(throwaway: Throwaway) -> list[Server]:
    """Two primaries that share the slots."""
    servers = [throwaway("redis", full=True, settings=cluster_node()) for _ in range(2)]
    half = SLOTS // 2
    for server, slots in zip(servers, (range(half), range(half, SLOTS)), strict=True):
        tell(server, "CLUSTER", "ADDSLOTS", *slots)
    (_, bus_port) = tell(servers[1], "CONFIG", "GET", "cluster-port")
    tell(servers[0], "CLUSTER", "MEET", servers[1].host, servers[1].port, bus_port)
    until(lambda: all(b"cluster_state:ok" in tell(server, "CLUSTER", "INFO") for server in servers))
    until(lambda: all(len(tell(server, "CLUSTER", "SLOTS")) == 2 for server in servers))
    return servers


def cluster_settings(nodes: list[Server], **changes: Any) -> ConnectionSettings:
    return ConnectionSettings(
        "cache",
        "redis",
        password=Secret.of(nodes[0].password) if nodes[0].password else None,
        topology="cluster",
        nodes=tuple((node.host, node.port) for node in nodes),
        **changes,
    )


def test_a_cluster_finds_every_key(nodes: list[Server]) -> None:
    with opened(cluster_settings(nodes[:1])) as (engine, client):
        for number in range(20):
            assert engine.command(client, "SET", f"k{number}", number, timeout=60.0) == b"OK"
        values = [engine.command(client, "GET", f"k{number}", timeout=60.0) for number in range(20)]
        assert values == [str(number).encode() for number in range(20)]
        assert engine.command(client, "PING", timeout=60.0) in (b"PONG", True)
        # The client itself converts, as its users expect.
        assert client.set("k0", "x") is True
    assert all(tell(node, "DBSIZE") > 0 for node in nodes)


def test_a_command_that_a_cluster_does_not_know_is_rejected(nodes: list[Server]) -> None:
    with opened(cluster_settings(nodes)) as (engine, client):
        kind, message = failure_of(engine, lambda: engine.command(client, "flush", "all", timeout=60.0))
    assert kind is FailureKind.REJECTED
    assert "FLUSH command doesn't exist" in message


def test_a_cluster_reports_itself_and_its_pools(nodes: list[Server]) -> None:
    with opened(cluster_settings(nodes, pool=PoolSettings(max=3))) as (engine, client):
        engine.ping(client, 5.0)
        facts = engine.server(client, 5.0)
        assert facts["version"] == nodes[0].version
        assert facts["mode"] == "cluster"
        stats = engine.pool_stats(client)
        assert stats.max == 6
        assert stats.active == 0
        assert 1 <= stats.total <= 6


def test_a_closed_cluster_is_connected_to_no_node(nodes: list[Server]) -> None:
    """As soon as it is closed, though it still exists: not when it is collected."""
    with opened(cluster_settings(nodes)) as (engine, client):
        engine.serving(client, 60.0)
        assert engine.opened(client) >= len(nodes)
    for node in nodes:
        with contextlib.closing(Redis.from_url(node.url)) as admin:
            until(lambda: len(admin.client_list(_type="normal")) == 1)
    assert engine.pool_stats(client).total == 0


def test_a_cluster_connects_through_the_node_that_is_there(nodes: list[Server], closed_port: int) -> None:
    settings = cluster_settings(nodes)
    ahead = (("127.0.0.1", closed_port), *settings.nodes)
    with opened(
        cluster_settings(
            nodes,
        )
    ) as (engine, client):
        assert engine.command(client, "SET", "k", "v", timeout=60.0) == b"OK"
    from dataclasses import replace

    with opened(replace(settings, nodes=ahead)) as (engine, client):
        assert engine.command(client, "SET", "k", "v", timeout=60.0) == b"OK"


def test_a_read_only_cluster_is_guarded_on_every_node(nodes: list[Server]) -> None:
    with opened(cluster_settings(nodes, read_only=True)) as (engine, client):
        for number in range(10):
            assert engine.command(client, "GET", f"k{number}", timeout=60.0) is None
            with pytest.raises(Refused):
                engine.command(client, "SET", f"k{number}", 1, timeout=60.0)
        with pytest.raises(Refused):
            client.set("k", "v")
    assert [tell(node, "DBSIZE") for node in nodes] == [0, 0]


def test_a_cluster_of_nobody_is_unreachable(closed_port: int) -> None:
    engine = create(
        ConnectionSettings("cache", "redis", topology="cluster", nodes=(("127.0.0.1", closed_port),))
    )
    assert failure_of(engine, lambda: engine.connect(60.0))[0] is FailureKind.UNREACHABLE


def test_a_single_server_is_no_cluster(redis_server: Server) -> None:
    engine = create(cluster_settings([redis_server]))
    assert failure_of(engine, lambda: engine.connect(60.0))[0] is FailureKind.CONFIGURATION


def test_a_wrong_password_of_a_cluster_is_authentication(nodes: list[Server]) -> None:
    engine = create(replace(cluster_settings(nodes), password=Secret.of("wr0ng-s3cr3t")))
    for node in nodes:
        tell(node, "CONFIG", "RESETSTAT")
    kind, message = failure_of(engine, lambda: engine.connect(60.0))
    assert kind is FailureKind.AUTHENTICATION
    assert "wr0ng-s3cr3t" not in message
    assert sum(failed_logins(node) for node in nodes) == 1


def failed_logins(node: Server) -> int:
    return int(b"cmdstat_auth:" in (told := tell(node, "INFO", "commandstats"))) and int(
        told.split(b"cmdstat_auth:")[1].split(b"failed_calls=")[1].split()[0]
    )


def test_a_cluster_has_one_database(nodes: list[Server]) -> None:
    engine = create(cluster_settings(nodes, database="1"))
    with pytest.raises(ConfigError) as error:
        engine.connect(60.0)
    assert str(error.value) == "'cache' has the database '1'; a cluster has only 0"


def test_a_node_that_dies_is_told(nodes: list[Server]) -> None:
    with opened(cluster_settings(nodes)) as (engine, client):
        for number in range(20):
            engine.command(client, "SET", f"k{number}", number, timeout=60.0)
        nodes[1].kill()
        kinds = {
            failure.value
            for number in range(20)
            if (failure := _kind_of_set(engine, client, f"k{number}")) is not None
        }
    assert kinds <= {"unreachable", "lost"}
    assert kinds


def _kind_of_set(engine: RedisEngine, client: Any, key: str) -> FailureKind | None:
    try:
        engine.command(client, "SET", key, 1, timeout=60.0)
    except Exception as error:  # noqa: BLE001
        return engine.classify(error).kind
    return None


# --- sentinel ---


@dataclass
class Watched:
    """A primary, its replica, and the Sentinel that watches them."""

    primary: Server
    replica: Server
    address: tuple[str, int]
    sentinel: Server

    def settings(self, **changes: Any) -> ConnectionSettings:
        given: dict[str, Any] = {
            "password": Secret.of(self.primary.password),
            "topology": "sentinel",
            "nodes": (self.address,),
            "service": "mymaster",
            "database": "3",
        }
        return ConnectionSettings("cache", "redis", **{**given, **changes})


@pytest.fixture
def watched(throwaway: Throwaway, tmp_path: Path) -> Iterator[Watched]:
    primary = throwaway("redis", settings={"masterauth": "s3cr3t-katax-re"})
    replica = throwaway("redis", settings={"masterauth": "s3cr3t-katax-re", "repl-diskless-sync-delay": "0"})
    tell(replica, "REPLICAOF", primary.host, primary.port)
    until(lambda: b"master_link_status:up" in tell(replica, "INFO", "replication"))
    port = free_port()
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\n"
        f"sentinel monitor mymaster {primary.host} {primary.port} 1\n"
        f"sentinel auth-pass mymaster {primary.password}\n"
        "sentinel down-after-milliseconds mymaster 600000\nsentinel failover-timeout mymaster 2000\n"
    )
    assert primary.tools
    process = subprocess.Popen(
        [str(primary.tools / "redis-server"), str(configuration), "--sentinel"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    sentinel = Server(engine="redis", url=f"redis://127.0.0.1:{port}", version="", source="sentinel")
    try:
        until(lambda: tell(sentinel, "SENTINEL", "REPLICAS", "mymaster"))
        yield Watched(primary, replica, ("127.0.0.1", port), sentinel)
    finally:
        process.kill()
        process.wait()


def test_sentinel_names_the_primary(watched: Watched) -> None:
    with opened(watched.settings(pool=PoolSettings(max=1, timeout=0.1))) as (engine, client):
        assert engine.command(client, "SET", "k", "v", timeout=60.0) == b"OK"
        assert engine.command(client, "GET", "k", timeout=60.0) == b"v"
        assert engine.server(client, 5.0)["role"] == "master"
        assert b" db=3 " in engine.command(client, "CLIENT", "LIST", timeout=60.0)
        stats = engine.pool_stats(client)
        assert (stats.max, stats.total, stats.active, stats.idle) == (1, 1, 0, 1)
        held = client.connection_pool.get_connection()
        with pytest.raises(PoolTimeout):
            engine.command(client, "PING", timeout=60.0)
        client.connection_pool.release(held)
        assert engine.command(client, "PING", timeout=60.0) == b"PONG"


def test_after_a_failover_the_new_primary_is_used(watched: Watched) -> None:
    with opened(watched.settings()) as (engine, client):
        engine.command(client, "SET", "k", "v", timeout=60.0)
        until(lambda: tell(watched.primary, "WAIT", 1, 1000) == 1)
        watched.primary.kill()
        # Not before: a primary that is slow to answer must not be taken for one that is gone.
        tell(watched.sentinel, "SENTINEL", "SET", "mymaster", "down-after-milliseconds", 300)
        assert until(lambda: engine.command(client, "SET", "k", "w", timeout=60.0)) == b"OK"
        assert engine.server(client, 5.0)["role"] == "master"
        where = client.connection_pool.get_connection()
        assert where.port == watched.replica.port
        client.connection_pool.release(where)


def test_read_only_holds_behind_sentinel(watched: Watched) -> None:
    with opened(watched.settings(read_only=True)) as (engine, client):
        assert engine.command(client, "GET", "k", timeout=60.0) is None
        with pytest.raises(Refused):
            engine.command(client, "SET", "k", "v", timeout=60.0)


def test_a_service_that_sentinel_does_not_know_is_unreachable(watched: Watched) -> None:
    engine = create(watched.settings(service="other"))
    kind, message = failure_of(engine, lambda: engine.connect(60.0))
    assert kind is FailureKind.UNREACHABLE
    assert message == "No master found for 'other'"


def test_no_sentinel_there_is_unreachable(closed_port: int) -> None:
    settings = ConnectionSettings(
        "cache", "redis", topology="sentinel", nodes=(("127.0.0.1", closed_port),), service="mymaster"
    )
    engine = create(settings)
    assert failure_of(engine, lambda: engine.connect(60.0))[0] is FailureKind.UNREACHABLE


def test_sentinel_needs_a_service() -> None:
    settings = ConnectionSettings("cache", "redis", topology="sentinel", nodes=(("127.0.0.1", 1),))
    with pytest.raises(ConfigError) as error:
        create(settings).connect(1.0)
    assert str(error.value) == "'cache' names no service; expected sentinel://host:26379/SERVICE"
