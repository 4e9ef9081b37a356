"""Deep probes again and again: one connection at a time, the right layer after an outage, nothing left."""

from pathlib import Path

import psycopg
import pytest

from katax_cli.core.deadline import Deadline
from katax_cli.core.health import HealthPolicy
from katax_cli.services.depth import DeepProbe
from katax_cli.services.runtime import Runtime
from katax_cli.snapshot import ConnectionHealth
from tests.cli.processes import eventually
from tests.servers.fixtures import MakeFresh, MakeProxy
from tests.services.profiles import profile

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
        found = [probe(Deadline(30)) for _ in range(50)]
        assert {one.status for one in found} == {"healthy"}
        assert (door.connections, door.open_connections) == (2, 1)

    assert eventually(lambda: door.open_connections == 0)


@pytest.mark.parametrize("name", ENGINES)
def test_the_layer_is_right_when_the_server_goes_between_two_checks(
    name: str, fresh: MakeFresh, proxy: MakeProxy, tmp_path: Path
) -> None:
    door = proxy(fresh(name))
    with Runtime(profile(tmp_path, {"main": door.url}), probing=True) as runtime:
        probe = DeepProbe(runtime.database("main"), CALM)
        assert probe(Deadline(30)).status == "healthy"
        door.refuse()
        door.cut()
        assert first_failing(probe(Deadline(30))) == "tcp"
        door.come_back()
        assert probe(Deadline(30)).status == "healthy"


@pytest.mark.parametrize("name", ENGINES)
def test_a_probe_that_sleeps_ends_in_time(
    name: str, fresh: MakeFresh, proxy: MakeProxy, tmp_path: Path
) -> None:
    door = proxy(fresh(name))
    with Runtime(profile(tmp_path, {"main": door.url}), probing=True) as runtime:
        probe = DeepProbe(runtime.database("main"), CALM)
        assert probe(Deadline(30)).status == "healthy"
        door.stall()
        assert first_failing(probe(Deadline(0.5))) in ("auth", "read")
        door.resume()
        assert eventually(lambda: probe(Deadline(30)).status == "healthy")


def test_a_refused_login_is_not_followed_by_bare_connections(
    fresh: MakeFresh, proxy: MakeProxy, tmp_path: Path
) -> None:
    """MySQL blocks a host after a hundred of them in a row."""
    door = proxy(fresh("mysql"))
    wrong = door.url.replace("://", "://nobody-", 1)
    with Runtime(profile(tmp_path, {"main": wrong}), probing=True) as runtime:
        probe = DeepProbe(runtime.database("main"), CALM)
        assert [first_failing(probe(Deadline(30))) for _ in range(5)] == ["auth"] * 5

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
                assert DeepProbe(runtime.database("main"), CALM)(Deadline(30)).status == "healthy"
            assert sessions() <= 2
        assert eventually(lambda: sessions() == 0)


def test_a_pool_that_is_larger_than_the_server(postgresql_url: str, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": postgresql_url}), probing=True) as runtime:
        found = DeepProbe(runtime.database("main"), CALM, pool_max=100_000)(Deadline(30))

    assert found.depth is not None
    assert "the pool may open 100000 connections" in found.depth.recommendations[-1]
