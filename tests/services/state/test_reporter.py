"""Long-lived processes: they follow operators, say how they do, and never suffer from the state database."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, cast

import pytest

from katax_cli.core.resilience.breaker import CallBreaker
from katax_cli.errors import BreakerOpen, Unavailable
from katax_cli.profiles.model.model import Profile
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.runtime.decisions import HostCopy
from katax_cli.services.runtime.runtime import Runtime
from katax_cli.services.state.circuits import circuits, decide
from katax_cli.services.state.reporter import Reporter, report
from katax_cli.services.state.store import StateStore
from katax_cli.snapshot import ConnectionHealth, HealthReport
from tests.fake_clock import FakeClock
from tests.servers.fixtures import MakeProxy
from tests.services.profiles import profile
from tests.waiting import until


def reporting() -> list[threading.Thread]:
    """The threads that report for the profile of these tests."""
    return [thread for thread in threading.enumerate() if thread.name == "katax-state-test"]


@pytest.fixture(autouse=True)
def over() -> Iterator[None]:
    """A thread that its runtime left behind has ended before the next test: it writes, and it logs."""
    until(lambda: not reporting())
    yield
    until(lambda: not reporting())


@pytest.fixture
def made(tmp_path: Path) -> Profile:
    return profile(tmp_path, {"main": "sqlite:///x.db", "other": "sqlite:///y.db"})


@pytest.fixture
def runtime(made: Profile) -> Iterator[Runtime]:
    with Runtime(made) as opened:
        yield opened


def breaker(runtime: Runtime, name: str = "main") -> CallBreaker:
    found = runtime.database(name).guard.breaker
    assert found is not None
    return found


class MakeReporter(Protocol):
    """Makes a reporter whose rounds the test makes itself."""

    def __call__(self, runtime: Runtime, clock: FakeClock | None = None) -> Reporter: ...


@pytest.fixture
def reporter() -> Iterator[MakeReporter]:
    made: list[Reporter] = []

    def make(runtime: Runtime, clock: FakeClock | None = None) -> Reporter:
        databases = runtime._databases
        made.append(Reporter(runtime.profile, "test", lambda: databases, clock=clock or FakeClock()))
        return made[-1]

    yield make
    for each in made:
        each.close()


class TestFollowing:
    def test_a_trip_a_reset_and_a_disabling_are_followed(self, runtime: Runtime, made: Profile) -> None:
        db = cast(SqlDatabase, runtime.database("main"))
        report(runtime, "test")
        with StateStore(made) as store:
            decide(store, "main", "trip", seconds=60.0, reason="disk full")
            until(lambda: breaker(runtime).is_open())
            with pytest.raises(BreakerOpen) as error:
                db.query("SELECT 1")
            assert ": disk full; next try in " in str(error.value)

            decide(store, "main", "reset")
            until(lambda: breaker(runtime).is_closed())
            assert db.query("SELECT 1 AS a") == [{"a": 1}]

            decide(store, "main", "disable")
            until(lambda: breaker(runtime).get_state().state == "disabled")

    def test_a_database_that_is_opened_later_follows_too(
        self, runtime: Runtime, made: Profile, reporter: MakeReporter
    ) -> None:
        with StateStore(made) as store:
            decide(store, "other", "trip")
        round_of = reporter(runtime)
        round_of.tick()
        runtime.database("other")
        round_of.tick()

        assert breaker(runtime, "other").is_open()

    def test_each_decision_is_followed_once(
        self, runtime: Runtime, made: Profile, reporter: MakeReporter
    ) -> None:
        """What the application does with its own breaker afterwards is its business."""
        round_of = reporter(runtime)
        runtime.database("main")
        with StateStore(made) as store:
            decide(store, "main", "trip")
        round_of.tick()
        breaker(runtime).reset()
        round_of.tick()

        assert breaker(runtime).is_closed()

    def test_a_reset_of_long_ago_closes_no_breaker_of_a_new_process(
        self, runtime: Runtime, made: Profile, reporter: MakeReporter
    ) -> None:
        clock = FakeClock()
        with StateStore(made) as store:
            decide(store, "main", "reset", clock=clock)
        clock.at = 5.0
        runtime.database("main")
        breaker(runtime).force_open()
        reporter(runtime, clock).tick()

        assert breaker(runtime).is_open()

    def test_a_trip_that_has_ended_is_not_followed(
        self, runtime: Runtime, made: Profile, reporter: MakeReporter
    ) -> None:
        clock = FakeClock()
        with StateStore(made) as store:
            decide(store, "main", "trip", seconds=5.0, clock=clock)
        clock.at = 5.0
        runtime.database("main")
        reporter(runtime, clock).tick()

        assert breaker(runtime).is_closed()

    def test_decisions_of_another_host_reach_the_copy(
        self, runtime: Runtime, made: Profile, reporter: MakeReporter
    ) -> None:
        with StateStore(made) as store:
            decide(store, "main", "trip")
        (Path(made.home) / "circuits.json").unlink()
        assert HostCopy(made.home, made.name).decisions() == {}

        reporter(runtime).tick()

        assert HostCopy(made.home, made.name).decisions()["main"].action == "trip"

    def test_without_the_database_the_copy_is_followed(
        self, closed_port: int, tmp_path: Path, reporter: MakeReporter
    ) -> None:
        urls = {"main": "sqlite:///x.db", "state": f"postgresql://127.0.0.1:{closed_port}/x"}
        made = profile(tmp_path, urls, extra='[state]\nurl = "state"\n')
        with Runtime(made) as runtime, StateStore(made) as store:
            runtime.database("main")
            with pytest.raises(Unavailable):
                decide(store, "main", "trip")
            reporter(runtime).tick()

            assert breaker(runtime).is_open()


class TestReports:
    def test_a_living_process_and_its_breaker_are_listed(self, runtime: Runtime, made: Profile) -> None:
        runtime.database("main")
        report(runtime, "test")
        with StateStore(made) as store:
            until(lambda: len(store.processes()) == 1)
            (_, _, *_rest) = found = circuits(store)
            assert [row.process is None for row in found] == [True, False, True]
            assert found[1].state == "closed"
            assert str(found[1].process).startswith("test ")

            breaker(runtime).force_open(60.0, "by hand")
            until(lambda: circuits(store)[1].state == "forced_open")
            assert circuits(store)[1].reason == "by hand"
            assert [(each.old, each.new) for each in store.transitions()] == [("closed", "forced_open")]

            runtime.close()
            until(lambda: not reporting())
            assert store.processes() == []

    def test_pools_are_sampled(self, runtime: Runtime, made: Profile, reporter: MakeReporter) -> None:
        clock = FakeClock()
        cast(SqlDatabase, runtime.database("main")).query("SELECT 1")
        round_of = reporter(runtime, clock)
        round_of.tick()
        clock.at = 4.0
        round_of.tick()
        clock.at = 5.0
        round_of.tick()

        with StateStore(made) as store:
            samples = store.pool_samples(since=0)
        assert [each.happened_at - FakeClock.EPOCH for each in samples] == [0.0, 5.0]
        assert (samples[0].connection, samples[0].max, samples[0].total, samples[0].idle) == (
            "main",
            20,
            1,
            1,
        )

    def test_health_is_kept_for_later(self, runtime: Runtime, made: Profile, reporter: MakeReporter) -> None:
        moment = datetime(2026, 1, 2, tzinfo=UTC)
        seen = {
            "main": ConnectionHealth("healthy", 0.5, 1.5),
            "other": ConnectionHealth("unhealthy", None, None, errors=("no answer", "really")),
        }
        round_of = reporter(runtime)
        round_of.checked(HealthReport("unhealthy", moment, made.name, seen))
        round_of.tick()
        round_of.tick()

        with StateStore(made) as store:
            main, other = store.health()
        assert (main.happened_at, main.connection, main.status, main.latency_ms, main.connect_ms) == (
            moment.timestamp(),
            "main",
            "healthy",
            0.5,
            1.5,
        )
        assert (other.status, other.message) == ("unhealthy", "no answer; really")
        # What is written once is not written again for ever.
        assert not round_of._health

    def test_calls_are_told(self, runtime: Runtime, made: Profile, reporter: MakeReporter) -> None:
        clock = FakeClock()
        main = cast(SqlDatabase, runtime.database("main"))
        round_of = reporter(runtime, clock)
        round_of.tick()
        main.enable_query_logging(slow=False, slow_ms=0.0)
        for _ in range(10):
            main.query("SELECT 'hushhush'")
        clock.at = 5.0
        round_of.tick()

        with StateStore(made, clock=clock) as store:
            slow, traffic = store.reports()
        assert (slow.part, traffic.part, traffic.reported_at) == ("slow", "traffic", FakeClock.EPOCH + 5)
        assert [row["statement"] for row in slow.rows] == ["SELECT ?"] * 10
        assert [(row["connection"], row["per_second"]) for row in traffic.rows] == [("main", 2.0)]

        round_of.close()
        assert not main.events.wants("slow_query")

    def test_a_part_that_cannot_be_read_costs_no_other(
        self, runtime: Runtime, made: Profile, reporter: MakeReporter, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken() -> list[dict[str, object]]:
            raise RuntimeError("boom")

        clock = FakeClock()
        round_of = reporter(runtime, clock)
        round_of.tell("broken", broken)
        round_of.tell("long", lambda: [{"name": "x" * 60_000}])
        round_of.tell("empty", list)
        round_of.tell("well", lambda: [{"name": "a"}])
        with caplog.at_level(logging.INFO, "katax.state"):
            for at in (0.0, 5.0):
                clock.at = at
                round_of.tick()

        with StateStore(made, clock=clock) as store:
            assert [(each.part, each.rows) for each in store.reports()] == [("well", [{"name": "a"}])]
        assert [record.getMessage() for record in caplog.records if record.name == "katax.state"] == [
            "'broken' is not reported: RuntimeError: boom",
            "'long' is not reported: ValueError: it is longer than 60000 characters",
        ]

    def test_what_could_not_be_written_is_written_later(
        self,
        postgresql_url: str,
        proxy: MakeProxy,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        reporter: MakeReporter,
    ) -> None:
        wire = proxy(postgresql_url)
        made = profile(
            tmp_path, {"main": "sqlite:///x.db", "state": wire.url}, extra='[state]\nurl = "state"\n'
        )
        with Runtime(made) as runtime, caplog.at_level(logging.INFO, "katax.state"):
            runtime.database("main")
            round_of = reporter(runtime)
            wire.refuse()
            round_of.changed("main", "open", "closed")
            for _ in range(3):
                round_of.tick()
            wire.come_back()
            round_of.tick()
            round_of.changed("main", "closed", "open")
            round_of.tick()

        said = [record.getMessage() for record in caplog.records if record.name == "katax.state"]
        assert len(said) == 2, said
        assert said[0].startswith("the state database cannot be used: 'state' is not available: ")
        assert said[0].endswith("; this process goes on without it")
        assert said[1] == "the state database can be used again"
        with StateStore(made) as store:
            assert len(store.transitions()) == 2

    def test_what_is_not_written_has_a_limit(
        self, closed_port: int, tmp_path: Path, reporter: MakeReporter
    ) -> None:
        urls = {"main": "sqlite:///x.db", "state": f"postgresql://127.0.0.1:{closed_port}/x"}
        made = profile(tmp_path, urls, extra='[state]\nurl = "state"\n')
        with Runtime(made) as runtime:
            round_of = reporter(runtime)
            for _ in range(5000):
                round_of.changed("main", "open", "closed")

            assert len(round_of._transitions) == 1000


class TestNoHarm:
    @pytest.mark.parametrize("content", ["this is no database" * 100, ""])
    def test_a_broken_file_harms_no_query(self, content: str, made: Profile, tmp_path: Path) -> None:
        (tmp_path / ".katax").mkdir(mode=0o700)
        (tmp_path / ".katax" / "state.db").write_text(content)
        with Runtime(made) as runtime:
            report(runtime, "test").tick()
            assert cast(SqlDatabase, runtime.database("main")).query("SELECT 1 AS a") == [{"a": 1}]

    def test_a_locked_file_delays_no_query(self, made: Profile, runtime: Runtime) -> None:
        with StateStore(made) as store:
            decide(store, "main", "reset")
        state = Runtime(made, probing=True)
        with state, cast(SqlDatabase, state.open(made.state.connection)).transaction() as lock:
            lock.execute("DELETE FROM katax_decisions")
            report(runtime, "test")
            assert cast(SqlDatabase, runtime.database("main")).query("SELECT 1 AS a") == [{"a": 1}]
            assert not breaker(runtime).is_open()

    def test_its_thread_is_a_daemon_with_a_name_and_ends(self, runtime: Runtime) -> None:
        report(runtime, "test")
        assert report(runtime, "test") is report(runtime, "again")
        (thread,) = reporting()
        assert thread.daemon

        runtime.close()

        until(lambda: not thread.is_alive())


def test_a_runtime_that_was_not_asked_writes_and_reads_nothing(made: Profile, runtime: Runtime) -> None:
    with StateStore(made) as store:
        decide(store, "main", "trip")
        cast(SqlDatabase, runtime.database("main")).query("SELECT 1")

        assert store.processes() == []


def test_reading_a_decision_loads_no_engine_and_no_sqlite(made: Profile, tmp_path: Path) -> None:
    """A single command pays for a small file at the most."""
    with StateStore(made) as store:
        decide(store, "other", "trip")
    code = (
        "import sys\n"
        "from katax_cli.services.runtime.decisions import HostCopy\n"
        f"assert HostCopy({made.home!r}, 'test').refusal('other')\n"
        f"assert not HostCopy({made.home!r}, 'test').refusal('main')\n"
        "bad = [m for m in sys.modules if m in ('sqlite3', 'psycopg') or m.startswith('katax_cli.engines')]\n"
        "assert not bad, bad\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
