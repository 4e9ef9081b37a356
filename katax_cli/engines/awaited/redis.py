"""Redis for tasks: redis-py's client over sockets whose waits let the event loop go on.

Commands, pools, topologies and the read-only guard are those of threads; what is another here is the socket and the
pool's queue. The reader of a socket stays registered and takes in what arrives itself, which is less processor time
than `redis.asyncio` and its streams take (`benchmarks/aio.py`).
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, LifoQueue
from threading import Condition, Lock, get_ident
from typing import Any

from redis.connection import AbstractConnection

from katax_cli.core.clock import SYSTEM
from katax_cli.core.settings import ConnectionSettings
from katax_cli.engines.awaited.calls import (
    is_for_a_task,
    set_result,
    settled_within,
    started_in_thread,
    tell,
    wait_for,
)
from katax_cli.engines.redis.connection import OneRoundTrip
from katax_cli.engines.redis.engine import RedisEngine
from katax_cli.engines.redis.plan import ClientPlan
from katax_cli.engines.redis.pool import WaitingPool
from katax_cli.engines.redis.time_limits import spend

_BLOCKED = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_CONNECT_GRACE = 0.1
"""Seconds that a driver gets after its time to say itself why it could not connect."""


class TaskSocket:
    """A connected socket with the timeouts of a blocking one; in a thread it blocks as ever."""

    def __init__(self, wire: socket.socket) -> None:
        self._timeout = wire.gettimeout()
        wire.settimeout(0.0)
        self._wire = wire
        self._size = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiter: asyncio.Future[bytes] | None = None
        self._reading = self._is_asked = False

    def settimeout(self, seconds: float | None) -> None:
        self._timeout = seconds

    def gettimeout(self) -> float | None:
        return self._timeout

    def recv(self, size: int) -> bytes:
        if self._is_asked:
            # A reply to what was just sent is not there yet: a look would be a system call for nothing.
            self._is_asked = False
            if self._timeout != 0 and is_for_a_task():
                return self._received(size)
        try:
            return self._wire.recv(size)
        except _BLOCKED:
            if self._timeout == 0:
                raise
        return (
            self._received(size) if is_for_a_task() else self._blocking(select.POLLIN, self._wire.recv, size)
        )

    def recv_into(self, buffer: memoryview | bytearray) -> int:
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def sendall(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            try:
                sent = self._wire.send(left)
            except _BLOCKED:
                if is_for_a_task():
                    self._wait_until_writable()
                    continue
                sent = self._blocking(select.POLLOUT, self._wire.send, left)
            left = left[sent:]
        # Under TLS a reply may lie decrypted where no selector sees it.
        self._is_asked = not isinstance(self._wire, ssl.SSLSocket)

    def _blocking(self, event: int, act: Callable[[Any], Any], argument: Any) -> Any:
        poll = select.poll()
        poll.register(self._wire, event)
        while True:
            if not poll.poll(None if self._timeout is None else self._timeout * 1000):
                raise TimeoutError("timed out")
            with suppress(*_BLOCKED):
                return act(argument)

    def _received(self, size: int) -> bytes:
        loop = self._loop = asyncio.get_running_loop()
        if not self._reading:
            loop.add_reader(self._wire.fileno(), self._take_in)
            self._reading = True
        waiter: asyncio.Future[bytes] = loop.create_future()
        self._size, self._waiter = size, waiter
        timer = None if self._timeout is None else loop.call_later(self._timeout, _time_out, waiter)
        try:
            return wait_for(waiter)
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _take_in(self) -> None:
        """Called by the loop when something arrived."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            # The server closed the connection: the next read finds that.
            self._stop_reading()
            return
        try:
            waiter.set_result(self._wire.recv(self._size))
        except _BLOCKED:
            pass
        except OSError as error:
            waiter.set_exception(error)

    def _wait_until_writable(self) -> None:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        number = self._wire.fileno()
        loop.add_writer(number, set_result, waiter, None)
        timer = None if self._timeout is None else loop.call_later(self._timeout, _time_out, waiter)
        try:
            wait_for(waiter)
        finally:
            loop.remove_writer(number)
            if timer is not None:
                timer.cancel()

    def _stop_reading(self) -> None:
        if self._reading and self._loop is not None:
            self._loop.remove_reader(self._wire.fileno())
            self._reading = False

    def shutdown(self, how: int) -> None:
        socket.socket.shutdown(self._wire, how)

    def close(self) -> None:
        loop = self._loop
        if loop is None or not self._reading or loop.is_closed():
            self._wire.close()
        elif asyncio._get_running_loop() is loop:
            self._stop_reading()
            self._wire.close()
            if self._waiter is not None and not self._waiter.done():
                # Closed under a call: the socket is no longer watched, so it will not wake its task.
                self._waiter.set_exception(ConnectionError("the connection was closed"))
        else:
            # The selector must forget the socket before its number is used again.
            tell(loop, self.close)

    def detach(self) -> int:
        return self._wire.detach()

    def fileno(self) -> int:
        return self._wire.fileno()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wire, name)


