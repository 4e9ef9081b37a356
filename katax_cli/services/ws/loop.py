"""The thread that owns an event loop, and the threads that run a program's own functions."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from queue import Full, Queue
from threading import Thread, current_thread
from typing import Any, TypeVar

from katax_cli.core.forks import follow
from katax_cli.errors import DeadlineExceeded, Unavailable

T = TypeVar("T")
LoopCall = tuple[Callable[[], Any], asyncio.AbstractEventLoop, asyncio.Future[Any]]

LANES = 8
WAITING = 10_000
"""So many calls may wait in one lane; more are refused."""


class EventLoop:
    """An event loop in a daemon thread of its own, for synchronous callers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._run, name=f"katax-ws-{name}", daemon=True)
        self._thread.start()
        self._parent: int | None = None
        follow(self)

    def after_fork(self) -> None:
        self._parent = os.getppid()

    def call(self, work: Coroutine[Any, Any, T], timeout: float) -> T:
        """The result of `work`. Raises DeadlineExceeded; RuntimeError on the loop's own thread, which may not wait."""
        if current_thread() is self._thread:
            work.close()
            raise RuntimeError("the event loop cannot wait for itself; call this from another thread")
        future = self.start(work)
        try:
            return future.result(timeout)
        except TimeoutError:
            if not future.done():
                future.cancel()
                raise DeadlineExceeded(self.name, doing="the call", seconds=timeout) from None
            raise

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begins and does not wait. Raises Unavailable after `stop`."""
        if self._parent is not None:
            work.close()
            where = (
                f"it runs in process {self._parent}, and this one is its child; open a server after the fork"
            )
            raise Unavailable(self.name, where)
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()
            raise Unavailable(self.name, "this Socket.IO server was closed") from None

    def soon(self, call: Callable[..., object], *args: object) -> None:
        """Calls it on the loop; dropped after `stop`."""
        if not self._loop.is_closed() and self._parent is None:
            self._loop.call_soon_threadsafe(call, *args)

    def stop(self, timeout: float) -> None:
        """Cancels what still runs and ends the thread, waiting `timeout` seconds at the most."""
        if self._loop.is_closed() or self._parent is not None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        if current_thread() is not self._thread:
            self._thread.join(timeout)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()


class Lanes:
    """Daemon threads that run synchronous functions for coroutines; calls of one key keep their order."""

    def __init__(self, name: str, *, lanes: int = LANES, waiting: int = WAITING) -> None:
        self._name = name
        self._queues = [Queue[LoopCall | None](waiting) for _ in range(lanes)]
        self._started = False
        self.pending = 0

    async def run(self, key: str, call: Callable[[], T]) -> T:
        """Returns the result of `call`, run on the key's thread. Raises Unavailable when too many wait."""
        if not self._started:
            self._start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        try:
            self._queues[hash(key) % len(self._queues)].put_nowait((call, loop, future))
        except Full:
            raise Unavailable(self._name, "too many calls wait for their handlers") from None
        self.pending += 1
        try:
            return await future
        finally:
            self.pending -= 1

    def close(self) -> None:
        """Ends each thread after what waits for it."""
        for queue in self._queues if self._started else ():
            Thread(target=queue.put, args=(None,), daemon=True).start()

    def _start(self) -> None:
        self._started = True
        for number, queue in enumerate(self._queues):
            name = f"katax-ws-{self._name}-worker-{number}"
            Thread(target=_work, args=(queue,), name=name, daemon=True).start()


def _work(queue: Queue[LoopCall | None]) -> None:
    while (job := queue.get()) is not None:
        call, loop, future = job
        value: Any = None
        error: BaseException | None = None
        try:
            value = call()
        except BaseException as raised:  # noqa: BLE001 - it is raised where the call is awaited
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(_settle, future, value, error)


def _settle(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
