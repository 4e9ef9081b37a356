"""A blip is a blip: what callers see of a wire that is cut, a server that is gone, and one that only says no."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from threading import Event, Thread
from typing import Any

import pytest
from psycopg_pool import ConnectionPool
from sqlalchemy import create_engine, text

from katax_cli.core.clock import SYSTEM
from katax_cli.errors import AuthenticationFailed, KataxError, Unavailable
from katax_cli.services.databases.lease import Patience
from katax_cli.services.runtime.runtime import Runtime
from tests.servers.fixtures import MakeProxy, Target, Throwaway
from tests.services.runtimes import OpenRuntime
from tests.waiting import CONNECTING, until

THREADS = 16
PATIENCE = 60.0
"""Seconds after which a test gives up: a hundred times what a recovery takes."""
IMPATIENT = "[retry]\nattempts = 1\n[breaker]\nwindow = 3.0\nmin_calls = 3\n[logging]\nqueries = 'off'\n"
Call = Callable[[], object]


class Crowd:
    """Threads that call without a pause, as a busy program does."""

    def __init__(self, call: Call, threads: int = THREADS) -> None:
        self._call = call
        self._stop = Event()
        self.answered = [0] * threads
        self.errors: list[BaseException] = []
        self._threads = [Thread(target=self._run, args=(number,)) for number in range(threads)]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        self.wait_for_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for_all(self) -> None:
        """Until each thread got one more answer."""
        before = list(self.answered)
        ends = SYSTEM.monotonic() + PATIENCE
        while any(now == then for now, then in zip(self.answered, before, strict=True)):
            assert SYSTEM.monotonic() < ends, f"no answer again: {Counter(map(repr, self.errors))}"
            SYSTEM.sleep(0.002)

    def _run(self, number: int) -> None:
        while not self._stop.is_set():
            try:
                self._call()
            except Exception as error:  # noqa: BLE001 - peers raise their drivers' errors; they are counted
                self.errors.append(error)
            else:
                self.answered[number] += 1

    def kinds(self) -> Counter[str]:
        return Counter(type(error).__name__ for error in self.errors)


@contextmanager
def through_katax(open_runtime: OpenRuntime, url: str) -> Iterator[Call]:
    database: Any = open_runtime(main=url).database("main")
    yield lambda: database.query("select 1")


@contextmanager
def through_psycopg_pool(url: str) -> Iterator[Call]:
    with ConnectionPool(url, min_size=4, max_size=20, kwargs={"autocommit": True}, open=True) as pool:

        def call() -> None:
            with pool.connection() as connection:
                connection.execute("select 1").fetchall()

        yield call


@contextmanager
def through_sqlalchemy(url: str) -> Iterator[Call]:
    engine = create_engine(
        url.replace("postgresql:", "postgresql+psycopg:"), pool_size=20, pool_pre_ping=True
    )

    def call() -> None:
        with engine.connect() as connection:
            connection.execute(text("select 1")).fetchall()

    yield call
    engine.dispose()


def test_a_cut_costs_what_was_under_way_and_no_more_than_with_the_peers(
    open_runtime: OpenRuntime, proxy: MakeProxy, postgresql_url: str, record_property: Any
) -> None:
    errors: dict[str, Counter[str]] = {}
    wire = proxy(postgresql_url)
    peers = {
        "katax": through_katax(open_runtime, wire.url),
        "psycopg_pool": through_psycopg_pool(wire.url),
        "sqlalchemy": through_sqlalchemy(wire.url),
    }
    for name, peer in peers.items():
        with peer as call, Crowd(call) as crowd:
            for _ in range(3):
                wire.cut()
                crowd.wait_for_all()
        errors[name] = crowd.kinds()
    record_property(
        "errors", {name: dict(kinds) for name, kinds in errors.items()}
    )  # xdist sends plain values

    # Each cut ends at most one call of each thread; none is kept from a server that is there.
    assert set(errors["katax"]) <= {"Unavailable"}, errors
    assert errors["katax"].total() <= 3 * THREADS, errors


def ask(runtime: Runtime, engine: str) -> Call:
    database: Any = runtime.database("main")
    if engine == "redis":
        return lambda: database.redis("PING")
    if engine == "mongodb":
        return lambda: database.command({"ping": 1})
    return lambda: database.query("select 1")


@pytest.mark.parametrize("served", ["postgresql", "mysql", "redis", "mongodb"])
def test_an_outage_opens_the_breaker_and_its_end_closes_it(
    open_runtime: OpenRuntime, proxy: MakeProxy, fresh: Callable[[str], Target], served: str
) -> None:
    wire = proxy(fresh(served))
    # pymongo looks for a server that long, the others are refused at once.
    connecting = 0.5 if served == "mongodb" else CONNECTING
    runtime = open_runtime(IMPATIENT, main={"url": wire.url, "connect_timeout": connecting})
    database: Any = runtime.database("main")
    states: list[str] = []
    database.on("breaker", lambda new, _old: states.append(new))

    with Crowd(ask(runtime, served), threads=4) as crowd:
        wire.refuse()
        wire.cut()
        until(lambda: "open" in states)
        wire.come_back()
        crowd.wait_for_all()
        until(lambda: database.breaker.is_closed())

    assert ("half_open", "closed") in pairwise(states)
    assert set(crowd.kinds()) <= {"Unavailable", "BreakerOpen", "OutcomeUnknown"}


@pytest.mark.parametrize("served", ["postgresql", "mysql", "redis"])
def test_a_server_that_was_restarted_is_used_again_by_all(
    open_runtime: OpenRuntime, throwaway: Throwaway, served: str
) -> None:
    server = throwaway(served)
    runtime = open_runtime("[logging]\nqueries = 'off'\n", main=server.url)
    with Crowd(ask(runtime, served)) as crowd:
        server.restart()
        crowd.wait_for_all()
        errors = len(crowd.errors)
        crowd.wait_for_all()

    assert len(crowd.errors) == errors


def test_a_server_that_cancels_and_refuses_is_not_taken_for_dead(
    open_runtime: OpenRuntime, fresh: Callable[[str], Target]
) -> None:
    sleeps = {"postgresql": "select pg_sleep(9)", "mysql": "select sleep(9)"}
    for engine, sql in sleeps.items():
        database: Any = open_runtime(main=fresh(engine).url).database("main")
        database.leases.patience = Patience(grace=10.0)
        for _ in range(12):
            with pytest.raises(Unavailable):
                database.query(sql, timeout=0.05)
        stats = database.breaker.get_state()
        assert (stats.state, stats.failures) == ("closed", 0), engine


@pytest.mark.parametrize("served", ["postgresql", "mysql", "redis"])
def test_callers_without_the_time_to_connect_do_not_open_the_breaker(
    open_runtime: OpenRuntime, proxy: MakeProxy, fresh: Callable[[str], Target], served: str
) -> None:
    """A login may take longer than an impatient caller has; a refused one counts, however little time there was."""
    wire = proxy(fresh(served))
    wire.black_hole()
    database: Any = open_runtime(IMPATIENT, main={"url": wire.url, "connect_timeout": 60.0}).database("main")
    statement = "PING" if served == "redis" else "select 1"
    call = database.redis if served == "redis" else database.query
    for _ in range(4):
        with pytest.raises(Unavailable):
            call(statement, timeout=0.05)
    assert (database.breaker.is_closed(), database.breaker.get_state().failures) == (True, 0)

    wire.refuse()
    wire.cut()
    with pytest.raises(Unavailable):
        call(statement, timeout=60)
    assert database.breaker.get_state().failures == 1


def test_lock_waits_do_not_count(open_runtime: OpenRuntime, fresh: Callable[[str], Target]) -> None:
    limits = {"postgresql": "set lock_timeout = '20ms'", "mysql": "set innodb_lock_wait_timeout = 1"}
    for engine, limit in limits.items():
        database: Any = open_runtime("[retry]\nattempts = 1\n", main=fresh(engine).url).database("main")
        database.execute("create table held (id int primary key)")
        database.execute("insert into held values (1)")
        with ExitStack() as stack:
            holder = stack.enter_context(database.transaction())
            holder.execute("update held set id = 1 where id = 1")
            for _ in range(3):
                with database.session() as session:
                    session.execute(limit)
                    with pytest.raises(KataxError):
                        session.execute("delete from held where id = 1")
        assert database.breaker.get_state().failures == 0, engine


def test_a_login_refused_after_the_outage_is_not_tried_again_by_itself(
    open_runtime: OpenRuntime, proxy: MakeProxy, throwaway: Throwaway
) -> None:
    server = throwaway("redis")
    direct: Any = open_runtime(main=server.url).database("main")
    direct.redis("CONFIG", "SET", "requirepass", "old")
    wire = proxy((server.host, server.port))
    url = f"redis://:old@{wire.host}:{wire.port}/0"
    runtime = open_runtime("[retry]\nattempts = 1\n", main={"url": url, "pool": {"min": 2}})
    database: Any = runtime.database("main")
    database.redis("PING")
    wire.refuse()
    wire.cut()

    def opened() -> bool:
        with pytest.raises(Unavailable):
            database.redis("PING")
        return bool(database.breaker.is_open())

    until(opened)
    direct.redis("CONFIG", "SET", "requirepass", "new")
    tried = wire.connections
    wire.come_back()
    until(lambda: database.breaker.is_closed())
    for _ in range(5):
        assert database.upkeep.round() is not None

    assert wire.connections == tried + 1
    with pytest.raises(AuthenticationFailed):
        database.redis("PING")
