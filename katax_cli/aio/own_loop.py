"""The event loop that owns the connections of a container, and what a cancellation on it leaves in doubt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Literal, ParamSpec, Protocol, TypeVar

from katax_cli.core.interrupts import doubt_of
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.text.duration import Duration
from katax_cli.engines.awaited.calls import call, tell
from katax_cli.errors import ConfigError, DeadlineExceeded, KataxError

P = ParamSpec("P")
T = TypeVar("T")


class Ends(Protocol):
    """A thing that tasks wait for, and that any thread may end."""

    def end(self) -> None: ...


class Turn(asyncio.Lock):
    """Statements that share a connection take turns.

    Raises KataxError to the task whose own statement has the turn, as one that reads what it sends: both would wait.
    """

    _task: asyncio.Task[Any] | None = None

    def __init__(self, connection: str) -> None:
        super().__init__()
        self._connection = connection

    async def call(self, home: OwnLoop, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """What `fn` returns once its turn has come, for which a `timeout` of it counts too."""
        timeout: Any = kwargs.get("timeout")
        if timeout is None:
            await self.acquire()
        else:
            kwargs["timeout"] = await self._acquired_within(timeout)
        try:
            return await home.call(fn, *args, **kwargs)
        finally:
            self.release()

    async def _acquired_within(self, timeout: Duration) -> float:
        """Waits for the turn; the seconds that are left then. Raises DeadlineExceeded."""
        deadline = Deadline(timeout)
        try:
            async with asyncio.timeout(deadline.within(None)):
                await self.acquire()
        except TimeoutError:
            doing = "waiting for another task's statement"
            raise DeadlineExceeded(self._connection, doing=doing, seconds=deadline.seconds or 0.0) from None
        # Errors name these seconds: those that were given, where no other task had the turn.
        return round(deadline.remaining(), 3)

    async def acquire(self) -> Literal[True]:
        task = asyncio.current_task()
        if self._task is task:
            raise KataxError(
                "this connection waits for data that the same task reads from it; read the data on another connection"
            )
        await super().acquire()
        self._task = task
        return True

    def release(self) -> None:
        self._task = None
        super().release()


class OwnLoop:
    """The first event loop that makes a call owns the connections; waiters of another one could not be answered."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self.subscriptions: set[Ends] = set()
        """Those that end with the container, in any thread; copied whole where one looks at all, as others add."""

    def call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        """The result of `fn`, to be awaited. Raises ConfigError on another event loop than the first.

        A cancellation after which nobody can know whether a write was applied is raised as OutcomeUnknown.
        """
        self.enter()
        return _told_of_doubt(call(fn, *args, **kwargs))

    def enter(self) -> asyncio.AbstractEventLoop:
        """The event loop. Raises ConfigError on another one than the first, and where none of asyncio runs."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigError(
                "katax_cli.aio works on asyncio's event loop, and none runs here; await it in asyncio.run(), "
                "on trio use Katax in threads"
            ) from None
        if self._loop is not loop:
            if self._loop is not None:
                raise ConfigError(
                    "these connections belong to the event loop that used them first; make an AsyncKatax on each loop"
                )
            self._loop = loop
        return loop

    def told(self, listener: Callable[..., object]) -> Callable[..., object]:
        """The listener, called on the event loop also by the threads that keep pools and probe servers."""

        def tell_it(*facts: object) -> object:
            if asyncio._get_running_loop() is self._loop:
                return listener(*facts)
            tell(self.loop, partial(listener, *facts))
            return None

        return tell_it

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that owns the connections."""
        assert self._loop is not None
        return self._loop


async def _told_of_doubt(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        return await coroutine
    except asyncio.CancelledError as cancelled:
        if (doubt := doubt_of(cancelled)) is not None:
            raise doubt from cancelled
        raise
