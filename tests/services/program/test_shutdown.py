"""Shutting down what programs really hold: katax's databases, foreign engines and pools."""

from __future__ import annotations

import logging
import re
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import psycopg_pool
import pymongo
import pytest
import sqlalchemy

from katax_cli import (
    HealthMonitor,
    Katax,
    check_database_health,
    create_shutdown_controller,
    graceful_shutdown,
    register_shutdown_handlers,
    shutdown_database,
)
from katax_cli.errors import KataxError, PoolClosed, Unavailable
from tests.cli.processes import eventually
from tests.servers.fixtures import Target
from tests.services.runtimes import patient
from tests.waiting import SECONDS, patiently, until


class Closing:
    """Something with a close() of its own."""

    def __init__(self, name: str, seen: list[str]) -> None:
        self.name = name
        self._seen = seen

    def close(self) -> None:
        self._seen.append(self.name)


def test_a_database_of_each_engine(tmp_path: Path, engine: Target) -> None:
    database = Katax("local").database("x", connection=patient(engine.url))
    database.ping()

    report = graceful_shutdown(database)

    assert report.clean
    assert report.done == ("x",)
    assert database.closed
    assert not database.is_connected


def test_the_hook_runs_first_and_several_targets_end_together(tmp_path: Path) -> None:
    seen: list[str] = []

    report = graceful_shutdown(
        [Closing("a", seen), Closing("b", seen)], on_shutdown=lambda: seen.append("hook")
    )

    assert seen[0] == "hook"
    assert sorted(seen[1:]) == ["a", "b"]
    assert report.done == ("hook <lambda>", "a", "b")


def test_a_sqlalchemy_engine_waits_for_what_is_checked_out(postgresql_url: str) -> None:
    engine = sqlalchemy.create_engine(postgresql_url.replace("postgresql://", "postgresql+psycopg://"))
    connection = engine.connect()
    worked: list[str] = []

    def work() -> None:
        connection.execute(sqlalchemy.text("select pg_sleep(0.3)"))
        worked.append("done")
        connection.close()

    worker = threading.Thread(target=work)
    worker.start()
    report = graceful_shutdown(engine)
    worker.join()

    assert (worked, report.clean, report.done) == (["done"], True, ("postgresql",))


def test_what_stays_checked_out_is_named(postgresql_url: str) -> None:
    def is_named(seconds: float) -> bool:
        pool: Any = psycopg_pool.ConnectionPool(
            postgresql_url, min_size=1, max_size=2, timeout=SECONDS, open=True
        )
        connection = pool.getconn()
        report = graceful_shutdown(pool, timeout=seconds)
        pool.putconn(connection)
        assert not report.clean
        if report.unfinished:
            return False  # a busy machine took as long as the moment in which it is said
        assert report.left == ("ConnectionPool: 1 connections in use",)
        assert pool.closed
        return True

    patiently(is_named, shortest=1.0)


def test_what_cannot_be_ended_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="a int cannot be shut down; it has none of dispose, close"):
        create_shutdown_controller(17)


def test_a_controller_shuts_down_once_and_says_when(tmp_path: Path) -> None:
    seen: list[str] = []
    controller = create_shutdown_controller(Closing("a", seen), on_shutdown=lambda: seen.append("hook"))
    assert not controller.is_shutting_down()

    with ThreadPoolExecutor(8) as threads:
        reports = list(threads.map(lambda _: controller.execute(), range(8)))

    assert seen == ["hook", "a"]
    assert len({id(report) for report in reports}) == 1
    assert controller.is_shutting_down()


def test_two_ways_to_shut_a_container_down_are_one_shutdown(tmp_path: Path) -> None:
    katax, seen = Katax("local"), []
    katax.on_shutdown(lambda: seen.append("hook"))

    assert graceful_shutdown(katax) is katax.shutdown()
    assert seen == ["hook"]


def test_it_is_shutting_down_while_a_hook_runs() -> None:
    seen: list[bool] = []
    controller = create_shutdown_controller(
        [], on_shutdown=lambda: seen.append(controller.is_shutting_down())
    )

    controller.execute()

    assert seen == [True]


def test_a_hook_that_hangs_is_left_behind(tmp_path: Path) -> None:
    def is_left_behind(seconds: float) -> bool:
        database = Katax("local").database("x", connection="sqlite:///a.db")
        never = threading.Event()

        report = graceful_shutdown(database, timeout=seconds, on_shutdown=never.wait)
        never.set()

        assert report.unfinished[0] == "hook Event.wait"
        if "x" in report.unfinished:
            return False  # a busy machine took the last moment for itself
        assert (report.unfinished[1:], report.done) == ((), ("x",))
        assert database.closed
        return True

    patiently(is_left_behind, shortest=1.0)


def test_a_logger_that_fails_keeps_nothing_open(tmp_path: Path) -> None:
    """Nor those who ask for the shutdown too."""

    class Failing:
        def info(self, message: str) -> None:
            raise OSError(message)

        error = info

    katax = Katax("local")
    database = katax.database("main")
    database.ping()
    report = graceful_shutdown(katax, logger=Failing())
    assert database.closed
    assert katax.shutdown() is report


