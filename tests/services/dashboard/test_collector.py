"""What the dashboard knows: a source that hangs or is gone costs its own part, and nothing is asked between calls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Protocol, cast

import pytest

from katax_cli.core.text.text import to_json
from katax_cli.profiles.model.model import Profile
from katax_cli.services.cron.manage import Cron
from katax_cli.services.dashboard.collector import Collector
from katax_cli.services.dashboard.snapshot_json import as_dict
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.runtime.decisions import OperatorDecision
from katax_cli.services.runtime.runtime import Runtime
from katax_cli.services.state.circuits import decide
from katax_cli.services.state.reporter import Reporter
from katax_cli.services.state.store import ALIVE_SECONDS, Breaker, StateStore, Transition
from katax_cli.snapshot import Happening, Process, Snapshot
from tests import waiting
from tests.fake_clock import FakeClock
from tests.servers.fixtures import MakeProxy, Target
from tests.services.profiles import profile

NOW = FakeClock.EPOCH
ENOUGH = 30.0
JOB = '[cron.jobs.tick]\nschedule = "@daily"\ntimezone = "UTC"\ncommand = "true"\n'


class Watch(Protocol):
    """`watch(profile)`: a collector by the tests' clock; closed after the test."""

    def __call__(self, made: Profile, *, seconds: float = ...) -> Collector: ...


Sources = Callable[[], list[str]]


@pytest.fixture
def sources() -> Sources:
    """The names of the threads of sources that began in this test: a probe of an earlier one may still hang."""
    earlier = set(threading.enumerate())

    def names() -> list[str]:
        begun = [thread.name for thread in threading.enumerate() if thread not in earlier]
        return [name for name in begun if name.startswith(("katax-probe-", "katax-jobs", "katax-state"))]

    return names


@pytest.fixture
def watch(clock: FakeClock, sources: Sources) -> Iterator[Watch]:
    with ExitStack() as stack:

        def make(made: Profile, *, seconds: float = ENOUGH) -> Collector:
            # A server of a busy machine is slow, not sick.
            calm = replace(made, health=replace(made.health, degraded_ms=20_000.0, unhealthy_ms=30_000.0))
            runtime = stack.enter_context(Runtime(calm, probing=True))
            databases = [runtime.database(name) for name in made.connections]
            collector = Collector(runtime, databases, patience=0.1, seconds=seconds, clock=clock)
            stack.callback(waiting.until, lambda: not sources())
            stack.callback(collector.close)
            return collector

        yield make


def quiet(collector: Collector) -> None:
    """Until no source is asked any more."""
    waiting.until(lambda: not any(source.busy for source in collector.sources))


def look(collector: Collector) -> Snapshot:
    """All that can be known now: a round of each source, begun anew."""
    quiet(collector)
    return collector(patience=ENOUGH)


def until(collector: Collector, true: Callable[[Snapshot], bool]) -> Snapshot:
    """Looks again and again until it is so."""
    end = time.monotonic() + waiting.SECONDS
    while not true(seen := collector()):
        assert time.monotonic() < end, as_dict(seen)
    return seen


def files(folder: Path) -> Profile:
    """Two connections that are files, which are there."""
    (folder / "x.db").touch()
    (folder / "y.db").touch()
    return profile(folder, {"main": "sqlite:///x.db", "other": "sqlite:///y.db"})


