"""The event loop that owns the connections of a container."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from katax_cli.aio.guard import doubt_of
from katax_cli.engines.awaited.calls import call
from katax_cli.errors import ConfigError

P = ParamSpec("P")
T = TypeVar("T")


class OwnLoop:
    """The first event loop that makes a call owns the connections; waiters of another one could not be answered."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        """What `fn` returns, to be awaited. Raises ConfigError on another event loop than the first.

        A cancellation after which nobody can know whether a write was applied is raised as OutcomeUnknown.
        """
        self.enter()
        return _told_of_doubt(call(fn, *args, **kwargs))

    def enter(self) -> asyncio.AbstractEventLoop:
        """The event loop. Raises ConfigError on another one than the first."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                raise ConfigError(
                    "these connections belong to the event loop that used them first; make an AsyncKatax on each loop"
                )
            self._loop = loop
        return loop

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
