"""Calls back when a deadline passes while its owner is blocked in a driver.

One daemon thread for each process, started by the first limit that is set.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from logging import getLogger
from threading import Condition, Lock, Thread
from types import TracebackType

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.waiting import BlockLimit, task_waits

_NEVER = float("inf")
_COMPACT_FROM = 128


class Limit:
    """A time limit for a `with` block: the callback runs once if the block outlives it, never after it."""

    __slots__ = ("_claim", "_dog", "_ended", "_seconds", "fired")

    def __init__(self, dog: Watchdog, seconds: float, callback: Callable[[], object]) -> None:
        self._dog = dog
        self._seconds = seconds
        # Popping is atomic: exactly one of the block's end and the watchdog gets the callback.
        self._claim = [callback]
        self._ended = False
        self.fired = False

    def __enter__(self) -> Limit:
        if self._seconds != _NEVER:
            self._dog._watch(self, self._seconds)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._claim.pop()
        except IndexError:
            self._dog._await_end(self)

    def _take(self) -> Callable[[], object] | None:
        try:
            return self._claim.pop()
        except IndexError:
            return None


class Watchdog:
    """Keeps the limits of a process in a heap and fires those that run out, each in a thread of its own.

    A callback may block (a KILL QUERY over the network): others still fire in time, only its own block waits
    for its end, so that it can never hit what the block's connection is used for next. An exception in a
    callback is logged.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._number = count()
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def limit(self, seconds: float | None, callback: Callable[[], object]) -> BlockLimit:
        """Use as `with watchdog.limit(2.0, stop):`; None sets no limit. `fired` tells afterwards."""
        waits = task_waits()
        if waits is not None and seconds is not None:
            return waits.limit(seconds, callback)
        return Limit(self, _NEVER if seconds is None else seconds, callback)

    def _reset(self) -> None:
        # A forked child has no watchdog thread, and the lock may be held by a thread that is not there.
        self._lock = Lock()
        self._changed = Condition(self._lock)
        self._fired = Condition(self._lock)
        self._heap: list[tuple[float, int, Limit]] = []
        self._compact_at = _COMPACT_FROM
        self._wakes_at = _NEVER
        self._thread: Thread | None = None

    def _watch(self, limit: Limit, seconds: float) -> None:
        when = self._clock.monotonic() + seconds
        with self._lock:
            heappush(self._heap, (when, next(self._number), limit))
            if when < self._wakes_at:
                self._wakes_at = when
                self._wake()
            if len(self._heap) >= self._compact_at:
                self._compact()

    def _wake(self) -> None:
        if self._thread is None:
            thread = Thread(target=self._run, name="katax-watchdog", daemon=True)
            thread.start()
            self._thread = thread
        self._changed.notify()

    def _compact(self) -> None:
        # Limits of blocks that ended stay in the heap until they run out; drop them before they pile up.
        self._heap = [entry for entry in self._heap if entry[2]._claim]
        heapify(self._heap)
        self._compact_at = max(_COMPACT_FROM, 2 * len(self._heap))

    def _run(self) -> None:
        while True:
            with self._lock:
                due = self._wait_for_due()
            for limit in due:
                self._fire(limit)

    def _wait_for_due(self) -> list[Limit]:
        while True:
            now = self._clock.monotonic()
            due = []
            while self._heap and self._heap[0][0] <= now:
                due.append(heappop(self._heap)[2])
            if due:
                return due
            self._wakes_at = self._heap[0][0] if self._heap else _NEVER
            self._changed.wait(None if self._wakes_at == _NEVER else self._wakes_at - now)

    def _fire(self, limit: Limit) -> None:
        callback = limit._take()
        if callback is None:
            return
        try:
            Thread(target=self._call, args=(limit, callback), name="katax-watchdog-stop", daemon=True).start()
        except RuntimeError:  # no thread to be had: late for others is better than never
            self._call(limit, callback)

    def _call(self, limit: Limit, callback: Callable[[], object]) -> None:
        limit.fired = True
        try:
            callback()
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