class TestConnections:
    def test_all_are_known_after_one_look(self, watch: Watch, engine: Target, tmp_path: Path) -> None:
        made = profile(tmp_path, {"main": engine.url})

        seen = look(watch(made))

        assert (seen.taken_at, seen.role, seen.health.status) == (NOW, "dev", "healthy")
        assert (seen.health.profile, seen.health.timestamp.timestamp()) == ("test", NOW)
        main = seen.watched["main"]
        assert (main.checked_at, main.late) == (NOW, None)
        assert main.latencies_ms == (seen.health.connections["main"].latency_ms,)
        assert main.latencies_ms[0] is not None

    @pytest.mark.parametrize("engine", ["postgresql", "mysql", "mongodb", "redis"])
    def test_one_that_hangs_is_late_and_the_others_go_on(
        self,
        engine: str,
        watch: Watch,
        clock: FakeClock,
        request: pytest.FixtureRequest,
        proxy: MakeProxy,
        tmp_path: Path,
    ) -> None:
        wire = proxy(str(request.getfixturevalue(f"{engine}_url")))
        (tmp_path / "x.db").touch()
        made = profile(tmp_path, {"main": "sqlite:///x.db", "hung": wire.url})
        collector = watch(made)
        assert look(collector).health.status == "healthy"
        quiet(collector)

        wire.stall()
        clock.at = 2.0
        collector()
        clock.at = 4.5
        seen = until(collector, lambda seen: seen.watched["main"].checked_at == NOW + 4.5)

        assert seen.watched["main"].late is None
        hung = seen.watched["hung"]
        assert (hung.checked_at, hung.late) == (NOW, "no answer for 2.5 s; the probe still waits")
        # What was known last is still shown.
        assert seen.health.connections["hung"].status == "healthy"

        clock.at = 2.0 + ENOUGH + 0.5
        seen = until(collector, lambda seen: seen.watched["main"].checked_at == NOW + clock.at)
        ill = seen.health.connections["hung"]
        assert (seen.health.status, ill.status) == ("unhealthy", "unhealthy")
        assert ill.errors == ("no answer for 30.5 s; the probe still waits",)
        assert seen.watched["hung"].checked_at == NOW

        wire.resume()
        seen = until(collector, lambda seen: seen.health.status == "healthy")
        assert seen.watched["hung"].late is None
        assert len(seen.watched["hung"].latencies_ms) >= 2
        assert [line for line in seen.log.rows if line.subject == "hung"] == [
            Happening(
                NOW + 32.5,
                "error",
                "hung",
                "unhealthy, was healthy: no answer for 30.5 s; the probe still waits",
            ),
            Happening(NOW + 32.5, "info", "hung", "healthy, was unhealthy"),
        ]

    def test_one_that_never_answered_has_no_health_yet(
        self, watch: Watch, redis_url: str, proxy: MakeProxy, tmp_path: Path
    ) -> None:
        (tmp_path / "x.db").touch()
        wire = proxy(redis_url)
        wire.stall()
        collector = watch(profile(tmp_path, {"main": "sqlite:///x.db", "deaf": wire.url}))

        seen = until(collector, lambda seen: "main" in seen.health.connections)
        wire.resume()

        assert list(seen.health.connections) == ["main"]
        assert list(seen.watched) == ["main", "deaf"]
        assert seen.watched["deaf"].latencies_ms == ()
        assert str(seen.watched["deaf"].late).startswith("no answer for ")

    def test_a_dead_one_shows_the_layer_that_fails(
        self, watch: Watch, closed_port: int, tmp_path: Path
    ) -> None:
        made = profile(tmp_path, {"main": f"postgresql://u:hushhush@127.0.0.1:{closed_port}/x"})

        seen = look(watch(made))

        dead = seen.health.connections["main"]
        assert (dead.status, seen.health.status, seen.watched["main"].latencies_ms) == (
            "unhealthy",
            "unhealthy",
            (None,),
        )
        assert dead.depth is not None
        assert dead.depth.first_failing_layer == "tcp"
        assert "hushhush" not in to_json(as_dict(seen)) + repr(seen)

    def test_one_that_is_well_again_is_only_pinged(
        self, watch: Watch, redis_url: str, proxy: MakeProxy, tmp_path: Path
    ) -> None:
        wire = proxy(redis_url)
        wire.refuse()
        collector = watch(profile(tmp_path, {"main": wire.url}))
        assert look(collector).health.connections["main"].depth is not None

        wire.come_back()
        look(collector)
        again = look(collector).health.connections["main"]

        assert (again.status, again.depth) == ("healthy", None)

    def test_what_operators_keep_off_does_not_count(
        self, watch: Watch, closed_port: int, tmp_path: Path
    ) -> None:
        made = profile(tmp_path, {"main": f"redis://127.0.0.1:{closed_port}/0"})
        with StateStore(made) as store:
            decide(store, "main", "trip", reason="new disks")

        seen = look(watch(made))

        assert "new disks" in str(seen.health.connections["main"].maintenance)
        assert (seen.health.status, seen.health.connections["main"].status) == ("degraded", "unhealthy")

    def test_a_server_that_counts_its_calls_shows_how_many(
        self, watch: Watch, clock: FakeClock, redis_url: str, tmp_path: Path
    ) -> None:
        made = profile(tmp_path, {"main": redis_url})
        collector = watch(made)
        first = until(collector, lambda seen: bool(seen.traffic.rows)).traffic.rows[0]
        assert (first.connection, first.source, first.per_second, first.trail) == ("main", "server", None, ())
        with Runtime(made) as runtime:
            for _ in range(30):
                cast(RedisDatabase, runtime.database("main")).redis("GET", "k")
        quiet(collector)

        clock.at = 4.9
        look(collector)
        assert look(collector).traffic.rows[0] == first

        clock.at = 10.0
        look(collector)
        (row,) = look(collector).traffic.rows
        assert (row.per_second, row.trail, row.seen_at) == (3.0, (3.0,), NOW + 10)

    def test_the_sessions_of_servers(
        self, watch: Watch, clock: FakeClock, sql_engine: Target, closed_port: int, tmp_path: Path
    ) -> None:
        gone = f"redis://127.0.0.1:{closed_port}/0"
        made = profile(tmp_path, {"main": sql_engine.url, "gone": gone})
        collector = watch(made)
        if sql_engine.engine == "sqlite":
            assert look(collector).activity.rows == ()
            return

        def held(seen: Snapshot) -> bool:
            """The session that holds a transaction open."""
            return any(row.transaction_age_seconds is not None and not row.busy for row in seen.activity.rows)

        with (
            Runtime(made) as runtime,
            runtime.sql(made.connection("main")).session(timeout=10 * waiting.SECONDS) as session,
        ):
            session.run("create table t (word varchar(40))")
            session.run("begin")
            session.run("insert into t values ('hush-hush')")

            def later(seen: Snapshot) -> bool:
                clock.at += 60.0
                return held(seen)

            seen = until(collector, later)

        assert {row.connection for row in seen.activity.rows} == {"main"}
        assert "hush" not in str(seen.activity)
        assert (seen.activity.missing, seen.activity.source) == (None, "servers")

    def test_between_calls_nothing_is_asked(
        self, watch: Watch, postgresql_url: str, proxy: MakeProxy, tmp_path: Path
    ) -> None:
        wire = proxy(postgresql_url)
        made = profile(tmp_path, {"main": wire.url}, extra='[state]\nurl = "main"\n')
        collector = watch(made)
        look(collector)
        quiet(collector)
        asked = [(0, 0)]

        def is_quiet() -> bool:
            """What was sent before may still be counted."""
            asked.append((wire.connections, wire.bytes_up))
            time.sleep(0.3)
            return asked[-1] == (wire.connections, wire.bytes_up)

        waiting.until(is_quiet)

        look(collector)
        quiet(collector)
        assert wire.bytes_up > asked[-1][1]

    def test_one_round_at_a_time(
        self, watch: Watch, sources: Sources, deaf_port: int, tmp_path: Path
    ) -> None:
        collector = watch(profile(tmp_path, {"deaf": f"redis://127.0.0.1:{deaf_port}/0"}), seconds=2.0)
        for _ in range(5):
            collector(patience=0.0)

        assert sources().count("katax-probe-deaf") == 1

    def test_after_the_end_nobody_is_asked(self, watch: Watch, sources: Sources, tmp_path: Path) -> None:
        collector = watch(files(tmp_path))
        first = look(collector)
        quiet(collector)
        collector.close()
        collector.close()

        again = collector()

        assert sources() == []
        assert again.watched == first.watched


