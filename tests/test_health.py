"""The public face of health checks and query metrics, on real servers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from katax_cli import health
from katax_cli.core.measure.health import HealthPolicy
from katax_cli.core.resilience.breaker import CallBreaker
from katax_cli.errors import ConfigError
from katax_cli.health import (
    HealthCheckResult,
    HealthMonitor,
    check_database_health,
    get_metrics,
    has_database_metrics,
    perform_health_check,
)
from katax_cli.pool import create_metrics_pool
from katax_cli.services.databases.database import Database
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.runtime.runtime import Runtime
from katax_cli.services.state.reporter import report
from katax_cli.services.state.store import StateStore
from katax_cli.snapshot import PoolStats
from tests.servers.fixtures import Target
from tests.services.profiles import profile
from tests.waiting import until

PATIENCE = 60.0


@pytest.fixture
def db(engine: Target, tmp_path: Path) -> Iterator[Database]:
    """A database of each engine, through the pool and breaker of a program that lives on."""
    with Runtime(profile(tmp_path, {"main": engine.url})) as runtime:
        yield runtime.database("main")


@pytest.fixture(autouse=True)
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of a busy machine is slow, not sick."""
    monkeypatch.setattr(health, "_POLICY", HealthPolicy(degraded_ms=20_000, unhealthy_ms=30_000))
    monkeypatch.setattr(health, "PROBE_SECONDS", PATIENCE)


@pytest.fixture
def dead(closed_port: int, tmp_path: Path) -> Iterator[Database]:
    with Runtime(profile(tmp_path, {"main": f"postgresql://127.0.0.1:{closed_port}/x"})) as runtime:
        yield runtime.database("main")


@pytest.fixture
def sqlite(sqlite_url: str, tmp_path: Path) -> Iterator[SqlDatabase]:
    with Runtime(profile(tmp_path, {"main": sqlite_url})) as runtime:
        yield cast(SqlDatabase, runtime.database("main"))


def test_a_server_that_works(db: Database) -> None:
    result = check_database_health(db)

    assert result.status == "healthy"
    assert [check.name for check in result.checks] == ["connect", "ping", "write_role"]
    assert result.errors == ()
    assert result.error is None
    assert result.metrics.check_latency_ms is not None
    assert result.metrics.pool is not None
    assert result.metrics.pool.total >= 1
    assert result.details == {}
    assert result.timestamp.tzinfo is not None


def test_a_verbose_check_says_what_server_it_is(db: Database) -> None:
    details = perform_health_check(db, verbose=True).details

    assert set(details) == {"server", "recommendations"}
    assert cast(dict[str, object], details["server"])["version"]


