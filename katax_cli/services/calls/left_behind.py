"""Calls in daemon threads that can be left behind: never joined, awaited for a limited time only."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from logging import getLogger
from threading import Lock, Thread
from typing import Any, Generic, TypeVar

from katax_cli.core.clock import SYSTEM
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.waiting import SharedEvent

T = TypeVar("T")
_LOOK_EVERY = 0.5


def _await(event: SharedEvent, seconds: float | None) -> bool:
    """As `event.wait`, in slices: a signal that meets a thread on its way into a wait does not end that wait."""
    deadline = Deadline(seconds)
    while not event.wait(deadline.within(_LOOK_EVERY)):
        if deadline.expired:
            return event.is_set()
    return True


class Running:
    """A call under way; once `ended`, `outcome` is its result, or its error as a value."""

    def __init__(self) -> None:
        self.started = SYSTEM.monotonic()
        self.outcome: Any = None
        self._ended = SharedEvent()

    def start(self, name: str, call: Callable[[], Any]) -> None:
        """Starts `call` in a daemon thread called `name`; interrupted meanwhile, it is under way all the same."""
        Thread(target=self.run, args=(call,), name=name, daemon=True).start()

    def ended(self, seconds: float | None) -> bool:
        """Waits up to `seconds` for the end; True when it came."""
        return _await(self._ended, seconds)

    def run(self, call: Callable[[], Any]) -> None:
        try:
            self.outcome = call()
        except BaseException as error:  # noqa: BLE001 - it is handed to whoever waits
            self.outcome = error
        self._ended.set()


def start(name: str, call: Callable[[], Any]) -> Running:
    """Starts `call` in a daemon thread called `name`."""
    running = Running()
    running.start(name, call)
    return running


class BoundedCallTimeout(TimeoutError):
    """A bounded call did not end in time and was left behind."""

    def __init__(self, name: str, seconds: float) -> None:
        self.name = name
        self.seconds = seconds
        super().__init__(name)

    def __str__(self) -> str:
        return f"{self.name} took longer than {self.seconds:g} s"


def bounded(fn: Callable[[], T], timeout: float | None, *, name: str, discard: Callable[[T], object]) -> T:
    """Returns what `fn` returns, or raises what it raises, after at most `timeout` seconds.

    `fn` runs in a daemon thread called `name` that is never joined. After the time, or on an interrupt of the
    waiting thread, it is left behind, and what it still returns goes to `discard`. Raises BoundedCallTimeout (a
    TimeoutError).
    """
    call = _BoundedCall(fn, name, discard)
    try:
        Thread(target=copy_context().run, args=(call.run,), name=name, daemon=True).start()
        _await(call.ended, timeout)
        is_left = call.leave_behind()
    except BaseException:
        call.abandon()
        raise
    if is_left:
        raise BoundedCallTimeout(name, timeout or 0.0)
    return call.result()


class _BoundedCall(Generic[T]):
    """One call and the owner of its outcome: the waiter, until it leaves."""

    def __init__(self, fn: Callable[[], T], name: str, discard: Callable[[T], object]) -> None:
        self._fn = fn
        self._name = name
        self._discard = discard
        self._lock = Lock()
        self._left = False
        self._value: list[T] = []
        self._error: BaseException | None = None
        self.ended = SharedEvent()

    def run(self) -> None:
        try:
            value = self._fn()
        except BaseException as error:  # noqa: BLE001 - it belongs to the waiter, who raises it
            self._fail(error)
        else:
            self._succeed(value)

    def leave_behind(self) -> bool:
        """Gives the outcome up; False when it is there already."""
        with self._lock:
            self._left = not self.ended.is_set()
            return self._left

    def abandon(self) -> None:
        """Leaves it behind wherever it is; what it made already is thrown away here."""
        if not self.leave_behind() and self._value:
            self._throw_away(self._value.pop())

    def result(self) -> T:
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # breaks the cycle error → traceback → frame → self
        return self._value.pop()

    def _succeed(self, value: T) -> None:
        with self._lock:
            if not self._left:
                self._value.append(value)
                self.ended.set()
                return
        self._throw_away(value)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            if not self._left:
                self._error = error
                self.ended.set()
                return
        # Its text may hold what the driver was given, so only its type is logged.
        getLogger("katax").debug("%s failed after it was left behind: %s", self._name, type(error).__name__)

    def _throw_away(self, value: T) -> None:
        try:
            self._discard(value)
        except Exception:  # drivers have no common base, and nobody waits for it any more
            getLogger("katax").exception("discarding the late result of %s failed", self._name)
