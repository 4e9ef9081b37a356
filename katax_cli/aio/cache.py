"""The cache for tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from katax_cli.aio.clients import AsyncRedisDatabase
from katax_cli.aio.proxy import AsyncProxy, awaited
from katax_cli.core.text.duration import Duration
from katax_cli.engines.awaited.calls import wait_for
from katax_cli.services.cache.cache import Cache
from katax_cli.services.redis.values import JSON, Codec

T = TypeVar("T")


class AsyncCache(AsyncProxy[Cache]):
    """The methods of `Cache`, awaited.

    Keys are without the connection's prefix; TTLs are seconds (fractions allowed) or text such as "1h".
    Values are JSON unless a `codec` is given. `timeout` is seconds for a whole call; without it each answer is waited
    for 2 s at most. Raises ValueError for what cannot be stored (NaN, a TTL of 0, a value over the server's limit),
    QueryError for a key that holds another type.
    """

    def __init__(self, redis: AsyncRedisDatabase, *, codec: Codec = JSON) -> None:
        super().__init__(Cache(redis.wraps, codec=codec), redis.home)
        self.redis = redis

    get = awaited(Cache.get)
    get_raw = awaited(Cache.get_raw)
    set = awaited(Cache.set)
    set_raw = awaited(Cache.set_raw)
    mget = awaited(Cache.mget)
    mset = awaited(Cache.mset)
    delete = awaited(Cache.delete)
    del_many = awaited(Cache.del_many)
    forget = awaited(Cache.forget)
    exists = awaited(Cache.exists)
    ttl = awaited(Cache.ttl)
    expire = awaited(Cache.expire)
    persist = awaited(Cache.persist)
    incr = awaited(Cache.incr)
    incr_by = awaited(Cache.incr_by)
    decr = awaited(Cache.decr)
    clear = awaited(Cache.clear)
    invalidate = awaited(Cache.invalidate)
    flush = awaited(Cache.flush)
    stats = awaited(Cache.stats)

    async def scan(
        self, pattern: str = "*", *, timeout: Duration | None = None
    ) -> AsyncIterator[list[bytes]]:
        """Keys that match, in batches, without the prefix; SCAN may repeat keys."""
        batches = self._wrapped.scan(pattern, timeout=timeout)
        while (batch := await self._call(lambda: next(batches, None))) is not None:
            yield batch

    async def remember(
        self,
        key: str,
        ttl: Duration,
        fn: Callable[[], Awaitable[T]],
        *,
        beta: float = 1.0,
        stale_if_error: bool = False,
        timeout: Duration | None = None,
    ) -> T | Any:
        """The value of a key, computed by the coroutine function `fn` when there is none, by one caller at a time."""
        return await self._call(
            self._wrapped.remember,
            key,
            ttl,
            lambda: wait_for(fn()),
            beta=beta,
            stale_if_error=stale_if_error,
            timeout=timeout,
        )
