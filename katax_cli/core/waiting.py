"""Two ways to wait: a thread blocks, and a call that is made for a task lets its event loop go on.

Nothing here imports asyncio: the second way comes with `katax_cli.engines.awaited.calls`, which installs itself, and a
program without it pays for one comparison.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self


class Gate(Protocol):
    """Created shut: `acquire` waits until another caller releases it, once."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...

    def release(self) -> None: ...


class BlockLimit(Protocol):
    """A time limit for a `with` block; see `services.calls.watchdog`."""

    fired: bool

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class WayToWait(Protocol):
    """The way to wait of a call that is made for a task."""

    def is_current(self) -> bool:
        """True in such a call."""
        ...

    def sleep(self, seconds: float) -> None: ...

    def wait(self, event: SharedEvent, timeout: float | None) -> bool: ...

    def gate(self) -> Gate: ...

    def limit(self, seconds: float, callback: Callable[[], object]) -> BlockLimit: ...


_task_waits: WayToWait | None = None


def install(waits: WayToWait) -> None:
    """From now on calls that are made for a task wait by `waits`."""
    global _task_waits
    _task_waits = waits


def task_waits() -> WayToWait | None:
    """The way to wait of the task that this call is made for; None in a thread, which blocks."""
    waits = _task_waits
    return waits if waits is not None and waits.is_current() else None


class SharedEvent(threading.Event):
    """An event that threads and tasks wait for alike; any thread may set it."""

    def __init__(self) -> None:
        super().__init__()
        self.wakers: list[Callable[[], None]] = []

    def set(self) -> None:
        super().set()
        wakers, self.wakers = self.wakers, []
        for wake in wakers:
            wake()

    def wait(self, timeout: float | None = None) -> bool:
        waits = task_waits()
        return super().wait(timeout) if waits is None else waits.wait(self, timeout)


def shut_gate() -> Gate:
    """A shut gate for the caller: a lock that is acquired already, or what a task can wait for."""
    waits = task_waits()
    if waits is not None:
        return waits.gate()
    gate = threading.Lock()
    gate.acquire()
    return gate
