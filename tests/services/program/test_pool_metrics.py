"""Pool metrics of the real pools: idle, in use, waiting."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any, NamedTuple

import psycopg_pool
import pymongo
import pytest
import redis
import redis.asyncio
import sqlalchemy
from redis.connection import BlockingConnectionPool

from katax_cli import Katax, PoolStats, create_metrics_pool, is_metrics_pool
from tests.servers.fixtures import MakeFresh, Target
from tests.waiting import connecting

TIMEOUT = 60.0


class Case(NamedTuple):
    """A pool of two at most, how to hold one of its connections, and how to give it back."""

    pool: Any
    take: Callable[[], Any]
    give: Callable[[Any], object]
    waits: bool = True


def _psycopg(url: str) -> Case:
    pool: Any = psycopg_pool.ConnectionPool(url, min_size=0, max_size=2, open=True)
    return Case(pool, pool.getconn, pool.putconn)


def _engine(url: str) -> Case:
    engine = sqlalchemy.create_engine(
        url.replace("postgresql://", "postgresql+psycopg://"), pool_size=1, max_overflow=1
    )
    return Case(engine, engine.connect, lambda connection: connection.close())


def _queue_pool(url: str) -> Case:
    case = _engine(url)
    return case._replace(pool=case.pool.pool)


def _redis(url: str) -> Case:
    pool: Any = BlockingConnectionPool.from_url(url, max_connections=2)
    client = redis.Redis(connection_pool=pool)
    return Case(client, pool.get_connection, pool.release)


def _redis_pool(url: str) -> Case:
    pool: Any = redis.ConnectionPool.from_url(url, max_connections=2)
    return Case(pool, pool.get_connection, pool.release, waits=False)


CASES = {
    "psycopg_pool": ("postgresql", _psycopg),
    "sqlalchemy engine": ("postgresql", _engine),
    "sqlalchemy pool": ("postgresql", _queue_pool),
    "redis client": ("redis", _redis),
    "redis pool": ("redis", _redis_pool),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, fresh: MakeFresh) -> Iterator[Case]:
    engine, make = CASES[request.param]
    made = make(fresh(engine).url)
    yield made
    for way in ("dispose", "close", "disconnect"):
        if hasattr(made.pool, way):
            getattr(made.pool, way)()
            break


def reached(read: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + TIMEOUT
    while not read():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_a_foreign_pool_from_empty_to_full_to_waiting_and_back(case: Case) -> None:
    pool = create_metrics_pool(case.pool)
    assert pool.get_metrics() == PoolStats(2, total=0, active=0, idle=0, waiting=0)
    first = case.take()
    assert pool.get_metrics() == PoolStats(2, total=1, active=1, idle=0, waiting=0)
    second = case.take()
    assert pool.get_metrics() == PoolStats(2, total=2, active=2, idle=0, waiting=0)
    if case.waits:
        waiter = threading.Thread(target=lambda: case.give(case.take()))
        waiter.start()
        assert reached(lambda: pool.get_metrics().waiting == 1)
        case.give(first)
        waiter.join(TIMEOUT)
        first = case.take()
    case.give(first)
    assert reached(lambda: pool.get_metrics().active == 1)
    case.give(second)
    assert reached(lambda: pool.get_metrics().active == 0)
    assert pool.get_metrics().idle >= 1


def test_pymongo(mongodb_url: str) -> None:
    with pymongo.MongoClient[dict[str, Any]](mongodb_url, maxPoolSize=7) as client:
        pool = create_metrics_pool(client)
        client.admin.command("ping")
        stats = pool.get_metrics()
        assert (stats.max, stats.active, stats.waiting) == (7, 0, 0)
        assert stats.idle == stats.total >= 1


def test_a_pool_without_a_limit_says_zero(postgresql_url: str) -> None:
    engine = sqlalchemy.create_engine(
        postgresql_url.replace("postgresql://", "postgresql+psycopg://"), max_overflow=-1
    )
    assert create_metrics_pool(engine).get_metrics().max == 0


def test_a_sqlite3_connection_is_always_in_use() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        assert create_metrics_pool(connection).get_metrics() == PoolStats(
            max=1, total=1, active=1, idle=0, waiting=0
        )


def test_katax_databases_and_their_pools(engine: Target) -> None:
    with Katax("local") as katax:
        connection = {"url": engine.url, "connect_timeout": connecting(engine.url)}
        database = katax.database("x", connection=connection, pool={"max": 4})
        database.ping()
        assert create_metrics_pool(database).get_metrics() == database.pool_stats()
        assert database.pool_stats().total >= 1
        if hasattr(database, "pool"):
            assert create_metrics_pool(database.pool).get_metrics() == database.pool_stats()


def test_it_is_still_the_pool() -> None:
    with ExitStack() as stack:
        connection = stack.enter_context(closing(sqlite3.connect(":memory:")))
        pool = create_metrics_pool(connection)
        assert pool.execute("select 1").fetchone() == (1,)
        assert pool.pool is connection
        assert create_metrics_pool(pool) is pool
        assert (is_metrics_pool(pool), is_metrics_pool(connection)) == (True, False)


def test_what_is_no_pool_is_refused() -> None:
    with pytest.raises(TypeError, match="a dict has no pool metrics; they exist for katax's databases"):
        create_metrics_pool({})


def test_asynchronous_pools(postgresql_url: str, redis_url: str, mongodb_url: str) -> None:
    async def look() -> dict[str, tuple[int, int, int]]:
        seen: dict[str, tuple[int, int, int]] = {}

        def note(name: str, pool: object) -> None:
            stats = create_metrics_pool(pool).get_metrics()
            seen[name] = (stats.max, stats.active, stats.waiting)

        async with psycopg_pool.AsyncConnectionPool(postgresql_url, min_size=0, max_size=1) as pool:
            async with pool.connection():
                waiter = asyncio.create_task(pool.getconn())
                while pool.get_stats().get("requests_waiting", 0) == 0:
                    await asyncio.sleep(0)
                note("psycopg", pool)
            await pool.putconn(await waiter)
        connections: Any = redis.asyncio.BlockingConnectionPool.from_url(redis_url, max_connections=1)
        client = redis.asyncio.Redis(connection_pool=connections)
        held = await connections.get_connection()
        task: Any = asyncio.ensure_future(client.ping())
        while not connections._condition._waiters:
            await asyncio.sleep(0)
        note("redis", client)
        await connections.release(held)
        await task
        await connections.disconnect()
        async with pymongo.AsyncMongoClient[dict[str, Any]](mongodb_url, maxPoolSize=7) as mongo:
            await mongo.admin.command("ping")
            note("mongodb", mongo)
        return seen

    assert asyncio.run(look()) == {"psycopg": (1, 1, 1), "redis": (1, 1, 1), "mongodb": (7, 0, 0)}
