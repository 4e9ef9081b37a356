"""Deep probes again and again: one connection at a time, the right layer after an outage, nothing left."""

import os
from dataclasses import replace
from pathlib import Path

import psycopg
import pymysql
import pytest
from redis import Redis

from katax_cli.core.measure.health import HealthPolicy
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.health.deep_probe import DeepProbe, deep_prober
from katax_cli.services.health.probe import HealthChecker
from katax_cli.services.runtime.runtime import Runtime
from katax_cli.snapshot import Check, ConnectionHealth
from tests.cli.processes import eventually
from tests.engines.redis.test_topologies import Watched
from tests.engines.redis.test_topologies import watched as watched  # a fixture
from tests.servers import Server
from tests.servers.fixtures import MakeFresh, MakeProxy, Throwaway
from tests.services.profiles import profile
from tests.services.redis.test_topologies import cluster as cluster  # a fixture
from tests.services.redis.test_topologies import masters as masters  # a fixture
from tests.services.redis_database import database_of
from tests.waiting import patiently, until

CALM = HealthPolicy(degraded_ms=20_000, unhealthy_ms=30_000)
ENGINES = ("postgresql", "mysql", "redis")


def first_failing(health: ConnectionHealth) -> str | None:
    assert health.depth is not None
    return health.depth.first_failing_layer


@pytest.mark.parametrize("name", ENGINES)
def test_one_connection_at_a_time_and_the_second_check_reuses_it(
    name: str, fresh: MakeFresh, proxy: MakeProxy, tmp_path: Path
) -> None:
    """The bare one, then the one that logs in; later checks go on with that."""
    door = proxy(fresh(name))
    with Runtime(profile(tmp_path, {"main": door.url}), probing=True) as runtime:
        probe = DeepProbe(runtime.database("main"), CALM)
        found = [probe(Deadline(60)) for _ in range(50)]
        assert {one.status for one in found} == {"healthy"}
        assert door.connections == 2
        until(lambda: door.open_connections == 1)

    until(lambda: door.open_connections == 0)


@pytest.mark.parametrize("name", [*ENGINES, "mongodb"])
def test_the_layer_is_right_when_the_server_goes_between_two_checks(
    name: str, fresh: MakeFresh, proxy: MakeProxy, tmp_path: Path
) -> None:
    door = proxy(fresh(name))
    with Runtime(profile(tmp_path, {"main": door.url}), probing=True) as runtime:
        probe = DeepProbe(runtime.database("main"), CALM)
        assert probe(Deadline(60)).status == "healthy"
        door.refuse()
        door.cut()
        assert first_failing(probe(Deadline(60))) == "tcp"
        door.come_back()
        assert probe(Deadline(60)).status == "healthy"


@pytest.mark.parametrize("name", [*ENGINES, "mongodb"])
def test_a_probe_that_sleeps_ends_in_time(
    name: str, fresh: MakeFresh, proxy: MakeProxy, tmp_path: Path
) -> None:
    door = proxy(fresh(name))
    with Runtime(profile(tmp_path, {"main": door.url}), probing=True) as runtime:
        probe = DeepProbe(runtime.database("main"), CALM)
        assert probe(Deadline(60)).status == "healthy"
        door.stall()
        patiently(lambda seconds: first_failing(probe(Deadline(seconds))) in ("auth", "read"))
        door.resume()
        assert eventually(lambda: probe(Deadline(60)).status == "healthy")


def test_a_refused_login_is_not_followed_by_bare_connections(
    fresh: MakeFresh, proxy: MakeProxy, tmp_path: Path
) -> None:
    """MySQL blocks a host after a hundred of them in a row."""
    door = proxy(fresh("mysql"))
    wrong = door.url.replace("://", "://nobody-", 1)
    with Runtime(profile(tmp_path, {"main": wrong}), probing=True) as runtime:
        probe = DeepProbe(runtime.database("main"), CALM)
        assert [first_failing(probe(Deadline(60))) for _ in range(5)] == ["auth"] * 5

    assert door.connections == 6


def test_no_session_is_left_after_many_probes(postgresql_url: str, tmp_path: Path) -> None:
    """A new probe each time, as of a command that cron starts."""
    with psycopg.connect(postgresql_url, autocommit=True) as witness:

        def sessions() -> int:
            row = witness.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid()"
            ).fetchone()
            return int(row[0]) if row else -1

        chosen = profile(tmp_path, {"main": postgresql_url})
        for _ in range(100):
            with Runtime(chosen, probing=True) as runtime:
                assert DeepProbe(runtime.database("main"), CALM)(Deadline(60)).status == "healthy"
            until(lambda: sessions() <= 2)
        assert eventually(lambda: sessions() == 0)


def deep(folder: Path, url: str) -> ConnectionHealth:
    with Runtime(profile(folder, {"main": url}), probing=True) as runtime:
        return DeepProbe(runtime.database("main"), CALM)(Deadline(60))


def check(health: ConnectionHealth, name: str) -> Check:
    return next(each for each in health.checks if each.name == name)


