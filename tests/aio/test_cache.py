"""Redis and the cache for tasks."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial

import pytest

from katax_cli import CircuitBreaker
from katax_cli.aio import AsyncCache, AsyncCircuitBreaker, AsyncRedisDatabase
from katax_cli.engines.awaited import calls
from katax_cli.engines.awaited.redis import TaskQueue
from katax_cli.errors import DeadlineExceeded, OutcomeUnknown, PoolTimeout, Refused, Unavailable
from tests.aio.conftest import MakeKatax
from tests.aio.tasks import eventually
from tests.servers.fixtures import MakeProxy
from tests.servers.server import Server
from tests.waiting import SECONDS


async def test_values(make_katax: MakeKatax, redis_url: str) -> None:
    async with make_katax(cache={"url": redis_url, "prefix": "app:"}) as katax:
        cache = katax.cache()
        assert await cache.set("user:7", {"name": "Ada"}, ttl="1h")
        assert await cache.get("user:7") == {"name": "Ada"}
        assert 3000 < await cache.ttl("user:7") <= 3600
        await cache.mset({f"n:{n}": n for n in range(3000)})
        assert await cache.mget([f"n:{n}" for n in range(3000)]) == list(range(3000))
        assert sum([len(batch) async for batch in cache.scan("n:*")]) >= 3000
        assert await cache.clear("n:*") == 3000
        assert (await cache.incr("hits"), await cache.decr("hits"), await cache.exists("user:7")) == (
            1,
            0,
            True,
        )
        assert await cache.delete("user:7", "hits") == 2


async def test_a_value_is_computed_once(make_katax: MakeKatax, redis_url: str) -> None:
    async with make_katax(cache=redis_url) as katax:
        cache, runs = katax.cache(), list[int]()

        async def compute() -> str:
            runs.append(1)
            await asyncio.sleep(0.05)
            return "dear"

        got = await asyncio.gather(*[cache.remember("key", 60, compute, beta=0.0) for _ in range(30)])
        assert (got, runs) == (["dear"] * 30, [1])


async def test_no_reply_reaches_the_wrong_caller(make_katax: MakeKatax, redis_url: str) -> None:
    """500 tasks on three connections, a third of them cancelled at every moment of their call."""
    async with make_katax(cache={"url": redis_url, "pool": {"max": 3, "timeout": 300.0}}) as katax:
        cache = katax.cache()
        await cache.mset({f"k{n}": n for n in range(500)})

        async def ask(n: int) -> int:
            for _ in range(3):
                assert await cache.get(f"k{n}", timeout=300) == n
            return n

        tasks = [asyncio.create_task(ask(n)) for n in range(500)]
        for n, task in enumerate(tasks):
            if n % 3 == 0:
                await asyncio.sleep(0)
                task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        wrong = [
            end for n, end in enumerate(ended) if end != n and not isinstance(end, asyncio.CancelledError)
        ]
        assert wrong == []
        assert sum(end == n for n, end in enumerate(ended)) >= 333
        assert (await cache.get("k9"), cache.redis.pool_stats().active) == (9, 0)


async def test_a_cancelled_command_closes_its_connection(make_katax: MakeKatax, redis_url: str) -> None:
    """An element that BLPOP took may be lost with it: that is said."""
    async with make_katax(cache={"url": redis_url, "pool": {"max": 1}}, other=redis_url) as katax:
        redis, other = katax.redis("cache"), katax.redis("other")
        task = asyncio.create_task(redis.redis("BLPOP", "queue", 0, timeout=60))
        await eventually(lambda: blocked(other))
        task.cancel()
        with pytest.raises(OutcomeUnknown):
            await task
        assert await redis.redis("PING") in (b"PONG", "PONG")


async def test_a_cancelled_computation_is_no_failing_one(make_katax: MakeKatax, redis_url: str) -> None:
    """Though it wrote, and its outcome is unknown, the last value does not hide that its task was cancelled."""
    async with make_katax(cache=redis_url, other=redis_url) as katax:
        cache, redis, other = katax.cache(), katax.redis("cache"), katax.redis("other")
        breaker = AsyncCircuitBreaker(CircuitBreaker(failures=1))

        async def first() -> str:
            await asyncio.sleep(0)
            return "first"

        async def second() -> object:
            return await breaker.execute(lambda: redis.redis("BLPOP", "queue", 0, timeout=60))

        for keep_alive in (True, False):
            remember = partial(cache.remember, "key", "1h", beta=0.0, stale_if_error=True, timeout=60)
            assert await remember(first) == "first"
            if not keep_alive:
                await cache.delete("key", timeout=60)
            # Due now, as an early refresh is.
            late = partial(remember, beta=1e12) if keep_alive else remember
            task = asyncio.create_task(late(second))
            await eventually(lambda: blocked(other))
            task.cancel()
            with pytest.raises(OutcomeUnknown):
                await task
            await eventually(lambda: is_unblocked(other))
            assert breaker.breaker.is_closed()
            await cache.forget("key", timeout=60)


async def is_unblocked(redis: AsyncRedisDatabase) -> bool:
    return not await blocked(redis)


async def blocked(redis: AsyncRedisDatabase) -> bool:
    return b"cmd=blpop" in await redis.redis("CLIENT", "LIST")


async def test_time_limits(make_katax: MakeKatax, redis_url: str, proxy: MakeProxy) -> None:
    """Of an answer, of a connection that is not free, of a server that is silent."""
    wire = proxy(redis_url)
    async with make_katax(cache={"url": wire.url, "pool": {"max": 1, "timeout": 0.1}}) as katax:
        redis = katax.redis("cache")

        async def answers() -> bool:
            with suppress(Unavailable):
                await redis.redis("PING", timeout=60)
                return True
            return False

        await eventually(answers)
        blocking = asyncio.create_task(redis.redis("BLPOP", "queue", 0, timeout=60))
        await eventually(lambda: busy(redis))
        with pytest.raises(PoolTimeout):
            await redis.redis("GET", "key")
        blocking.cancel()
        await asyncio.gather(blocking, return_exceptions=True)
        await eventually(answers)
        wire.stall()
        with pytest.raises((DeadlineExceeded, Unavailable)):
            await redis.redis("GET", "key", timeout=0.2)
        wire.resume()
        await eventually(answers)
        assert await redis.redis("GET", "key", timeout=60) is None


async def test_a_waiter_whose_time_is_over_keeps_nobody_waiting() -> None:
    """Until its task goes on it stands in the line, and a connection that came back meanwhile is nobody's."""
    queue = TaskQueue()
    queue.put_nowait("connection")
    late: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    queue.not_empty.tasks.append(late)
    late.set_result(False)
    async with asyncio.timeout(SECONDS):
        assert await calls.call(queue.get, timeout=None) == "connection"


async def busy(redis: AsyncRedisDatabase) -> bool:
    return redis.pool_stats().active == 1


async def test_over_tls(make_katax: MakeKatax, tls_redis: Server) -> None:
    """More than one record of TLS at once, in both directions."""
    assert tls_redis.certificates is not None
    tls = {"mode": "verify-full", "ca": str(tls_redis.certificates.ca)}
    url = tls_redis.url.replace("redis://", "rediss://")
    async with make_katax(cache={"url": url, "type": "redis", "tls": tls}) as katax:
        cache, large = katax.cache(), "x" * 5_000_000
        await cache.set("large", large, timeout=60)
        assert await asyncio.gather(*[cache.get("large", timeout=60) for _ in range(5)]) == [large] * 5


async def test_a_read_only_connection(make_katax: MakeKatax, redis_url: str) -> None:
    async with make_katax(cache={"url": redis_url, "read_only": True}) as katax:
        cache: AsyncCache = katax.cache()
        assert await cache.get("key") is None
        with pytest.raises(Refused):
            await cache.set("key", 1)
