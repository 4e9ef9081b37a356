"""The cache for tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

from katax_cli.aio.clients import AsyncRedisDatabase
from katax_cli.core.text.duration import Duration
from katax_cli.engines.awaited.calls import wait_for
from katax_cli.services.cache.cache import Cache
from katax_cli.services.redis.values import JSON, Codec

T = TypeVar("T")


class AsyncCache:
    """Keys are without the connection's prefix; TTLs are seconds (fractions allowed) or text such as "1h".

    Values are JSON unless a `codec` is given. `timeout` is seconds for a whole call; without it each answer is waited
    for 2 s at most. Raises ValueError for what cannot be stored (NaN, a TTL of 0, a value over the server's limit),
    QueryError for a key that holds another type.
    """

    def __init__(self, redis: AsyncRedisDatabase, *, codec: Codec = JSON) -> None:
        self.redis = redis
        self._cache = Cache(redis.wraps, codec=codec)
        self._home = redis.home

    async def get(self, key: str, *, timeout: Duration | None = None) -> Any:
        """The value, None when there is none. What was not stored as JSON comes back as its text."""
        return await self._home.call(self._cache.get, key, timeout=timeout)

    async def get_raw(self, key: str, *, timeout: Duration | None = None) -> bytes | None:
        """The bytes of a value as they are stored, None when there is none."""
        return await self._home.call(self._cache.get_raw, key, timeout=timeout)

    async def set(
        self,
        key: str,
        value: Any,
        ttl: Duration | None = None,
        *,
        only_if: str | None = None,
        keep_ttl: bool = False,
        timeout: Duration | None = None,
    ) -> bool:
        """Stores a value; False when `only_if` ("nx": missing, "xx": present) did not hold."""
        return await self._home.call(
            self._cache.set, key, value, ttl, only_if=only_if, keep_ttl=keep_ttl, timeout=timeout
        )

    async def set_raw(
        self,
        key: str,
        data: bytes,
        ttl: Duration | None = None,
        *,
        only_if: str | None = None,
        keep_ttl: bool = False,
        timeout: Duration | None = None,
    ) -> bool:
        """Stores bytes as they are; see `set`."""
        return await self._home.call(
            self._cache.set_raw, key, data, ttl, only_if=only_if, keep_ttl=keep_ttl, timeout=timeout
        )

    async def mget(self, keys: Iterable[str], *, timeout: Duration | None = None) -> list[Any]:
        """The values in the order of the keys, None for each that is missing."""
        return await self._home.call(self._cache.mget, keys, timeout=timeout)

    async def mset(
        self, values: Mapping[str, Any], ttl: Duration | None = None, *, timeout: Duration | None = None
    ) -> None:
        """Stores many values, 2,000 in a round trip; not a transaction."""
        await self._home.call(self._cache.mset, values, ttl, timeout=timeout)

    async def delete(self, *keys: str, timeout: Duration | None = None) -> int:
        """Deletes keys; returns how many there were."""
        return await self._home.call(self._cache.delete, *keys, timeout=timeout)

    async def del_many(self, keys: Iterable[str], *, timeout: Duration | None = None) -> int:
        """Deletes keys; returns how many there were."""
        return await self._home.call(self._cache.del_many, keys, timeout=timeout)

    async def forget(self, key: str, *, timeout: Duration | None = None) -> bool:
        """Deletes what `remember` keeps of a key; False when there was no value."""
        return await self._home.call(self._cache.forget, key, timeout=timeout)

    async def exists(self, key: str, *, timeout: Duration | None = None) -> bool:
        """True if there is such a key."""
        return await self._home.call(self._cache.exists, key, timeout=timeout)

    async def ttl(self, key: str, *, timeout: Duration | None = None) -> int:
        """Seconds to live, rounded; -1: for ever, -2: no such key."""
        return await self._home.call(self._cache.ttl, key, timeout=timeout)

    async def expire(self, key: str, ttl: Duration, *, timeout: Duration | None = None) -> bool:
        """Sets the lifetime of a key; False when there is none."""
        return await self._home.call(self._cache.expire, key, ttl, timeout=timeout)

    async def persist(self, key: str, *, timeout: Duration | None = None) -> bool:
        """Lets a key live for ever; False when there is none, or when it does already."""
        return await self._home.call(self._cache.persist, key, timeout=timeout)

    async def incr(self, key: str, by: int = 1, *, timeout: Duration | None = None) -> int:
        """Adds to a counter, which starts at 0; returns its new value. Keeps the lifetime."""
        return await self._home.call(self._cache.incr, key, by, timeout=timeout)

    async def incr_by(self, key: str, by: int, *, timeout: Duration | None = None) -> int:
        """The same as `incr`."""
        return await self.incr(key, by, timeout=timeout)

    async def decr(self, key: str, by: int = 1, *, timeout: Duration | None = None) -> int:
        """Takes from a counter; see `incr`."""
        return await self.incr(key, -by, timeout=timeout)

    async def scan(
        self, pattern: str = "*", *, timeout: Duration | None = None
    ) -> AsyncIterator[list[bytes]]:
        """Keys that match, in batches, without the prefix; SCAN may repeat keys."""
        batches = self._cache.scan(pattern, timeout=timeout)
        while (batch := await self._home.call(lambda: next(batches, None))) is not None:
            yield batch

    async def clear(
        self,
        pattern: str,
        *,
        on_batch: Callable[[int], object] = lambda _: None,
        timeout: Duration | None = None,
    ) -> int:
        """Deletes all keys that match; returns how many there were."""
        return await self._home.call(self._cache.clear, pattern, on_batch=on_batch, timeout=timeout)

    async def invalidate(
        self, resource: str, id: str | int | None = None, *, timeout: Duration | None = None
    ) -> int:
        """Deletes `cache:RESOURCE:*`, or `cache:RESOURCE:ID:*`; returns how many keys there were."""
        return await self._home.call(self._cache.invalidate, resource, id, timeout=timeout)

    async def flush(self, *, timeout: Duration | None = None) -> int | None:
        """Deletes everything under the prefix and returns how many keys; without a prefix the whole database."""
        return await self._home.call(self._cache.flush, timeout=timeout)

    async def stats(self, *, timeout: Duration | None = None) -> dict[str, Any]:
        """The server's counters; `hit_rate` is hits / (hits + misses), None before the first lookup."""
        return await self._home.call(self._cache.stats, timeout=timeout)

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

        def compute() -> T:
            return wait_for(fn())

        return await self._home.call(
            self._cache.remember, key, ttl, compute, beta=beta, stale_if_error=stale_if_error, timeout=timeout
        )