def test_both_kinds_of_logger_hear_of_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "katax")
    plain = logging.getLogger("mine")
    plain.setLevel("INFO")
    with Katax("local") as katax:
        graceful_shutdown([], logger=katax.logger, timeout=3)
        graceful_shutdown([], logger=plain, timeout=3)
        graceful_shutdown([], on_shutdown=lambda: 1 / 0)

    lines = [
        (record.name, record.levelname, re.sub(r"[0-9.]+ s", "N s", record.getMessage()))
        for record in caplog.records
    ]
    for name in ("katax.app", "mine"):
        assert (name, "INFO", "shutting down, at most N s") in lines
        assert (name, "INFO", "shutdown complete after N s") in lines
    failed = "shutdown incomplete after N s: hook <lambda> failed: ZeroDivisionError: division by zero"
    assert ("katax.shutdown", "ERROR", failed) in lines


def test_shutdown_database_does_not_wait(tmp_path: Path) -> None:
    database = Katax("local").database("x", connection="sqlite:///a.db")
    client = database.get_client()

    assert shutdown_database(database) is None  # type: ignore[func-returns-value]
    assert database.closed
    database.release(client)


ENDLESS = {
    "postgresql": "select pg_sleep(600)",
    "mysql": "update t set n = sleep(600)",
    "sqlite": "with recursive c(n) as (select 1 union all select n + 1 from c) insert into t select n from c",
}
UNDER_WAY = {
    "postgresql": "select 1 from pg_stat_activity where state = 'active' and query like '%{}'",
    "mysql": "select 1 from information_schema.processlist where info like '%{}' and id <> connection_id()",
}


def test_what_is_cut_off_has_ended_on_the_server(sql_engine: Target, tmp_path: Path) -> None:
    patiently(partial(is_ended_by_shutdown, sql_engine), shortest=4.0)


def is_ended_by_shutdown(sql_engine: Target, seconds: float) -> bool:
    """False when the server of a busy machine took no order to cancel in its part of so little time."""
    container, mark = Katax("local"), f"/* {seconds:g} */"
    database, other = (
        container.database(name, connection=patient(sql_engine.url)) for name in ("x", "other")
    )
    database.execute("create table if not exists t (n int)")
    database.execute("insert into t values (1)")
    ended: list[BaseException] = []

    def work() -> None:
        try:
            database.execute(ENDLESS[sql_engine.engine] + mark, timeout=600)
        except KataxError as error:
            ended.append(error)

    def is_under_way() -> bool:
        question = UNDER_WAY.get(sql_engine.engine)
        return bool(other.query(question.format(mark)) if question else database.pool_stats().active)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    until(is_under_way)

    report = graceful_shutdown(database, timeout=seconds)

    assert not report.clean
    done = eventually(lambda: not is_under_way())
    thread.join(SECONDS)
    assert len(ended) == 1
    container.shutdown()
    return done


def test_handlers_are_for_the_main_thread() -> None:
    with ThreadPoolExecutor(1) as threads, pytest.raises(ValueError, match="main thread"):
        threads.submit(register_shutdown_handlers, []).result()


def test_foreign_things_are_closed_or_refused_in_a_sentence(postgresql_url: str) -> None:
    with closing(sqlite3.connect(":memory:")) as bound, pytest.raises(TypeError) as refused:
        graceful_shutdown(bound)
    assert str(refused.value) == (
        "a Connection of sqlite3 can be closed by its own thread only; open it with check_same_thread=False, "
        "or use a database of katax"
    )
    with pytest.raises(
        TypeError, match=r"AsyncConnectionPool is closed on its event loop.* await its close\(\)"
    ):
        graceful_shutdown(psycopg_pool.AsyncConnectionPool(postgresql_url, open=False))

    free = sqlite3.connect(":memory:", check_same_thread=False)
    connection = psycopg.connect(postgresql_url)
    assert graceful_shutdown([free, connection]).clean
    assert connection.closed
    with pytest.raises(sqlite3.ProgrammingError):
        free.execute("select 1")


def test_clients_that_make_up_whatever_they_are_asked_for(mongodb_url: str) -> None:
    """Of a pymongo client every attribute is there, as a database of that name."""
    client: Any = pymongo.MongoClient(mongodb_url)
    client.admin.command("ping")
    assert graceful_shutdown([client]).clean
    with pytest.raises(pymongo.errors.InvalidOperation):
        client.admin.command("ping")
    with pytest.raises(
        TypeError, match=r"AsyncMongoClient is closed on its event loop.* await its close\(\)"
    ):
        graceful_shutdown(pymongo.AsyncMongoClient(mongodb_url))


def test_health_checks_are_for_databases_of_katax(postgresql_url: str) -> None:
    engine = sqlalchemy.create_engine("sqlite://")
    for check in (check_database_health, HealthMonitor):
        with pytest.raises(
            TypeError, match=r"needs a database of katax and was given sqlalchemy's Engine; make one"
        ):
            check(engine)  # type: ignore[arg-type]


def test_what_was_closed_can_be_connected_again(tmp_path: Path, engine: Target) -> None:
    with Katax("local") as katax:
        database = katax.database("x", connection=patient(engine.url))
        database.ping()
        monitor = HealthMonitor(database)
        for _ in range(2):
            database.close(timeout=1.0)
            assert database.closed
            with pytest.raises(PoolClosed):
                database.ping()
            with pytest.raises(
                Unavailable, match=r"'x'.*was closed; connect it again before it is monitored"
            ):
                monitor.start()

            database.connect()

            assert not database.closed
            assert database.health_check()
            assert katax.database("x", connection=patient(engine.url)) is database
