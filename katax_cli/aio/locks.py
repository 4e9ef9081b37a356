"""Locks for tasks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

from katax_cli.aio.clients import AsyncRedisDatabase
from katax_cli.core.text.duration import Duration
from katax_cli.engines.awaited.calls import tell
from katax_cli.errors import LockLost
from katax_cli.services.locks.lock import DEFAULT_TTL, MAX_HOLD, Lock


class AsyncLock:
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
        ttl: Duration = DEFAULT_TTL,
        wait: Duration = 0.0,
        max_hold: Duration = MAX_HOLD,
    ) -> None:
        self._lock = Lock(redis.wraps, name, ttl=ttl, wait=wait, max_hold=max_hold)
        self._home = redis.home

    @property
    def name(self) -> str:
        """The lock's name."""
        return self._lock.name

    @property
    def token(self) -> int:
        """The fencing token, higher than any before; 0 while it is not held."""
        return self._lock.token

    @property
    def lost(self) -> bool:
        """True once the lock is lost; no round trip."""
        return self._lock.lost

    def check(self) -> None:
        """Raises LockLost once the lock is lost; no round trip."""
        self._lock.check()

    def on_lost(self, listener: Callable[[LockLost], object]) -> None:
        """Calls `listener(error)` on the event loop when the lock is lost; such as the `cancel` of a task."""
        loop = self._home.enter()
        self._lock.on_lost(lambda error: tell(loop, partial(listener, error)))

    async def acquire(self, *, timeout: Duration | None = None) -> int:
        """Takes the lock and starts to renew it; returns the fencing token.

        `timeout` is seconds for all of it, the waiting for another holder included.
        """
        return await self._home.call(self._lock.acquire, timeout=timeout)

    async def release(self, *, timeout: Duration | None = None) -> None:
        """Stops renewing and gives the lock back. Raises LockLost when it was not ours any more."""
        await self._home.call(self._lock.release, timeout=timeout)

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._home.call(self._lock.__exit__, kind, error, trace)
