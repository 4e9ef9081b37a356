"""The event loop that owns the connections of a container, and what a cancellation on it leaves in doubt."""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Literal, ParamSpec, Protocol, TypeVar

from katax_cli.core.resilience.deadline import Deadline
from katax_cli.engines.awaited.calls import call
from katax_cli.errors import ConfigError, KataxError, OutcomeUnknown
from katax_cli.services.calls.guard import Guard, Safety, Sent

P = ParamSpec("P")
T = TypeVar("T")
_WRITES = (Safety.WRITE, Safety.IDEMPOTENT)


class Ends(Protocol):
    """A thing that tasks wait for, and that any thread may end."""

    def end(self) -> None: ...


class Turn(asyncio.Lock):
    """Statements that share a connection take turns.

    Raises KataxError to the task whose own statement has the turn, as one that reads what it sends: both would wait.
    """

    _task: asyncio.Task[Any] | None = None

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


class AwaitedGuard(Guard):
    """Notes on a cancellation that a write was sent before it, unless the server refused that write.

    The cancellation itself goes on: what handles an OutcomeUnknown inside would otherwise swallow it.
    `OwnLoop.call` turns it into one.
    """

    def call(
        self, attempt: Callable[[Sent], T], *, deadline: Deadline, safety: Safety, doing: str = "query"
    ) -> T:
        if safety not in _WRITES and safety is not Safety.WHOLE:
            return super().call(attempt, deadline=deadline, safety=safety, doing=doing)
        latest = Sent()

        def noted(sent: Sent) -> T:
            nonlocal latest
            latest = sent
            return attempt(sent)

        try:
            return super().call(noted, deadline=deadline, safety=safety, doing=doing)
        except CancelledError as cancelled:
            if latest.doubt or latest.sent:
                note_doubt(cancelled, self.connection, doing)
            raise

    @contextmanager
    def translating(self, *, deadline: Deadline, safety: Safety, doing: str = "query") -> Iterator[None]:
        try:
            with super().translating(deadline=deadline, safety=safety, doing=doing):
                yield
        except CancelledError as cancelled:
            if safety in _WRITES:
                note_doubt(cancelled, self.connection, doing)
            raise


def note_doubt(cancelled: CancelledError, connection: str, doing: str) -> None:
    """Notes that something was sent that the server has not refused."""
    if not getattr(cancelled, "undone", False):
        error = OutcomeUnknown(connection, f"the task was cancelled after its {doing} was sent")
        cancelled.doubt = error  # type: ignore[attr-defined]


def doubt_of(cancelled: CancelledError) -> OutcomeUnknown | None:
    """The error that the cancellation is to its caller; None when nothing can have been applied."""
    return getattr(cancelled, "doubt", None)