@pytest.fixture
def reporting(clock: FakeClock) -> Iterator[Callable[[Runtime, str], Reporter]]:
    """`reporting(runtime, kind)`: one whose rounds the test makes itself."""
    with ExitStack() as stack:

        def make(runtime: Runtime, kind: str) -> Reporter:
            databases = runtime._databases
            reporter = Reporter(runtime.profile, kind, lambda: databases, clock=clock)
            stack.callback(reporter.close)
            return reporter

        yield make


Reporting = Callable[[Runtime, str], Reporter]


class TestWhatOthersTold:
    def test_two_processes(
        self, watch: Watch, clock: FakeClock, reporting: Reporting, tmp_path: Path
    ) -> None:
        made = files(tmp_path)
        with Runtime(made) as runtime, Runtime(made) as other:
            main = cast(SqlDatabase, runtime.database("main"))
            main.enable_query_logging(slow=False, slow_ms=1e6)
            other.database("other")
            first, second = reporting(runtime, "app"), reporting(other, "worker")
            for each in (first, second):
                each.tick()
            clock.at = 5.0
            for _ in range(10):
                main.query("SELECT 1")
            main.enable_query_logging(slow=False, slow_ms=0.0)
            main.query("SELECT 'a secret' AS a")
            for each in (first, second):
                each.tick()
            seen = look(watch(made))

        app, worker = first.process.label, second.process.label
        assert [each.kind for each in seen.processes.rows] == ["app", "worker"]
        assert {each.seen_at for each in seen.processes.rows} == {NOW + 5}
        assert {(each.connection, each.process, len(each.samples)) for each in seen.pools.rows} == {
            ("main", app, 2),
            ("other", worker, 2),
        }
        (pool,) = [each for each in seen.pools.rows if each.process == app]
        assert [(sample.total, sample.idle) for sample in pool.samples] == [(0, 0), (1, 1)]
        assert pool.seen_at == NOW + 5
        rates = {(each.connection, each.source): each for each in seen.traffic.rows}
        assert rates["main", app].per_second == 2.2
        assert rates["main", app].trail == (2.2,)
        assert rates["main", app].failed == 0
        assert rates["other", worker].per_second == 0.0
        (slow,) = seen.slow.rows
        assert (slow.connection, slow.process, slow.statement) == ("main", app, "SELECT ? AS a")
        assert (slow.happened_at, seen.slow.missing) == (NOW + 5, None)
        assert {(each.connection, each.process) for each in seen.circuits.rows} == {
            ("main", None),
            ("other", None),
            ("main", app),
            ("other", worker),
        }
        assert "a secret" not in repr(seen)

    def test_who_comes_and_who_goes_is_noticed(
        self, watch: Watch, clock: FakeClock, reporting: Reporting, tmp_path: Path
    ) -> None:
        made = files(tmp_path)
        collector = watch(made)
        look(collector)
        with Runtime(made) as runtime:
            runtime.database("main")
            reporter = reporting(runtime, "app")
            reporter.tick()
            assert len(look(collector).pools.rows) == 1

            clock.at = ALIVE_SECONDS + 1
            seen = look(collector)

        label = reporter.process.label
        assert (seen.processes.rows, seen.pools.rows, seen.traffic.rows) == ((), (), ())
        assert seen.log.rows == (
            Happening(NOW, "info", label, "it reports"),
            Happening(NOW + clock.at, "warning", label, "it reports no more"),
        )

    def test_who_was_there_before_is_no_news(
        self, watch: Watch, reporting: Reporting, tmp_path: Path
    ) -> None:
        made = files(tmp_path)
        with Runtime(made) as runtime:
            reporting(runtime, "app").tick()
            seen = look(watch(made))

        assert len(seen.processes.rows) == 1
        assert (seen.log.rows, seen.log.missing) == ((), "nothing happened yet")

    def test_breakers_and_operators_are_in_the_log(
        self, watch: Watch, clock: FakeClock, tmp_path: Path
    ) -> None:
        made = files(tmp_path)
        with StateStore(made, clock=clock) as store:
            decide(store, "main", "trip", reason="new disks", clock=clock)
            clock.at = 3.0
            decide(store, "main", "reset", clock=clock)
            store.report(
                Process("p1", "app", "host", 7, NOW, NOW),
                breakers=[Breaker("p1", "other", "open", 5, None, None, None)],
                transitions=[Transition(NOW + 1, "other", "closed", "open")],
            )
        seen = look(watch(made))

        trip, opened, reset = seen.log.rows
        assert (trip.happened_at, trip.level, trip.subject) == (NOW, "warning", "main")
        assert trip.text.startswith("trip by ")
        assert trip.text.endswith(": new disks")
        assert opened == Happening(NOW + 1, "error", "other", "circuit open, was closed")
        assert (reset.happened_at, reset.level) == (NOW + 3, "info")
        assert seen.log.source == "this process, state database 'state'"

    def test_the_log_has_an_end(self, watch: Watch, clock: FakeClock, tmp_path: Path) -> None:
        made = files(tmp_path)
        with StateStore(made, clock=clock) as store:
            for at in range(198):
                store.decide(OperatorDecision(str(at), "main", "reset", NOW + at))
            older = [Transition(NOW - 10 + at, "other", "closed", "open") for at in range(5)]
            store.report(Process("p1", "app", "host", 7, NOW, NOW), transitions=older)

        rows = look(watch(made)).log.rows

        assert [line.happened_at - NOW for line in rows] == [-7, -6, *range(198)]

    def test_a_pause_leaves_no_hole_in_the_pools(
        self, watch: Watch, clock: FakeClock, reporting: Reporting, tmp_path: Path
    ) -> None:
        made = files(tmp_path)
        collector = watch(made)
        with Runtime(made) as runtime:
            runtime.database("main")
            reporter = reporting(runtime, "app")
            for at in range(0, 300, 20):
                clock.at = float(at)
                reporter.tick()
                if at == 0:
                    look(collector)
            (pool,) = look(collector).pools.rows
            assert len(pool.samples) == 15

            clock.at = 700.0
            reporter.tick()
            (pool,) = look(collector).pools.rows

        # 100 s to 280 s, and now: what is older than ten minutes is gone.
        assert len(pool.samples) == 11