class Heard:
    """A logger of somebody else's."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.errors: list[str] = []

    def warning(self, msg: str) -> None:
        self.warnings.append(msg)

    def error(self, msg: str) -> None:
        self.errors.append(msg)


def test_a_server_that_is_gone(dead: Database) -> None:
    heard = Heard()
    result = perform_health_check(dead, logger=heard)

    assert (result.status, result.healthy) == ("unhealthy", False)
    assert result.metrics.check_latency_ms is None
    assert result.error is not None
    assert "127.0.0.1" in result.error
    assert heard.warnings == [f"'main' is unhealthy: {result.error}"]


def test_health_is_asked_past_an_open_breaker(sqlite: SqlDatabase) -> None:
    breaker = sqlite.guard.breaker
    assert isinstance(breaker, CallBreaker)
    breaker.force_open()

    assert check_database_health(sqlite).healthy
    assert sqlite.health_check()
    assert breaker.is_open()


def test_failed_checks_open_no_breaker_and_are_made_once(dead: Database) -> None:
    for _ in range(10):
        assert not dead.health_check()

    assert dead.guard.breaker is not None
    assert dead.guard.breaker.get_state().failures == 0


def test_another_pool_is_shown_instead(sqlite: SqlDatabase) -> None:
    class Pool:
        def get_metrics(self) -> PoolStats:
            return PoolStats(7, 5, 4, 1, 3)

    assert check_database_health(sqlite, Pool()).metrics.pool == PoolStats(7, 5, 4, 1, 3)
    assert get_metrics(sqlite, pool=Pool()).connections.waiting == 3
    assert check_database_health(sqlite, create_metrics_pool(sqlite)).metrics.pool == sqlite.pool_stats()


class TestMetrics:
    def test_what_was_run_is_counted(self, sqlite: SqlDatabase) -> None:
        for _ in range(3):
            sqlite.query("SELECT 1")

        found = get_metrics(sqlite, period=60.0, slow_ms=0.0)

        assert (found.period, found.queries.total, found.queries.slow_count) == (60.0, 3, 3)
        assert found.connections == sqlite.pool_stats()
        assert found.recommendations[0].startswith("3 of 3 queries were slow")

    def test_nothing_is_asked_of_the_server(self, dead: Database) -> None:
        found = get_metrics(dead)

        assert (found.queries.total, found.connections.total, found.recommendations) == (0, 0, ())

    def test_the_size_of_the_pool_is_judged_when_the_limit_is_known(self, sqlite: SqlDatabase) -> None:
        (said,) = get_metrics(sqlite, max_connections=43, instances=4).recommendations

        assert said == (
            "the pool may open 20 connections, but the server has 10 for each of 4 instances "
            "(43 − 3 reserved); lower pool.max"
        )

    def test_what_counts_nothing_has_no_metrics(self, sqlite: SqlDatabase) -> None:
        assert has_database_metrics(sqlite)
        assert not has_database_metrics(object())
        sqlite.keep_metrics(0)
        assert not has_database_metrics(sqlite)
        with pytest.raises(ConfigError) as error:
            get_metrics(sqlite)
        assert str(error.value) == (
            "get_metrics needs a database of katax whose calls are counted; see keep_metrics"
        )


def monitors() -> list[threading.Thread]:
    """The threads that watch a database `main`."""
    return [each for each in threading.enumerate() if each.name == "katax-health-main"]


class TestMonitor:
    """HealthMonitor."""

    def test_it_checks_again_and_again_until_it_is_stopped(self, sqlite: SqlDatabase) -> None:
        monitor = HealthMonitor(sqlite, interval=0.01)
        seen: list[HealthCheckResult] = []
        enough = threading.Event()

        def on_check(result: HealthCheckResult) -> None:
            seen.append(result)
            if len(seen) == 3:
                enough.set()

        until(lambda: monitors() == [])
        assert (monitor.is_running(), monitor.get_last_check()) == (False, None)
        monitor.start(on_check)
        assert monitor.is_running()
        (thread,) = monitors()
        assert thread.daemon
        assert enough.wait(PATIENCE)
        monitor.stop()
        assert not monitor.is_running()
        thread.join(PATIENCE)
        assert not thread.is_alive()
        count = len(seen)
        assert monitor.get_last_check() is not None
        assert len(seen) == count

    def test_an_exception_in_the_callback_is_logged_and_it_goes_on(self, sqlite: SqlDatabase) -> None:
        heard, calls, enough = Heard(), list[int](), threading.Event()

        def on_check(_result: HealthCheckResult) -> None:
            calls.append(1)
            if len(calls) == 2:
                enough.set()
            raise ZeroDivisionError("oops")

        monitor = HealthMonitor(sqlite, interval=0.01, logger=heard)
        monitor.start(on_check)
        assert enough.wait(PATIENCE)
        monitor.stop()

        assert heard.errors[0] == "the health monitor of 'main' goes on after ZeroDivisionError: oops"

    def test_two_checks_never_overlap(self, sqlite: SqlDatabase) -> None:
        monitor = HealthMonitor(sqlite, interval=0.001)
        running: list[int] = []
        overlaps: list[int] = []
        probe = sqlite.engine.ping

        def counted(connection: object, timeout: float | None) -> None:
            running.append(1)
            overlaps.append(len(running))
            probe(connection, timeout)
            running.pop()

        sqlite.engine.ping = counted  # type: ignore[method-assign]
        monitor.start()
        made = 0
        while made < 50 or len(overlaps) == made:
            monitor.check_now()
            made += 1
        monitor.stop()

        assert max(overlaps) == 1

    def test_started_twice_it_runs_once_and_stopped_it_starts_again(self, sqlite: SqlDatabase) -> None:
        monitor = HealthMonitor(sqlite, interval=PATIENCE)
        for _ in range(2):
            monitor.start()
            monitor.start()
            # The one that was stopped may still be on its way out.
            until(lambda: len(monitors()) == 1)
            monitor.stop()

    def test_it_can_be_stopped_from_its_own_callback(self, sqlite: SqlDatabase) -> None:
        monitor, stopped = HealthMonitor(sqlite, interval=0.01), threading.Event()

        def on_check(_result: HealthCheckResult) -> None:
            monitor.stop()
            stopped.set()

        monitor.start(on_check)
        assert stopped.wait(PATIENCE)
        assert not monitor.is_running()

    def test_results_are_kept_where_the_runtime_reports(self, sqlite_url: str, tmp_path: Path) -> None:
        made, enough = profile(tmp_path, {"main": sqlite_url}), threading.Event()
        with Runtime(made) as runtime:
            monitor = HealthMonitor(
                runtime.database("main"), interval=0.01, reporter=report(runtime, "tests")
            )
            monitor.start(lambda _result: enough.set())
            assert enough.wait(PATIENCE)
            monitor.stop()

        with StateStore(made) as store:
            kept = store.health()[0]
        assert (kept.connection, kept.status, kept.message) == ("main", "healthy", None)
        assert kept.latency_ms is not None
        assert kept.connect_ms is not None

    def test_an_outage_is_seen_and_its_end_too(self, sqlite: SqlDatabase, dead: Database) -> None:
        assert HealthMonitor(dead).check_now().status == "unhealthy"
        assert HealthMonitor(sqlite).check_now().status == "healthy"

    @pytest.mark.parametrize("interval", [0.0, -1.0])
    def test_an_interval_that_is_no_time(self, interval: float, sqlite: SqlDatabase) -> None:
        with pytest.raises(ValueError) as error:
            HealthMonitor(sqlite, interval=interval)
        assert str(error.value) == f"interval is {interval:g}, expected more than 0 seconds"
