"""The core for tasks beside the drivers' own asynchronous pools: ten connections, sixty-four tasks, one event loop.

katax brings a deadline, retries, a breaker and the observation of every call; the peers have none of these. Short
runs in turn: what else the machine does hits all of them alike.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness import Work, compare, finish, present, server

from katax_cli.aio import AsyncKatax

CONNECTIONS = 10
TASKS = 64
CALLS = 640
RUNS = 15
TARGET = 1 / 0.9
"""The share of a peer's throughput that katax must reach."""
Call = Callable[[], Awaitable[object]]


def main() -> int:
    with (
        server("postgresql") as url,
        server("redis") as redis_url,
        TemporaryDirectory() as folder,
        asyncio.Runner() as runner,
    ):
        # No configuration of this repository: a profile of these two servers.
        os.chdir(folder)
        Path(folder, "profiles").mkdir()
        Path(folder, "profiles", "bench.toml").write_text(
            f"""role = "dev"
[logging]
queries = "off"
[connections.main]
type = "postgresql"
url = "{url}"
pool = {{ max = {CONNECTIONS} }}
[connections.cache]
type = "redis"
url = "{redis_url}"
pool = {{ max = {CONNECTIONS} }}
"""
        )
        stack = runner.run(entered())
        try:
            queries(runner, stack, url)
            commands(runner, stack, redis_url)
        finally:
            runner.run(stack.aclose())
    return finish()


async def entered() -> AsyncExitStack:
    return AsyncExitStack()


def queries(runner: asyncio.Runner, stack: AsyncExitStack, url: str) -> None:
    katax = runner.run(stack.enter_async_context(AsyncKatax("bench")))
    db = katax.database("main")
    compare(
        f"aio: {CALLS} × select of one row by {TASKS} tasks",
        katax=together(runner, lambda: db.query("select 1 as n")),
        peers={
            "psycopg_pool, async": through_psycopg(runner, stack, url),
            "asyncpg": through_asyncpg(runner, stack, url),
        },
        target=TARGET,
        runs=RUNS,
    )


def commands(runner: asyncio.Runner, stack: AsyncExitStack, url: str) -> None:
    katax = runner.run(stack.enter_async_context(AsyncKatax("bench")))
    redis = katax.redis("cache")

    async def set_and_get() -> None:
        await redis.redis("SET", "key", "value")
        await redis.redis("GET", "key")

    compare(
        f"aio: {CALLS} × set and get by {TASKS} tasks",
        katax=together(runner, set_and_get),
        peers={"redis.asyncio": through_redis(runner, stack, url)},
        target=TARGET,
        runs=RUNS,
    )


def together(runner: asyncio.Runner, call: Call) -> Work:
    """All calls, shared among the tasks."""

    async def some() -> None:
        for _ in range(CALLS // TASKS):
            await call()

    async def all_of_them() -> None:
        await asyncio.gather(*[some() for _ in range(TASKS)])

    return lambda: runner.run(all_of_them())


def through_psycopg(runner: asyncio.Runner, stack: AsyncExitStack, url: str) -> Work | None:
    if not present("psycopg_pool"):
        return None
    from psycopg.rows import dict_row
    from psycopg_pool import AsyncConnectionPool

    settings = {"autocommit": True, "row_factory": dict_row}
    pool = AsyncConnectionPool(url, min_size=CONNECTIONS, max_size=CONNECTIONS, kwargs=settings, open=False)
    runner.run(stack.enter_async_context(pool))

    async def query() -> None:
        async with pool.connection() as connection:
            await (await connection.execute("select 1 as n")).fetchall()

    return together(runner, query)


def through_asyncpg(runner: asyncio.Runner, stack: AsyncExitStack, url: str) -> Work | None:
    if not present("asyncpg"):
        return None
    from importlib import import_module

    pool: Any = runner.run(_pool_of(import_module("asyncpg"), url))
    stack.push_async_callback(pool.close)
    return together(runner, lambda: pool.fetch("select 1 as n"))


async def _pool_of(asyncpg: Any, url: str) -> Any:
    return await asyncpg.create_pool(url, min_size=CONNECTIONS, max_size=CONNECTIONS)


def through_redis(runner: asyncio.Runner, stack: AsyncExitStack, url: str) -> Work:
    from redis.asyncio import BlockingConnectionPool, Redis

    client: Any = Redis(connection_pool=BlockingConnectionPool.from_url(url, max_connections=CONNECTIONS))
    stack.push_async_callback(client.aclose)

    async def set_and_get() -> None:
        await client.set("key", "value")
        await client.get("key")

    return together(runner, set_and_get)


if __name__ == "__main__":
    sys.exit(main())
