"""Rate limits for tasks."""

from __future__ import annotations

from katax_cli.aio.clients import AsyncRedisDatabase
from katax_cli.core.text.duration import Duration
from katax_cli.services.redis.limits import (
    DEFAULT_MAX,
    DEFAULT_WINDOW,
    Algorithm,
    Decision,
    OnError,
    RateLimiter,
)


class AsyncRateLimiter:
    """At most `max` in `window` seconds for each key.

    `on_error` says what counts when Redis cannot be asked: "open" allows, "closed" refuses; without it the error is
    raised. Raises ValueError for a maximum, window or algorithm that cannot be.
    """

    def __init__(
        self,
        redis: AsyncRedisDatabase,
        max: int = DEFAULT_MAX,
        window: Duration = DEFAULT_WINDOW,
        *,
        algorithm: Algorithm = "fixed",
        prefix: str = "rate:",
        on_error: OnError | None = None,
    ) -> None:
        self._limiter = RateLimiter(
            redis.wraps, max, window, algorithm=algorithm, prefix=prefix, on_error=on_error
        )
        self._home = redis.home

    @property
    def undecided(self) -> int:
        """Decisions that were made without an answer of Redis."""
        return self._limiter.undecided

    async def check(self, key: str, *, timeout: Duration | None = None) -> Decision:
        """Takes one if it fits."""
        return await self._home.call(self._limiter.check, key, timeout=timeout)

    async def consume(self, key: str, n: int = 1, *, timeout: Duration | None = None) -> Decision:
        """Takes `n`, all or none. Raises RateLimitExceeded when they do not fit."""
        return await self._home.call(self._limiter.consume, key, n, timeout=timeout)

    async def take(self, key: str, n: int = 1, *, timeout: Duration | None = None) -> Decision:
        """Takes `n`, all or none, and says whether. Raises ValueError for an `n` that never fits."""
        return await self._home.call(self._limiter.take, key, n, timeout=timeout)

    async def peek(self, key: str, *, timeout: Duration | None = None) -> Decision:
        """The answer that `check` would give now; takes nothing, and works on a read-only connection."""
        return await self._home.call(self._limiter.peek, key, timeout=timeout)

    async def reset(self, key: str, *, timeout: Duration | None = None) -> bool:
        """Forgets what was taken, by any algorithm; False when nothing was."""
        return await self._home.call(self._limiter.reset, key, timeout=timeout)