class TestStateDatabase:
    def test_nobody_made_it(self, watch: Watch, tmp_path: Path) -> None:
        seen = look(watch(files(tmp_path)))

        assert not (tmp_path / ".katax").exists()
        parts = (seen.processes, seen.pools, seen.traffic, seen.slow, seen.sockets, seen.jobs, seen.runs)
        assert [part.missing for part in parts] == [
            "no process reports; a program does after Katax().report('name')",
            "no process reports its pools; a program does after Katax().report('name')",
            "no server counts its calls and no process reports; a program does after Katax().report('name')",
            "no process reports slow calls; a program does after Katax().report('name')",
            "no Socket.IO server reports; start one: katax ws serve",
            "no jobs are defined; add one: katax cron add",
            "no jobs are defined; add one: katax cron add",
        ]
        assert {part.seen_at for part in parts} == {NOW}
        assert [(row.connection, row.state) for row in seen.circuits.rows] == [
            ("main", "closed"),
            ("other", "closed"),
        ]

    def test_it_cannot_be_reached(self, watch: Watch, closed_port: int, tmp_path: Path) -> None:
        (tmp_path / "x.db").touch()
        urls = {"main": "sqlite:///x.db", "state": f"postgresql://u:hushhush@127.0.0.1:{closed_port}/x"}
        made = profile(tmp_path, urls, extra=f'[state]\nurl = "state"\n{JOB}')

        seen = look(watch(made))

        assert seen.health.connections["main"].status == "healthy"
        for part in (seen.processes, seen.pools, seen.slow, seen.sockets, seen.runs, seen.jobs, seen.log):
            assert str(part.missing).startswith("'state' is not available: ")
        assert seen.pools.seen_at is None
        # What no database is needed for is known.
        assert [job.name for job in seen.jobs.rows] == ["tick"]
        assert [row.connection for row in seen.circuits.rows] == ["main", "state"]
        assert "hushhush" not in to_json(as_dict(seen)) + repr(seen)

    def test_it_is_no_database(self, watch: Watch, tmp_path: Path) -> None:
        made = files(tmp_path)
        (tmp_path / ".katax").mkdir(mode=0o700)
        (tmp_path / ".katax" / "state.db").write_text("this is no database" * 100)

        seen = look(watch(made))

        assert seen.health.status == "healthy"
        assert "'state'" in str(seen.pools.missing)

    def test_what_was_known_stays_with_its_age(
        self,
        watch: Watch,
        clock: FakeClock,
        reporting: Reporting,
        postgresql_url: str,
        proxy: MakeProxy,
        tmp_path: Path,
    ) -> None:
        wire = proxy(postgresql_url)
        (tmp_path / "x.db").touch()
        urls = {"main": "sqlite:///x.db", "state": wire.url}
        made = profile(tmp_path, urls, extra='[state]\nurl = "state"\n')
        collector = watch(made)
        with Runtime(made) as runtime:
            runtime.database("main")
            reporting(runtime, "app").tick()
            before = look(collector).pools
            assert len(before.rows) == 1
            wire.refuse()
            wire.cut()
            clock.at = 7.0

            after = look(collector)
            wire.come_back()

        assert (after.pools.rows, after.pools.seen_at) == (before.rows, NOW)
        assert str(after.pools.missing).startswith("'state' is not available: ")
        assert after.watched["main"].checked_at == NOW + 7
        assert [row["age_seconds"] for row in [cast(dict[str, object], as_dict(after)["pools"])]] == [7.0]

    def test_it_hangs(
        self, watch: Watch, clock: FakeClock, postgresql_url: str, proxy: MakeProxy, tmp_path: Path
    ) -> None:
        wire = proxy(postgresql_url)
        (tmp_path / "x.db").touch()
        urls = {"main": "sqlite:///x.db", "state": wire.url}
        collector = watch(profile(tmp_path, urls, extra='[state]\nurl = "state"\n'))
        look(collector)
        wire.stall()
        collector()
        clock.at = 1.4

        seen = until(collector, lambda seen: seen.watched["main"].checked_at == NOW + 1.4)
        wire.resume()

        assert seen.pools.missing == "no answer for 1.4 s; it is still waited for"


