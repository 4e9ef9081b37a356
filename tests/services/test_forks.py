"""What works in a forked child, as under gunicorn --preload, and what refuses with a sentence."""

from __future__ import annotations

import json
import logging
import os
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from katax_cli import HealthMonitor, Katax, Lock, LockLost, PubSub, RateLimiter
from katax_cli.errors import ConfigError, Unavailable
from katax_cli.profiles.load import load_profile
from tests.cli.processes import SECONDS, eventually
from tests.servers.fixtures import Target
from tests.services.runtimes import write_profile


def in_child(work: Callable[[], Any]) -> Any:
    """What `work()` returns in a forked child, as JSON has it; the child ends without the parent's exit handlers."""
    reads, writes = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            answer = json.dumps(work())
        except BaseException:  # noqa: BLE001 - the child has nobody else to tell
            answer = json.dumps(traceback.format_exc())
        os.write(writes, answer.encode())
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(answer)


def container(tmp_path: Path, **connections: str) -> Katax:
    write_profile(tmp_path, **connections)
    return Katax(load_profile("test", cwd=str(tmp_path)))


def test_a_used_database_of_each_engine_works_on_both_sides(tmp_path: Path, engine: Target) -> None:
    with container(tmp_path, main=engine.url) as katax:
        database = katax.database("main")
        database.ping()

        def use() -> list[object]:
            database.ping()
            well = database.health_check()
            database.close()
            return [well, database.closed]

        assert in_child(use) == [True, True]
        database.ping()
        assert database.pool_stats().total >= 1


def test_a_child_cancels_nothing_of_its_parent(tmp_path: Path, postgresql_url: str) -> None:
    with container(tmp_path, main=postgresql_url) as katax:
        database = katax.database("main")
        done: list[object] = []
        thread = threading.Thread(target=lambda: done.append(database.query("select pg_sleep(1), 7 as n")))
        thread.start()
        assert eventually(lambda: bool(database.leases.running))

        in_child(database.cancel_running)

        thread.join(SECONDS)
        assert cast(list[list[dict[str, object]]], done)[0][0]["n"] == 7


def test_a_subscriber_hears_in_the_child_and_still_in_the_parent(tmp_path: Path, redis_url: str) -> None:
    with container(tmp_path, cache=redis_url) as katax:
        redis = katax.database("cache")
        heard: list[object] = []
        pubsub = katax.register(PubSub(redis))
        pubsub.subscribe("news", heard.append)

        def listen() -> list[object]:
            assert eventually(lambda: redis.redis("PUBSUB", "NUMSUB", "news")[1] == 2)
            pubsub.subscribe("more", heard.append)
            pubsub.publish("news", "old")
            pubsub.publish("more", "new")
            assert eventually(lambda: len(heard) == 2)
            pubsub.close()
            return [*sorted(map(str, heard))]

        assert in_child(listen) == ["new", "old"]
        assert eventually(lambda: heard == ["old"])
        assert eventually(lambda: redis.redis("PUBSUB", "NUMSUB", "news")[1] == 1)
        assert pubsub.publish("news", "again") == 1
        assert eventually(lambda: heard == ["old", "again"])


def test_a_monitor_goes_on_in_the_child(tmp_path: Path) -> None:
    with container(tmp_path, main="sqlite:///main.db") as katax:
        checks: list[int] = []
        monitor = HealthMonitor(katax.database("main"), interval=60.0)
        monitor.start(lambda _result: checks.append(os.getpid()))
        assert eventually(lambda: len(checks) == 1)

        def watch() -> list[object]:
            assert eventually(lambda: len(checks) == 2)
            running = monitor.is_running()
            monitor.stop()
            return [running, monitor.is_running(), checks[-1] == os.getpid()]

        assert in_child(watch) == [True, False, True]
        assert monitor.is_running()
        monitor.stop()
        assert in_child(monitor.is_running) is False


def test_jobs_stay_those_of_the_parent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with container(tmp_path, main="sqlite:///main.db") as katax:
        katax.cron("tidy", "0 3 * * *", lambda: None)

        def ask() -> list[object]:
            with pytest.raises(ConfigError) as refused:
                katax.cron_run("tidy")
            ran = threading.Event()
            katax.cron("own", "0 3 * * *", ran.set, run_on_init=True)
            assert ran.wait(SECONDS)
            warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
            return [str(refused.value), [job.name for job in katax.cron_jobs()], warnings]

        refused, jobs, warnings = in_child(ask)
        assert refused == (
            f"job 'tidy' is not one of this process; the jobs of its parent {os.getpid()} run there: "
            "add the job after the fork"
        )
        assert jobs == ["own"]
        assert len(warnings) == 1
        assert warnings[0].startswith(
            f"the cron jobs of process {os.getpid()} run there and not in its child "
        )
        assert [job.name for job in katax.cron_jobs()] == ["tidy"]


def test_a_socket_server_is_the_parents(tmp_path: Path) -> None:
    with container(tmp_path, main="sqlite:///main.db") as katax:
        sockets = katax.socket(port=0)

        def emit() -> str:
            with pytest.raises(Unavailable) as refused:
                sockets.emit("news", {})
            return str(refused.value)

        assert f"it runs in process {os.getpid()}, and this one is its child" in in_child(emit)


def test_a_lock_is_the_parents(tmp_path: Path, redis_url: str) -> None:
    with container(tmp_path, cache=redis_url) as katax:
        lock = Lock(katax.database("cache"), "jobs", ttl=30)
        with lock:

            def release() -> str:
                with pytest.raises(LockLost) as lost:
                    lock.release()
                return str(lost.value)

            assert in_child(release) == (
                f"lock 'jobs' was lost: process {os.getpid()} holds it, and this one is its child"
            )
            lock.check()
        limiter = RateLimiter(katax.database("cache"), max=2)
        assert [in_child(lambda: limiter.check("k").allowed) for _ in range(3)] == [True, True, False]


def test_a_child_reports_as_a_process_of_its_own(tmp_path: Path) -> None:
    with container(tmp_path, main="sqlite:///main.db") as katax:
        katax.report("program")
        reporter = cast(Any, katax)._reporter

        def identity() -> list[object]:
            return [reporter.process.pid == os.getpid(), reporter.process.id, reporter._thread.is_alive()]

        own, name, alive = in_child(identity)
        assert (own, alive) == (True, True)
        assert name != reporter.process.id