def test_a_replica_of_redis(throwaway: Throwaway, tmp_path: Path) -> None:
    """It answers pings as before the failover."""
    primary, replica = throwaway("redis"), throwaway("redis")
    with Redis.from_url(replica.url) as admin:
        admin.config_set("masterauth", primary.password)
        admin.replicaof(primary.host, primary.port)
        assert eventually(lambda: admin.info("replication")["master_link_status"] == "up")
        found = deep(tmp_path, replica.url)
        assert first_failing(found) == "write_role"
        assert check(found, "write_role").message == "takes no writes; replica: INFO reports the role slave"
        assert (check(found, "read").status, check(found, "lag").status) == ("healthy", "healthy")
        admin.replicaof("127.0.0.1", 1)
        assert eventually(lambda: admin.info("replication")["master_link_status"] == "down")
        assert "it lost its primary" in (check(deep(tmp_path, replica.url), "write_role").message or "")
        admin.replicaof("NO", "ONE")
        assert deep(tmp_path, replica.url).status == "healthy"


def test_a_read_only_mysql(throwaway: Throwaway, tmp_path: Path) -> None:
    server = throwaway("mysql")
    admin = pymysql.connect(host=server.host, port=server.port, user=server.user, password=server.password)
    with admin, admin.cursor() as cursor:
        cursor.execute("SET GLOBAL read_only = 1")
        found = deep(tmp_path, server.url)

    assert first_failing(found) == "write_role"
    assert check(found, "write_role").message == "takes no writes; replica: read_only is on"


def test_a_file_that_cannot_be_written(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write everything, so the system is asked in its place."""
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)
    found = deep(tmp_path, sqlite_url)

    assert first_failing(found) == "write_role"
    assert "is not writable" in (check(found, "write_role").message or "")


def test_a_user_that_may_not_ask_everything(redis_acl: Server, tmp_path: Path) -> None:
    """What it may not see is left out, and the server is none the worse for it."""
    found = deep(tmp_path, redis_acl.url)

    assert (found.status, first_failing(found)) == ("healthy", None)


def test_a_cluster(cluster: RedisDatabase, masters: list[Server]) -> None:
    """Any of its nodes leads to all of them; one that is gone is told."""
    nowhere = replace(cluster.settings, nodes=(("127.0.0.1", 1), *cluster.settings.nodes))
    whole, damaged = (database_of(settings) for settings in (cluster.settings, nowhere))
    try:
        found, without = (DeepProbe(one, CALM)(Deadline(60)) for one in (whole, damaged))
    finally:
        whole.close()
        damaged.close()

    assert (found.status, len(found.server) > 0) == ("healthy", True)
    assert (check(without, "tcp").status, check(without, "tcp").message) == (
        "degraded",
        "127.0.0.1:1 refused",
    )
    assert check(without, "read").status == "healthy"


def test_behind_sentinel(watched: Watched) -> None:
    """The primary that it names, whichever that is now."""
    database = database_of(watched.settings())
    try:
        found = DeepProbe(database, CALM)(Deadline(60))
    finally:
        database.close()

    assert (found.status, check(found, "write_role").status) == ("healthy", "healthy")


def test_an_old_transaction_is_seen(postgresql_url: str, tmp_path: Path) -> None:
    with psycopg.connect(postgresql_url) as other:
        other.execute("SELECT pg_sleep(0.2)")
        found = deep(tmp_path, postgresql_url)

    assert found.depth is not None
    rooms = {room.name: room for room in found.depth.headroom}
    assert rooms["oldest_transaction"].used >= 0.2
    assert rooms["connections"].used >= 2
    assert 0 < rooms["wraparound_age"].used < (rooms["wraparound_age"].limit or 0)


@pytest.mark.soak
@pytest.mark.parametrize("name", ENGINES)
def test_nothing_is_left_after_a_thousand_probes(
    name: str, fresh: MakeFresh, proxy: MakeProxy, tmp_path: Path
) -> None:
    door = proxy(fresh(name))
    chosen = profile(tmp_path, {"main": door.url})
    for _ in range(1000):
        with Runtime(chosen, probing=True) as runtime:
            assert DeepProbe(runtime.database("main"), CALM)(Deadline(60)).status == "healthy"
    assert door.connections == 2000
    assert eventually(lambda: door.open_connections == 0)


@pytest.mark.soak
def test_memory_is_flat_over_ten_thousand_cycles(closed_port: int, tmp_path: Path) -> None:
    """One server that works and one that does not; threads, descriptors and memory stay as they are."""
    urls = {"main": "sqlite:///x.db", "dead": f"redis://127.0.0.1:{closed_port}/0"}
    chosen = profile(tmp_path, urls)

    def held() -> tuple[int, int]:
        resident = int(Path("/proc/self/statm").read_text().split()[1])
        return resident * 4, len(os.listdir("/proc/self/fd"))

    with Runtime(chosen, probing=True) as runtime:
        checker = HealthChecker(
            "test",
            [runtime.database(each) for each in urls],
            policy=CALM,
            steady=True,
            prober=deep_prober(chosen),
        )
        for _ in range(1000):
            checker.check()
        before = held()
        for _ in range(9000):
            checker.check()
        after = held()

    assert after[0] - before[0] < 2048, "KiB"
    assert after[1] == before[1]


def test_a_pool_that_is_larger_than_the_server(postgresql_url: str, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": postgresql_url}), probing=True) as runtime:
        found = DeepProbe(runtime.database("main"), CALM, pool_max=100_000)(Deadline(60))

    assert found.depth is not None
    assert "the pool may open 100000 connections" in found.depth.recommendations[-1]