class TestJobs:
    def test_jobs_without_a_daemon(self, watch: Watch, tmp_path: Path) -> None:
        (tmp_path / "x.db").touch()
        seen = look(watch(profile(tmp_path, {"main": "sqlite:///x.db"}, extra=JOB)))

        (job,) = seen.jobs.rows
        assert (job.name, job.schedule, job.enabled, job.running, job.last_state) == (
            "tick",
            "@daily",
            True,
            0,
            None,
        )
        assert job.next_at is not None
        assert job.next_at.timestamp() == NOW - NOW % 86400 + 86400
        idle = "no daemon runs; start one: katax cron run-daemon"
        assert (seen.jobs.missing, seen.runs.missing) == (idle, idle)
        assert not (tmp_path / ".katax").exists()

    def test_a_living_daemon_has_run_nothing_yet(
        self, watch: Watch, clock: FakeClock, tmp_path: Path
    ) -> None:
        (tmp_path / "x.db").touch()
        made = profile(tmp_path, {"main": "sqlite:///x.db"}, extra=JOB)
        with StateStore(made, clock=clock) as store:
            store.report(Process("p1", "cron run-daemon", "host", 7, NOW, NOW))

        assert look(watch(made)).runs.missing == "no job ran yet"

    def test_runs_and_what_became_of_them(self, watch: Watch, sql_engine: Target, tmp_path: Path) -> None:
        extra = '[state]\nurl = "state"\n' + JOB.replace('"true"', '"echo hushhush; exit 3"')
        (tmp_path / "x.db").touch()
        made = profile(tmp_path, {"main": "sqlite:///x.db", "state": sql_engine.url}, extra=extra)
        with Cron(made) as cron:
            run = cron.run("tick", lambda _name, _data: None)

        seen = look(watch(made))

        (row,) = seen.runs.rows
        assert (row.run_id, row.job, row.state, row.duration_ms) == (
            run.run_id,
            "tick",
            "failed",
            run.duration_ms,
        )
        assert row.scheduled_at == run.scheduled_at / 1000
        (job,) = seen.jobs.rows
        assert (job.last_state, job.last_reason) == ("failed", run.reason)
        assert run.finished_at is not None
        assert job.last_finished_at is not None
        assert job.last_finished_at.timestamp() == run.finished_at / 1000
        assert [(line.level, line.subject) for line in seen.log.rows] == [("error", "tick")]
        assert "hushhush" not in repr(seen)

    def test_jobs_that_are_wrong_are_said(self, watch: Watch, tmp_path: Path) -> None:
        made = files(tmp_path)
        with Cron(made) as cron:
            cron.add("tick", {"schedule": "@daily", "command": "true"})
            cron.definitions.define("broken", {"schedule": "never"})
        collector = watch(made)
        look(collector)

        seen = look(collector)

        assert [job.name for job in seen.jobs.rows] == ["tick"]
        assert str(seen.jobs.missing).startswith("added job 'broken' is left out: ")
        assert str(seen.jobs.missing).count("left out") == 1
        assert seen.runs.missing == "no daemon runs; start one: katax cron run-daemon"

    def test_what_only_jobs_suffer_from(self, watch: Watch, sql_engine: Target, tmp_path: Path) -> None:
        urls = {"main": sql_engine.url}
        made = profile(tmp_path, urls, extra=f'[state]\nurl = "main"\n{JOB}')
        with Cron(made) as cron:
            cron.tables.prepare()
            cron.tables.run("DROP TABLE katax_cron_runs")

        seen = look(watch(made))

        assert "katax_cron_runs" in str(seen.runs.missing)
        assert str(seen.pools.missing).startswith("no process reports its pools")

    def test_jobs_that_were_known_stay(
        self, watch: Watch, clock: FakeClock, postgresql_url: str, proxy: MakeProxy, tmp_path: Path
    ) -> None:
        wire = proxy(postgresql_url)
        (tmp_path / "x.db").touch()
        urls = {"main": "sqlite:///x.db", "state": wire.url}
        made = profile(tmp_path, urls, extra='[state]\nurl = "state"\n')
        with Cron(made) as cron:
            cron.add("tick", {"schedule": "@daily", "sql": "select 1", "connection": "main"})
        collector = watch(made)
        look(collector)
        wire.refuse()
        wire.cut()
        clock.at = 7.0

        seen = look(collector)
        wire.come_back()

        assert [job.name for job in seen.jobs.rows] == ["tick"]
        assert seen.jobs.seen_at == NOW
        assert str(seen.jobs.missing).startswith("'state' is not available: ")
