"""Objects for tasks that stand before objects for threads: the same methods, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import AbstractContextManager
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from katax_cli.aio.own_loop import OwnLoop, Turn
from katax_cli.core.text.duration import Duration
from katax_cli.engines.awaited.calls import set_result
from katax_cli.errors import KataxError

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")
B = TypeVar("B", bound=Iterable[Any])


def exit_of(error: BaseException | None) -> tuple[Any, BaseException | None, Any]:
    """The arguments of `__exit__` for a block that ended with this error, or none."""
    return (None, None, None) if error is None else (type(error), error, error.__traceback__)


class AsyncProxy(Generic[S]):
    """An object for the tasks of one event loop, before the object for threads that does the work."""

    _turn: Turn | None = None
    """The turn of those who share its connection."""

    def __init__(self, wrapped: S, home: OwnLoop) -> None:
        self._wrapped = wrapped
        self._home = home

    @property
    def wraps(self) -> S:
        """The object behind it; calls of it block."""
        return self._wrapped

    def _call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Returns what `fn` returns."""
        return self._home.call(fn, *args, **kwargs)

    async def _leave(
        self, leave: Callable[[Any, BaseException | None, Any], T], error: BaseException | None
    ) -> T:
        """Leaves a block of the object behind it, with the error that ended the block."""
        return await self._call(leave, *exit_of(error))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._wrapped!r}>"


def awaited(
    method: Callable[Concatenate[Any, P], T],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """The method of this name of the object behind an AsyncProxy, with the same parameters, to be awaited."""
    name = method.__name__

    @wraps(method)
    async def run(proxy: AsyncProxy[Any], /, *args: P.args, **kwargs: P.kwargs) -> T:
        fn: Callable[P, T] = getattr(proxy._wrapped, name)
        return await proxy._call(fn, *args, **kwargs)

    return run


class AsyncBatches(Generic[B, T]):
    """The batches of a stream as they arrive, in constant memory.

    `async with` ends the stream on the server when the block is left early; `async for` alone does so once its
    iterator is closed.
    """

    def __init__(
        self,
        stream: Callable[..., AbstractContextManager[B]],
        on: AsyncProxy[Any],
        timeout: Duration | None,
    ) -> None:
        self._opens = stream
        self._on = on
        self._timeout = timeout
        self._batches: B | None = None
        self._reader: asyncio.Task[Any] | None = None
        self._is_left = False

    async def __aenter__(self) -> Self:
        self._batches = await self._on._call(self._opened, timeout=self._timeout)
        return self

    def _opened(self, *, timeout: Duration | None) -> B:
        self._stream = self._opens(timeout=timeout)
        return self._stream.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        left_by = error
        if self._reader is not None and self._on._turn is None:
            # Another task waits for a batch, on a connection that is the next caller's in a moment.
            self._is_left = True
            self._reader.cancel()
            while not self._read.done():
                try:
                    await asyncio.wait([self._read])
                except asyncio.CancelledError as cancelled:
                    left_by = cancelled
        await self._on._leave(self._stream.__exit__, left_by)
        if left_by is not None and left_by is not error:
            raise left_by

    async def __aiter__(self) -> AsyncIterator[T]:
        if self._batches is None:
            async with self:
                async for batch in self:
                    yield batch
            return
        batches = iter(self._batches)

        def following() -> T | None:
            return next(batches, None)

        while (arrived := await self._waited_for(following)) is not None:
            yield arrived
            # What arrives faster than it is read would leave no other task its turn.
            await asyncio.sleep(0)

    async def _waited_for(self, following: Callable[[], T | None]) -> T | None:
        if self._reader is not None:
            raise KataxError("another task reads this stream; give each a stream of its own")
        self._reader = reader = asyncio.current_task()
        self._read: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            return await self._on._call(following)
        except BaseException as error:
            was_left = self._is_left and reader is not None and reader.uncancel() == 0
            if was_left and isinstance(error, asyncio.CancelledError):
                raise KataxError("this stream has ended; read it within its block") from None
            raise
        finally:
            self._reader = None
            set_result(self._read, None)