def _time_out(waiter: asyncio.Future[Any]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError("timed out"))


class _OnTaskSocket(AbstractConnection):
    """Opens its socket in a thread that can be left behind, since a name lookup cannot be interrupted."""

    def _connect(self) -> Any:
        connect: Callable[[], socket.socket] = super()._connect  # type: ignore[safe-super]
        if not is_for_a_task():
            return TaskSocket(connect())
        connecting = started_in_thread("katax-connect-redis", connect)
        seconds, began = self.socket_connect_timeout, SYSTEM.monotonic()
        try:
            if settled_within(connecting, None if seconds is None else seconds + _CONNECT_GRACE):
                wire = connecting.result()
                spend(SYSTEM.monotonic() - began)
                return TaskSocket(wire)
            raise TimeoutError("timed out")
        except BaseException:
            connecting.add_done_callback(_discard)
            raise


def _discard(connecting: asyncio.Future[socket.socket]) -> None:
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().close()


class _TaskCondition(Condition):
    """`not_empty` of a queue, which wakes a task too; which of those that wait comes first is not decided here."""

    def __init__(self, lock: Lock) -> None:
        super().__init__(lock)
        self.tasks: deque[asyncio.Future[bool]] = deque()
        self._owner = 0

    def wait_as_task(self, seconds: float | None, *, first: bool) -> bool:
        """Waits until something may be there; False after the time. To be called without the lock."""
        loop = asyncio.get_running_loop()
        self._owner = get_ident()
        future: asyncio.Future[bool] = loop.create_future()
        self.tasks.appendleft(future) if first else self.tasks.append(future)
        timer = (
            None if seconds is None else loop.call_later(seconds, partial(set_result, future, value=False))
        )
        woken = False
        try:
            woken = wait_for(future)
            return woken
        except BaseException:
            if future.done() and not future.cancelled() and future.result():
                # Cancelled after it was woken: the next one is.
                woken = True
                self._wake()
            raise
        finally:
            if timer is not None:
                timer.cancel()
            if not woken:
                self.tasks.remove(future)

    def notify(self, n: int = 1) -> None:
        super().notify(n)
        if not self.tasks:
            return
        if get_ident() == self._owner and not self.tasks[0].get_loop().is_closed():
            self._wake()
        else:
            with suppress(IndexError):
                tell(self.tasks[0].get_loop(), self._wake)

    def _wake(self) -> None:
        for index, future in enumerate(self.tasks):
            if not future.done():
                del self.tasks[index]
                future.set_result(True)
                return


class TaskQueue(LifoQueue[Any]):
    """The queue of a pool: what lies there goes to the task that waited longest."""

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize)
        self.not_empty: _TaskCondition = _TaskCondition(self.mutex)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        if not block or not is_for_a_task():
            return super().get(block, timeout)
        first = False
        # One whose time is over waits no more, though its task has not gone on yet.
        if all(future.done() for future in self.not_empty.tasks):
            with suppress(Empty):
                return super().get(block=False)
        began = SYSTEM.monotonic()
        while True:
            left = None if timeout is None else began + timeout - SYSTEM.monotonic()
            if (left is not None and left <= 0) or not self.not_empty.wait_as_task(left, first=first):
                raise Empty
            first = True
            with suppress(Empty):
                got = super().get(block=False)
                spend(SYSTEM.monotonic() - began)
                return got


class AwaitedPool(WaitingPool):
    """Its callers wait as tasks."""

    def __init__(self, **options: Any) -> None:
        super().__init__(queue_class=TaskQueue, **options)


class AwaitedPlan(ClientPlan):
    """One client for tasks."""

    __slots__ = ()

    def class_of(self, connection_class: type[OneRoundTrip]) -> type[AbstractConnection]:
        kinds = (_OnTaskSocket, connection_class)
        return super().class_of(type(connection_class.__name__, kinds, {}))

    def pool_of(self, pool_class: type[WaitingPool]) -> type[WaitingPool]:
        kinds = (AwaitedPool,) if pool_class is WaitingPool else (pool_class, AwaitedPool)
        return super().pool_of(type(pool_class.__name__, kinds, {}))


class AwaitedRedisEngine(RedisEngine):
    """The engine of clients that tasks use."""

    plan_class = AwaitedPlan


def create(settings: ConnectionSettings) -> AwaitedRedisEngine:
    """The engine for one connection; connects nowhere yet."""
    return AwaitedRedisEngine(settings)
