"""Reading from replicas: which one, what when it is gone, and that the primary never stands in."""

from __future__ import annotations

from pathlib import Path

import pytest

from katax_cli.core.settings import ConnectionSettings
from katax_cli.errors import ConfigError, Refused, Unavailable
from katax_cli.services.databases.replicas import Replicas
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.runtime.runtime import Runtime
from tests.cli.harness import katax
from tests.fake_clock import FakeClock
from tests.servers.fixtures import MakeFresh, MakeProxy
from tests.servers.proxy import Proxy
from tests.services.runtimes import OpenRuntime, write_profile

WHERE = "SELECT name FROM here"
NO, USAGE, UNAVAILABLE, REFUSED = 1, 2, 3, 4


class Site:
    """A primary and two stand-ins for its replicas, each of which knows its own name."""

    def __init__(self, name: str, fresh: MakeFresh, proxy: MakeProxy, open_runtime: OpenRuntime) -> None:
        self.names = ("primary", "first", "second")
        self.urls = [fresh(name).url for _ in self.names]
        plain = open_runtime(primary=self.urls[0], first=self.urls[1], second=self.urls[2])
        for each in self.names:
            database = plain.sql(plain.profile.connection(each))
            database.execute("CREATE TABLE here (name VARCHAR(20))")
            database.execute("INSERT INTO here VALUES ($1)", [each])
        self.proxies: list[Proxy] = [proxy(url) for url in self.urls[1:]]
        self.connections = {"url": self.urls[0], "replicas": [wire.url for wire in self.proxies]}

    def open(self, open_runtime: OpenRuntime) -> SqlDatabase:
        runtime = open_runtime(main=self.connections)
        return runtime.sql(runtime.profile.connection("main"))


@pytest.fixture(params=["postgresql", "mysql"])
def site(
    request: pytest.FixtureRequest, fresh: MakeFresh, proxy: MakeProxy, open_runtime: OpenRuntime
) -> Site:
    return Site(request.param, fresh, proxy, open_runtime)


def name_at(database: SqlDatabase) -> object:
    return database.query(WHERE)[0]["name"]


def test_the_lot_decides_and_every_replica_has_its_turn(site: Site, open_runtime: OpenRuntime) -> None:
    dice = iter([0.0, 0.49, 0.5, 0.99])
    runtime = open_runtime(main=site.connections)
    main = runtime.profile.connection("main")
    with Runtime(runtime.profile) as maker:

        def make(settings: ConnectionSettings) -> SqlDatabase:
            return maker.sql(settings)

        replicas = Replicas(main.replicas, make, clock=FakeClock(dice=lambda: next(dice)))
        assert [name_at(replicas.choose()) for _ in range(4)] == ["first", "first", "second", "second"]
        assert [database.name for database in replicas.opened()] == ["main/replica-1", "main/replica-2"]


@pytest.mark.parametrize("gone", [0, 1])
def test_one_that_cannot_be_reached_is_passed_over(site: Site, open_runtime: OpenRuntime, gone: int) -> None:
    site.proxies[gone].refuse()
    database = site.open(open_runtime)
    assert {name_at(database.replica()) for _ in range(8)} == {("second", "first")[gone]}


def test_the_primary_never_stands_in(site: Site, open_runtime: OpenRuntime) -> None:
    for wire in site.proxies:
        wire.refuse()
    database = site.open(open_runtime)
    with pytest.raises(Unavailable, match="main/replica-"):
        database.replica()
    assert name_at(database) == "primary"


def test_a_replica_cannot_be_written_through_us(site: Site, open_runtime: OpenRuntime) -> None:
    replica = site.open(open_runtime).replica()
    with pytest.raises(Refused):
        replica.execute("INSERT INTO here VALUES ('x')")


def test_a_replica_is_closed_with_its_database(site: Site, open_runtime: OpenRuntime) -> None:
    database = site.open(open_runtime)
    replica = database.replica()
    database.close()
    assert (replica.pool.closed, replica.pool_stats().total) == (True, 0)


def test_without_replicas_it_is_a_matter_of_configuration(
    postgresql_url: str, open_runtime: OpenRuntime
) -> None:
    runtime = open_runtime(main=postgresql_url)
    with pytest.raises(ConfigError) as error:
        runtime.sql(runtime.profile.connection("main")).replica()
    assert str(error.value) == "'main' has no replicas; name their urls in its profile under 'replicas'"


def test_on_the_command_line(site: Site, tmp_path: Path) -> None:
    write_profile(tmp_path, main=site.connections)
    query = ("db", "query", "--no-header", "-f", "csv")
    assert katax(*query, WHERE).out == "primary\n"
    assert katax(*query, WHERE, "--replica").out in ("first\n", "second\n")
    assert katax(*query, "INSERT INTO here VALUES ('x')", "--replica").code == REFUSED
    site.proxies[0].refuse()
    assert katax(*query, WHERE, "--replica").out == "second\n"
    site.proxies[1].refuse()
    unreachable = katax(*query, WHERE, "--replica")
    assert (unreachable.code, unreachable.out) == (UNAVAILABLE, "")
    write_profile(tmp_path, main=site.urls[0])
    assert katax(*query, WHERE, "--replica").code == USAGE
    write_profile(tmp_path, main=site.connections, other=site.connections)
    assert katax(*query, WHERE, "--replica", "-c", "*").code == UNAVAILABLE
