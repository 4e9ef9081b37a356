"""Calls back when a deadline passes while its owner is blocked in a driver.

One daemon thread for each process, started by the first limit that is set.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from logging import getLogger
from threading import Condition, Lock, Thread
from types import TracebackType

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.waiting import BlockLimit, task_waits

_NEVER = float("inf")


class Limit:
    """A time limit for a `with` block: the callback runs once if the block outlives it, never after it."""

    __slots__ = ("_callback", "_dog", "_ended", "_seconds", "_under_way", "fired")

    def __init__(self, dog: Watchdog, seconds: float | None, callback: Callable[[], object]) -> None:
        self._dog = dog
        self._seconds = seconds
        self._callback = callback
        self._ended = False
        self.fired = False

    def __enter__(self) -> Limit:
        if self._seconds is not None:
            self._under_way = self._dog._watch(self, self._seconds)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Popping is atomic: exactly one of the block's end and the watchdog takes the limit out.
        if self._seconds is not None and self._under_way.pop(self, None) is None:
            self._dog._await_end(self)


class Watchdog:
    """Keeps the limits under way in a process and fires those that run out, each in a thread of its own.

    A callback may block (a KILL QUERY over the network): others still fire in time, only its own block waits
    for its end, so that it can never hit what the block's connection is used for next. An exception in a
    callback is logged.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._monotonic = clock.monotonic
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def limit(self, seconds: float | None, callback: Callable[[], object]) -> BlockLimit:
        """Use as `with watchdog.limit(2.0, stop):`; None sets no limit. `fired` tells afterwards."""
        waits = task_waits()
        if waits is not None and seconds is not None:
            return waits.limit(seconds, callback)
        return Limit(self, seconds, callback)

    def _reset(self) -> None:
        # A forked child has no watchdog thread, and the lock may be held by a thread that is not there.
        self._lock = Lock()
        self._changed = Condition(self._lock)
        self._fired = Condition(self._lock)
        self._under_way: dict[Limit, float] = {}
        self._wakes_at = _NEVER
        self._thread: Thread | None = None

    def _watch(self, limit: Limit, seconds: float) -> dict[Limit, float]:
        under_way, when = self._under_way, self._monotonic() + seconds
        under_way[limit] = when
        if when < self._wakes_at:
            with self._lock:
                if when < self._wakes_at:
                    self._wakes_at = when
                    self._wake()
        return under_way

    def _wake(self) -> None:
        if self._thread is None:
            thread = Thread(target=self._run, name="katax-watchdog", daemon=True)
            thread.start()
            self._thread = thread
        self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._lock:
                due = self._wait_for_due()
            for limit in due:
                self._fire(limit)

    def _wait_for_due(self) -> list[Limit]:
        while True:
            # From here on each new limit takes the lock, and so is either seen below or wakes this thread.
            self._wakes_at = _NEVER
            now = self._monotonic()
            if due := self._taken(now):
                return due
            self._wakes_at = min(self._under_way.copy().values(), default=_NEVER)
            self._changed.wait(None if self._wakes_at == _NEVER else self._wakes_at - now)

    def _taken(self, now: float) -> list[Limit]:
        limits = self._under_way.copy().items()
        return [
            limit for limit, when in limits if when <= now and self._under_way.pop(limit, None) is not None
        ]

    def _fire(self, limit: Limit) -> None:
        try:
            Thread(target=self._call, args=(limit,), name="katax-watchdog-stop", daemon=True).start()
        except RuntimeError:  # no thread to be had: late for others is better than never
            self._call(limit)

    def _call(self, limit: Limit) -> None:
        limit.fired = True
        try:
            limit._callback()
        except Exception:  # whatever it is, those who wait for the end must hear of it
            getLogger("katax").exception("the watchdog's callback failed")
        finally:
            with self._lock:
                limit._ended = True
                self._fired.notify_all()

    def _await_end(self, limit: Limit) -> None:
        with self._lock:
            while not limit._ended:
                self._fired.wait()


watchdog = Watchdog()
