"""Probes: in parallel, each within its deadline, and never more than one connection to a server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from katax_cli.core.measure.health import HealthPolicy
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.services.health.probe import HealthChecker, as_dict, ping_ms, probe
from katax_cli.services.runtime.runtime import Runtime
from tests.cli.processes import eventually
from tests.servers.fixtures import MakeFresh, MakeProxy, Target
from tests.servers.proxy import Proxy
from tests.services.profiles import profile

CALM = HealthPolicy(degraded_ms=20_000, unhealthy_ms=30_000)


@pytest.fixture
def door(fresh: MakeFresh, proxy: MakeProxy) -> Proxy:
    return proxy(fresh("redis"))


@pytest.fixture
def runtime(door: Proxy, tmp_path: Path) -> Iterator[Runtime]:
    """A probing runtime with a Redis behind a door, and a SQLite file that is always well."""
    urls = {"cache": door.url, "main": "sqlite:///x.db"}
    with Runtime(profile(tmp_path, urls), probing=True) as opened:
        yield opened


def held_to(port: int) -> int:
    """Connections to a port of this host that their client holds; the proxy hears of their end a moment later."""
    fields = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(remote == f"0100007F:{port:04X}" and state == "01" for _, _, remote, state, *_ in fields)


def checker(runtime: Runtime, **more: Any) -> HealthChecker:
    databases = [runtime.database(name) for name in ("cache", "main")]
    return HealthChecker("test", databases, policy=CALM, **more)


def test_a_probe_of_each_engine(engine: Target, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": engine.url}), probing=True) as opened:
        found = HealthChecker("test", [opened.database("main")], policy=CALM).check(seconds=60)

    health = found.connections["main"]
    assert (found.status, health.status, health.errors) == ("healthy", "healthy", ())
    assert health.latency_ms is not None
    assert health.connect_ms is not None
    assert min(health.latency_ms, health.connect_ms) > 0
    assert health.server["version"]
    assert as_dict(found)["connections"]


def test_the_next_check_uses_the_same_connection(runtime: Runtime, door: Proxy) -> None:
    """Watching for an hour opens one connection, not one for each check."""
    checks = checker(runtime)
    for _ in range(5):
        assert checks.check(seconds=60).status == "healthy"

    assert door.connections == 1


def test_it_comes_back_after_an_outage(runtime: Runtime, door: Proxy) -> None:
    checks = checker(runtime)
    assert checks.check(seconds=60).status == "healthy"
    door.refuse()
    door.cut()
    sick = checks.check(seconds=60)
    door.come_back()

    assert sick.status == "unhealthy"
    assert sick.connections["main"].status == "healthy"
    assert checks.check(seconds=60).status == "healthy"


@pytest.mark.parametrize("name", ["postgresql", "mysql", "redis"])
def test_a_probe_that_hangs_is_not_joined_by_a_second_one(
    name: str, fresh: MakeFresh, proxy: MakeProxy, tmp_path: Path
) -> None:
    """One connection for each server at a time, also where libpq by itself would wait for two seconds."""
    door = proxy(fresh(name))
    door.black_hole()
    at_once: list[int] = []
    with Runtime(profile(tmp_path, {"main": door.url}), probing=True) as opened:
        checks = HealthChecker("test", [opened.database("main")], policy=CALM)
        for _ in range(8):
            assert checks.check(seconds=0.05).status == "unhealthy"
            at_once.append(held_to(door.port))
        door.come_back()
        door.cut()
        assert eventually(lambda: checks.check(seconds=60).status == "healthy")

    assert max(at_once) <= 1 < door.connections


def test_watching_takes_its_time_to_change_its_mind(runtime: Runtime, door: Proxy) -> None:
    """One bad result is an accident, two in a row are not; what is shown of it says so meanwhile: never healthy."""
    steady, hasty = checker(runtime, steady=True), checker(runtime)
    assert steady.check(seconds=60).status == "healthy"
    door.refuse()
    door.cut()

    first = steady.check(seconds=60)
    assert (first.status, bool(first.connections["cache"].errors)) == ("degraded", True)
    assert hasty.check(seconds=60).status == "unhealthy"
    assert steady.check(seconds=60).status == "unhealthy"


def test_a_defect_of_a_probe_is_no_illness_of_the_server(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is shown as what it is, with its type, and the others are checked all the same."""
    broken = runtime.database("cache")

    def fail(**_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(broken, "ping", fail)
    found = checker(runtime).check(seconds=60)

    assert found.connections["cache"].errors == ("internal error of the probe: ZeroDivisionError: by zero",)
    assert found.connections["main"].status == "healthy"


def test_the_failing_step_is_named(runtime: Runtime, door: Proxy) -> None:
    door.refuse()
    health = probe(runtime.database("cache"), CALM, Deadline(30))

    assert [(check.name, check.status) for check in health.checks] == [("connect", "unhealthy")]
    assert health.checks[0].message == health.errors[0]
    assert "'cache' is not available" in health.errors[0]


def test_a_ping_in_milliseconds(runtime: Runtime) -> None:
    assert 0 < ping_ms(runtime.database("main")) < 30_000


def test_nothing_is_healthy(runtime: Runtime) -> None:
    assert HealthChecker("test", [], policy=CALM).check().status == "healthy"
