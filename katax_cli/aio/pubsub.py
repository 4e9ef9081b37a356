"""Messages by channel for tasks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from threading import Event
from types import TracebackType
from typing import Generic, Self, TypeVar

from katax_cli.aio.clients import AsyncRedisDatabase
from katax_cli.aio.proxy import AsyncProxy, awaited
from katax_cli.core.callables import plain
from katax_cli.core.text.duration import Duration
from katax_cli.engines.awaited.calls import in_thread, set_result, started_in_thread, tell
from katax_cli.errors import KataxError
from katax_cli.services.redis.pubsub import PubSub
from katax_cli.services.redis.subscription import Message, Subscription
from katax_cli.services.redis.values import JSON, Codec

T = TypeVar("T")
MOST_WAITING = 1000
"""Messages that wait for their reader; then the server keeps the others, and cuts a reader off that never comes."""


class Arrivals(Generic[T]):
    """The arrivals of a thread, for a task: `async with` calls `start`, `async for` receives, the end calls `close`.

    The thread tells by `_heard` and `_ended`. The loop raises what ended it for good, and ends when it is closed.
    """

    def __init__(
        self, redis: AsyncRedisDatabase, *, start: Callable[[], object], close: Callable[[], object]
    ) -> None:
        self._home = redis.home
        self._start, self._close = start, close
        self._arrived: deque[T] = deque()
        self._room = Event()
        self._room.set()
        self._waiter: asyncio.Future[None] | None = None
        self._is_closed = False
        self._ended_by: BaseException | None = None

    async def __aenter__(self) -> Self:
        self._home.enter()
        # From now on the end of the container ends it: what is opened after that would live on.
        self._home.subscriptions.add(self)
        starting = started_in_thread("katax-subscribe", self._start)
        try:
            await asyncio.shield(starting)
        except BaseException:
            self._home.subscriptions.discard(self)
            if not starting.done() or starting.exception() is None:
                # Cut off: what the thread begins, or has begun, ends after it.
                starting.add_done_callback(lambda _: started_in_thread("katax-unsubscribe", self.end))
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the subscription; a loop over its messages ends."""
        await self._home.call(in_thread, "katax-unsubscribe", self.end)

    def end(self) -> None:
        """The same from any thread, which it blocks."""
        self._is_closed = True
        self._home.subscriptions.discard(self)
        self._room.set()
        tell(self._home.loop, self._wake)
        self._close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        self._home.enter()
        while not self._arrived:
            if self._ended_by is not None:
                raise self._ended_by
            if self._is_closed:
                raise StopAsyncIteration
            if self._waiter is not None and not self._waiter.done():
                raise KataxError("another task reads these messages; give each a subscription of its own")
            # First the future, then the look: the thread does it the other way around.
            self._waiter = self._home.loop.create_future()
            if not self._arrived and self._ended_by is None and not self._is_closed:
                await self._waiter
            else:
                self._waiter = None
        arrived = self._arrived.popleft()
        if len(self._arrived) < MOST_WAITING:
            self._room.set()
        return arrived

    def _heard(self, arrived: T) -> None:
        """In the thread that receives, which waits while its reader is far behind."""
        if len(self._arrived) >= MOST_WAITING:
            self._room.clear()
            if len(self._arrived) >= MOST_WAITING and not self._is_closed:
                self._room.wait()
        self._arrived.append(arrived)
        tell(self._home.loop, self._wake)

    def _ended(self, error: BaseException) -> None:
        self._ended_by = error
        tell(self._home.loop, self._wake)

    def _wake(self) -> None:
        if self._waiter is not None:
            set_result(self._waiter, None)


class AsyncSubscription(Arrivals[Message]):
    """Messages of channels and patterns: `async with` subscribes, `async for` receives.

    A thread keeps the connection, comes back after a loss by itself and reports the gap to `on_gap(seconds)`, on the
    event loop. The loop over messages raises what ended the subscription for good, and ends when it is closed. A
    message that the codec cannot decode is logged and left out.
    """

    def __init__(
        self,
        redis: AsyncRedisDatabase,
        channels: Sequence[str],
        patterns: Sequence[str],
        *,
        on_gap: Callable[[float], object] = lambda _: None,
        codec: Codec = JSON,
        timeout: Duration | None = None,
    ) -> None:
        plain(on_gap, "on_gap()")
        subscription = Subscription(
            redis.wraps,
            on_message=self._heard,
            on_gap=lambda seconds: tell(self._home.loop, partial(on_gap, seconds)),
            on_end=self._ended,
            codec=codec,
        )
        start = partial(subscription.start, channels=channels, patterns=patterns, timeout=timeout)
        super().__init__(redis, start=start, close=subscription.close)

    async def __anext__(self) -> Message:
        while not (message := await super().__anext__()).is_readable():
            pass
        return message


class AsyncPubSub(AsyncProxy[PubSub]):
    """Publishes values as JSON, unless a `codec` is given, and subscribes to channels and patterns."""

    def __init__(self, redis: AsyncRedisDatabase, *, codec: Codec = JSON) -> None:
        super().__init__(PubSub(redis.wraps, codec=codec), redis.home)
        self._subscription = partial(AsyncSubscription, redis, codec=codec)

    publish = awaited(PubSub.publish)

    def subscribe(
        self,
        *channels: str,
        on_gap: Callable[[float], object] = lambda _: None,
        timeout: Duration | None = None,
    ) -> AsyncSubscription:
        """Messages of channels: `async with pubsub.subscribe("news") as messages: async for message in messages:`.

        Messages that are published while the connection is away are lost; `on_gap(seconds)` is called then.
        """
        return self._subscription(channels, (), on_gap=on_gap, timeout=timeout)

    def psubscribe(
        self,
        *patterns: str,
        on_gap: Callable[[float], object] = lambda _: None,
        timeout: Duration | None = None,
    ) -> AsyncSubscription:
        """The same for channels that match globs."""
        return self._subscription((), patterns, on_gap=on_gap, timeout=timeout)
