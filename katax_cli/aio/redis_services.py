"""Sessions, rate limits and locks on Redis for tasks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

from katax_cli.aio.clients import AsyncRedisDatabase
from katax_cli.aio.proxy import AsyncProxy, awaited
from katax_cli.core.callables import plain
from katax_cli.core.text.duration import Duration
from katax_cli.engines.awaited.calls import tell
from katax_cli.errors import LockLost
from katax_cli.services.locks.lock import DEFAULT_TTL as LOCK_TTL
from katax_cli.services.locks.lock import MAX_HOLD, Lock
from katax_cli.services.redis.limits import DEFAULT_MAX, DEFAULT_WINDOW, Algorithm, OnError, RateLimiter
from katax_cli.services.redis.sessions import DEFAULT_TTL as SESSION_TTL
from katax_cli.services.redis.sessions import PREFIX, SessionStore
from katax_cli.services.redis.values import JSON, Codec


class AsyncSessionStore(AsyncProxy[SessionStore]):
    """The methods of `SessionStore`, awaited: sessions at `<prefix><id>`, plain JSON unless a `codec` is given.

    `ttl` is seconds or "1h". The user of a session is its field `user_id` or `userId`. `timeout` is seconds for a whole
    call; without it each answer is waited for 2 s at most.
    """

    def __init__(
        self,
        redis: AsyncRedisDatabase,
        prefix: str = PREFIX,
        ttl: Duration = SESSION_TTL,
        *,
        codec: Codec = JSON,
    ) -> None:
        super().__init__(SessionStore(redis.wraps, prefix, ttl, codec=codec), redis.home)

    create = awaited(SessionStore.create)
    set = awaited(SessionStore.set)
    get = awaited(SessionStore.get)
    update = awaited(SessionStore.update)
    touch = awaited(SessionStore.touch)
    extend = awaited(SessionStore.extend)
    destroy = awaited(SessionStore.destroy)
    list_for_user = awaited(SessionStore.list_for_user)
    revoke = awaited(SessionStore.revoke)


class AsyncRateLimiter(AsyncProxy[RateLimiter]):
    """The methods of `RateLimiter`, awaited: at most `max` in `window` seconds for each key.

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
        limiter = RateLimiter(redis.wraps, max, window, algorithm=algorithm, prefix=prefix, on_error=on_error)
        super().__init__(limiter, redis.home)

    @property
    def undecided(self) -> int:
        """Decisions that were made without an answer of Redis."""
        return self._wrapped.undecided

    check = awaited(RateLimiter.check)
    consume = awaited(RateLimiter.consume)
    take = awaited(RateLimiter.take)
    peek = awaited(RateLimiter.peek)
    reset = awaited(RateLimiter.reset)


class AsyncLock(AsyncProxy[Lock]):
    """One lock on Redis, for `async with`: taken at its start, renewed every third of `ttl`, released at its end.

    A thread renews it, so that a busy event loop does not lose it. `wait` is how many seconds to try when another
    holds it, `max_hold` after how many it is not renewed any more. When the lock is lost, `on_lost` listeners hear of
    it and the end of the block raises LockLost. Raises LockHeld; ValueError for a ttl or name that cannot be.
    """

    def __init__(
        self,
        redis: AsyncRedisDatabase,
        name: str,
        *,
        ttl: Duration = LOCK_TTL,
        wait: Duration = 0.0,
        max_hold: Duration = MAX_HOLD,
    ) -> None:
        super().__init__(Lock(redis.wraps, name, ttl=ttl, wait=wait, max_hold=max_hold), redis.home)

    @property
    def name(self) -> str:
        """The lock's name."""
        return self._wrapped.name

    @property
    def token(self) -> int:
        """The fencing token of the last acquisition, higher than any before; 0 until then."""
        return self._wrapped.token

    @property
    def lost(self) -> bool:
        """True once the lock is lost; no round trip."""
        return self._wrapped.lost

    def check(self) -> None:
        """Raises LockLost once the lock is lost; no round trip."""
        self._wrapped.check()

    def on_lost(self, listener: Callable[[LockLost], object]) -> None:
        """Calls `listener(error)` on the event loop when the lock is lost; such as the `cancel` of a task."""
        plain(listener, "on_lost()")
        loop = self._home.enter()
        self._wrapped.on_lost(lambda error: tell(loop, partial(listener, error)))

    acquire = awaited(Lock.acquire)
    release = awaited(Lock.release)

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._call(self._wrapped.__exit__, kind, error, trace)
