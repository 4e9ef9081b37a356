"""The pool over the real engines: what a model of a driver cannot show."""

import os
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import pytest

from katax_cli.core.clock import SYSTEM
from katax_cli.core.pooling.pool import Pool
from katax_cli.core.resilience.failure import FailureKind
from katax_cli.core.settings import PoolSettings, Secret
from katax_cli.engines.base import SqlEngine
from katax_cli.engines.registry import load
from katax_cli.errors import PoolTimeout
from tests.engines.connections import settings_for
from tests.fake_clock import AheadClock
from tests.servers.fixtures import MakeFresh, MakeProxy, Target, Throwaway

TIMEOUT = 60.0


@pytest.fixture
def clock() -> AheadClock:
    return AheadClock()


class MakePool(Protocol):
    """A pool over the engine of `url` as a service builds it; closed after the test."""

    def __call__(
        self, url: str, *, max: int = 20, password: str | None = None
    ) -> tuple[Pool[Any], SqlEngine]: ...


@pytest.fixture
def make_pool(clock: AheadClock) -> Iterator[MakePool]:
    pools: list[Pool[Any]] = []

    def make(url: str, *, max: int = 20, password: str | None = None) -> tuple[Pool[Any], SqlEngine]:
        changes = {"password": Secret.of(password)} if password else {}
        settings = settings_for(url, pool=PoolSettings(max=max, timeout=TIMEOUT), **changes)
        engine = cast(SqlEngine, load(settings))
        made: Pool[Any] = Pool(
            settings.name,
            engine.connect,
            close=engine.close,
            check=partial(engine.ping, timeout=TIMEOUT),
            is_broken=engine.is_broken,
            reset=engine.reset,
            settings=settings.pool,
            clock=clock,
        )
        pools.append(made)
        return made, engine

    yield make
    for each in pools:
        each.close(timeout=1.0)


def one(engine: SqlEngine, connection: object) -> object:
    return engine.execute(connection, "select 1", timeout=TIMEOUT).rows[0][0]


def test_a_crowd_shares_few_connections(make_pool: MakePool, sql_engine: Target) -> None:
    pool, engine = make_pool(sql_engine.url, max=2)
    answers: list[object] = []

    def work() -> None:
        for _ in range(10):
            with pool.connection() as connection:
                answers.append(one(engine, connection))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [1] * 80
    assert pool.counters()["opened"] <= 2
    assert pool.counters()["acquired"] == 80


def test_an_open_transaction_does_not_reach_the_next_user(make_pool: MakePool, sql_engine: Target) -> None:
    pool, engine = make_pool(sql_engine.url, max=1)
    with pool.connection() as connection:
        engine.execute(connection, "create table t (n integer)", timeout=TIMEOUT)
        engine.execute(connection, engine.facts.begin, timeout=TIMEOUT)
        engine.execute(connection, "insert into t values (1)", timeout=TIMEOUT)
    with pool.connection() as again:
        assert again is connection
        assert not engine.in_transaction(again)
        assert engine.execute(again, "select count(*) from t", timeout=TIMEOUT).rows == [(0,)]


def test_a_statement_error_keeps_the_connection(make_pool: MakePool, sql_engine: Target) -> None:
    pool, engine = make_pool(sql_engine.url, max=1)
    with pytest.raises(Exception, match=r"(?i)nowhere"), pool.connection() as connection:
        engine.execute(connection, "select * from nowhere", timeout=TIMEOUT)
    with pool.connection() as again:
        assert again is connection
        assert one(engine, again) == 1


def test_close_names_what_is_out(make_pool: MakePool, sql_engine: Target) -> None:
    pool, engine = make_pool(sql_engine.url, max=2)
    started, finish = threading.Event(), threading.Event()

    def work() -> None:
        with pool.connection() as connection:
            started.set()
            finish.wait()
            assert one(engine, connection) == 1

    thread = threading.Thread(target=work, name="nightly-report")
    before = SYSTEM.now()
    thread.start()
    started.wait()
    (out,) = pool.close()
    assert out.thread == "nightly-report"
    assert before - 1.0 <= out.since <= SYSTEM.now() + 1.0
    finish.set()
    thread.join()
    assert pool.close() == ()
    assert pool.stats().total == 0


@pytest.mark.parametrize("name", ["postgresql", "mysql"])
def test_a_killed_server_is_noticed_and_the_restarted_one_used(
    make_pool: MakePool, throwaway: Throwaway, clock: AheadClock, name: str
) -> None:
    server = throwaway(name)
    pool, engine = make_pool(server.url, max=3)
    connections = [pool.acquire() for _ in range(3)]
    for connection in connections:
        pool.release(connection)
    server.kill()
    clock.lead += 1.0
    with pytest.raises(Exception) as error:
        pool.acquire()
    assert engine.classify(error.value).kind is FailureKind.UNREACHABLE
    server.start()
    for _ in range(3):
        with pool.connection() as connection:
            assert one(engine, connection) == 1
    assert pool.acquire() not in connections
    assert pool.counters()["discarded"] >= 1


@pytest.mark.parametrize("name", ["postgresql", "mysql"])
def test_a_cut_wire_wakes_who_waits(
    make_pool: MakePool, proxy: MakeProxy, fresh: MakeFresh, name: str
) -> None:
    wire = proxy(fresh(name))
    pool, engine = make_pool(wire.url, max=1)
    answers: list[object] = []

    def work() -> None:
        with pool.connection() as connection:
            answers.append(one(engine, connection))

    thread = threading.Thread(target=work)
    with pytest.raises(Exception) as error, pool.connection() as connection:  # noqa: PT012
        thread.start()
        while not pool.stats().waiting:
            os.sched_yield()
        wire.cut()
        one(engine, connection)
    assert engine.classify(error.value).kind in (FailureKind.LOST, FailureKind.UNREACHABLE)
    thread.join()
    assert answers == [1]
    assert pool.counters()["opened"] == 2


def test_sessions_on_the_server_never_exceed_max_and_end_with_the_pool(
    make_pool: MakePool, fresh: MakeFresh
) -> None:
    target = fresh("postgresql")
    watcher, engine = make_pool(target.server.url, max=1)
    pool, _ = make_pool(target.url, max=2)
    sessions = partial(sessions_on, watcher, engine, urlsplit(target.url).path[1:])
    first, second = pool.acquire(), pool.acquire()
    with pytest.raises(PoolTimeout):
        pool.acquire(timeout=0.01)
    assert sessions() == 2
    pool.release(first, broken=True)
    pool.release(second)
    pool.close()
    while sessions():
        os.sched_yield()


def sessions_on(watcher: Pool[Any], engine: SqlEngine, database: str) -> int:
    count = f"select count(*) from pg_stat_activity where datname = '{database}'"
    with watcher.connection() as connection:
        return int(engine.execute(connection, count, timeout=TIMEOUT).rows[0][0])


# A pool must survive exactly what this warning is about.
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_leaves_the_parents_connection_alone(make_pool: MakePool, fresh: MakeFresh) -> None:
    pool, engine = make_pool(fresh("postgresql").url, max=1)
    with pool.connection() as connection:
        child = os.fork()
        if child == 0:
            os._exit(child_of(pool, engine, connection))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert one(engine, connection) == 1
    with pool.connection() as again:
        assert again is connection


def child_of(pool: Pool[Any], engine: SqlEngine, parents: object) -> int:
    """0 when the child works on a connection of its own and returning the parent's harms nobody."""
    with pool.connection() as own:
        if own is parents or one(engine, own) != 1:
            return 1
    pool.release(parents)
    pool.close()
    return 0
