"""Calls that are made for a task: they run in a greenlet, and where a thread would block, their event loop goes on.

So one set of decisions (pool, guard, breaker, transactions, every service on Redis) serves threads and tasks, and
only what waits has a second form. Without greenlets each of these would exist twice. A switch there and back
takes about a microsecond; `benchmarks/aio.py` has whole calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from functools import partial
from threading import Thread, get_ident, local
from typing import Any, ParamSpec, TypeVar, cast

from greenlet import getcurrent, greenlet

from katax_cli.core import waiting
from katax_cli.core.waiting import BlockLimit, Gate, SharedEvent

P = ParamSpec("P")
T = TypeVar("T")


class _CallGreenlet(greenlet):  # type: ignore[misc]
    """Runs one call after the other; beginning a greenlet takes ten times as long as switching to one."""

    def __init__(self) -> None:
        super().__init__(self._work, getcurrent())
        self.is_running = self.is_ended = False
        self.answer: object = None
        self.failed: BaseException | None = None
        self.switch()

    def _work(self) -> None:
        fn, args, kwargs = self.parent.switch()
        while True:
            try:
                self.answer = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - it is handed to the task that made the call
                self.failed = error
            self.is_running = False
            # What the call was given is not kept alive until the next one.
            del fn, args, kwargs
            fn, args, kwargs = self.parent.switch()


class _Idle(local):
    """The runners of this thread that have nothing to do."""

    def __init__(self) -> None:
        self.runners: list[_CallGreenlet] = []


_idle = _Idle()
_MOST_IDLE = 100


async def call(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Returns what `fn` returns; it may `wait_for` awaitables, and block in no other way."""
    idle = _idle.runners
    runner = idle.pop() if idle else _CallGreenlet()
    runner.parent = current = getcurrent()
    # Context variables that the call sets are the task's.
    runner.gr_context = current.gr_context
    runner.is_running = True
    answer = runner.switch((fn, args, kwargs))
    while runner.is_running:
        try:
            value = await answer
        except BaseException as error:  # noqa: BLE001 - it belongs to the call
            # A coroutine that is closed may await nothing more.
            runner.is_ended = isinstance(error, GeneratorExit)
            runner.parent = getcurrent()
            answer = runner.throw(error)
        else:
            # A task that was begun inside another call (an eager one) is resumed outside of it.
            runner.parent = getcurrent()
            answer = runner.switch(value)
    answer, failed = runner.answer, runner.failed
    runner.gr_context = runner.answer = runner.failed = None
    if len(idle) < _MOST_IDLE and not runner.is_ended:
        idle.append(runner)
    if failed is not None:
        try:
            raise failed
        finally:
            del failed  # breaks the cycle error → traceback → frame → error
    return cast("T", answer)


def wait_for(awaitable: Awaitable[T]) -> T:
    """The awaitable's result; to be called in a call that is made for a task."""
    current = getcurrent()
    assert isinstance(current, _CallGreenlet)
    if current.is_ended:
        if asyncio.iscoroutine(awaitable):
            awaitable.close()
        raise GeneratorExit
    return cast("T", current.parent.switch(awaitable))


def is_for_a_task() -> bool:
    """True in a call that is made for a task."""
    return isinstance(getcurrent(), _CallGreenlet)


def in_thread(name: str, fn: Callable[[], T]) -> T:
    """Runs what can only block in a daemon thread called `name`, which is never joined; the task waits for its end."""
    return wait_for(asyncio.shield(started_in_thread(name, fn)))


def started_in_thread(name: str, fn: Callable[[], T]) -> asyncio.Future[T]:
    """The same, without waiting for its end."""
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    run = partial(copy_context().run, run_into, future, fn)
    Thread(target=run, name=name, daemon=True).start()
    return future


def run_into(future: asyncio.Future[T], fn: Callable[[], T]) -> None:
    """Settles a future of another thread's loop with the end of `fn`."""
    settle: Callable[[], None]
    try:
        settle = partial(set_result, future, fn())
    except BaseException as error:  # noqa: BLE001 - it belongs to whoever awaits the future
        settle = partial(_set_error, future, error)
    tell(future.get_loop(), settle)


def tell(loop: asyncio.AbstractEventLoop, settle: Callable[[], object]) -> None:
    """Calls `settle` on the loop's thread; does nothing once the loop was closed."""
    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:
        if not loop.is_closed():
            raise


def set_result(future: asyncio.Future[T], value: T) -> None:
    """Sets the result of a future unless it is done or cancelled."""
    if not future.done():
        future.set_result(value)


def _set_error(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        if isinstance(error, StopIteration):
            # No future takes one, as no coroutine raises one.
            error = RuntimeError(f"a call in a thread raised {error!r}")
        future.set_exception(error)
        # Retrieved here: asyncio would log it when no task is left to.
        future.exception()


def settled_within(future: asyncio.Future[Any], seconds: float | None) -> bool:
    """Waits for a future up to `seconds`; True when it is done. It is not cancelled."""
    if future.done():
        return True
    wait_for(asyncio.wait([future], timeout=seconds))
    return future.done()


class _TaskGate:
    """See `core.waiting.Gate`."""

    __slots__ = ("_future", "_open", "_thread")

    def __init__(self) -> None:
        self._open = False
        self._thread = get_ident()
        self._future: asyncio.Future[None] | None = None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        loop = asyncio.get_running_loop()
        # First the future, then the look: whoever opens the gate does it the other way around.
        future = self._future = loop.create_future()
        if self._open:
            return True
        timer = None if timeout < 0 else loop.call_later(timeout, set_result, future, None)
        try:
            wait_for(future)
        finally:
            if timer is not None:
                timer.cancel()
        return self._open

    def release(self) -> None:
        self._open = True
        future = self._future
        if future is None:
            return
        loop = future.get_loop()
        if get_ident() == self._thread and not loop.is_closed():
            set_result(future, None)
        else:
            tell(loop, partial(set_result, future, None))


class _TaskLimit:
    """A time limit by the loop's own timer; its callback, which may block, runs in a thread."""

    __slots__ = ("_callback", "_ended", "_seconds", "_timer", "fired")

    def __init__(self, seconds: float, callback: Callable[[], object]) -> None:
        self._seconds = seconds
        self._callback = callback
        self.fired = False

    def __enter__(self) -> _TaskLimit:
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._fire)
        return self

    def __exit__(self, *_: object) -> None:
        if self.fired:
            self._ended.wait()
        else:
            self._timer.cancel()

    def _fire(self) -> None:
        self.fired = True
        self._ended = SharedEvent()
        Thread(target=self._run, name="katax-limit", daemon=True).start()

    def _run(self) -> None:
        try:
            self._callback()
        finally:
            self._ended.set()


class _LoopWaits:
    """See `core.waiting.WayToWait`."""

    is_current = staticmethod(is_for_a_task)

    def sleep(self, seconds: float) -> None:
        wait_for(asyncio.sleep(seconds))

    def wait(self, event: SharedEvent, timeout: float | None) -> bool:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        wake = partial(tell, loop, partial(set_result, future, None))
        event.wakers.append(wake)
        if event.is_set():
            return True
        timer = None if timeout is None else loop.call_later(timeout, set_result, future, None)
        try:
            wait_for(future)
        finally:
            if timer is not None:
                timer.cancel()
            if wake in event.wakers:
                event.wakers.remove(wake)
        return event.is_set()

    def gate(self) -> Gate:
        return _TaskGate()

    def limit(self, seconds: float, callback: Callable[[], object]) -> BlockLimit:
        return _TaskLimit(seconds, callback)


waiting.install(_LoopWaits())
