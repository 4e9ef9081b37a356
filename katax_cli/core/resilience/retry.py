"""The limits of repeating a call: a frozen policy, and the count of one call's attempts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from katax_cli.core.clock import Clock
from katax_cli.core.resilience import backoff


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The limits of repeating a call and the waits between its attempts; times are seconds.

    Both limits hold: at most `attempts` calls, and none started `total` seconds after the first. The waits
    follow the formula of `core.backoff`. Raises ValueError when a value makes no sense.
    """

    attempts: int = 3
    initial: float = 1.0
    max: float = 10.0
    multiplier: float = 2.0
    total: float = 45.0
    jitter: bool = True

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"retry attempts is {self.attempts}, expected at least 1")
        for name in ("initial", "max", "total"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"retry {name} is {getattr(self, name):g}, expected 0 seconds or more")
        if not self.multiplier >= 1:
            raise ValueError(f"retry multiplier is {self.multiplier:g}, expected at least 1")

    def delay(self, attempt: int, random: Callable[[], float], *, overloaded: bool = False) -> float:
        """Seconds to wait after the failed attempt number `attempt`; overload waits at least half."""
        longest = backoff.ceiling(attempt, initial=self.initial, multiplier=self.multiplier, max=self.max)
        if not self.jitter:
            return longest
        spread = backoff.equal_jitter if overloaded else backoff.full_jitter
        return spread(longest, random)


class UnwantedResult(Exception):
    """The error of an attempt that returned an unwanted `value`; it is passed to `on_retry`, never raised."""

    def __init__(self, value: object) -> None:
        self.value = value
        super().__init__(f"the call returned {type(value).__name__}, which was not wanted")

    def __reduce__(self) -> tuple[type, tuple[object]]:
        return type(self), (self.value,)


ONCE = RetryPolicy(attempts=1)
"""The policy of one-shot commands and probes."""

DelayFor = Callable[[int], float]
"""Seconds to wait after the attempt of that number (from 1) failed."""

_waiting = True


def set_waiting(active: bool) -> None:
    """Turns the waits between attempts off (or on again) in the whole process, for test suites.

    Attempts and limits stay as they are.
    """
    global _waiting
    _waiting = active


_retried: ContextVar[bool] = ContextVar("katax_retried", default=False)

is_retried = _retried.get
"""True while an outer call repeats the present one, which then makes one attempt only."""


@contextmanager
def sole_owner() -> Iterator[None]:
    """Everything called inside makes one attempt: the caller repeats, nothing retries twice."""
    token = _retried.set(True)
    try:
        yield
    finally:
        _retried.reset(token)


class Repeats:
    """Counts the failed attempts of one call and says whether and when the next one may start.

    Make it when the first attempt starts, or say when it `started`; the caller sleeps.
    """

    __slots__ = ("_clock", "_delay_for", "_policy", "_started", "failed")

    def __init__(
        self,
        policy: RetryPolicy,
        clock: Clock,
        *,
        delay_for: DelayFor | None = None,
        started: float | None = None,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._delay_for = delay_for
        self._started = clock.monotonic() if started is None else started
        self.failed = 0

    def pause(self, *, overloaded: bool = False, remaining: float = float("inf")) -> float | None:
        """Seconds until the next attempt, after one more failed; None when it is time to give up.

        A wait that would not end before `total` or before `remaining` seconds is not begun.
        """
        self.failed += 1
        if self.failed >= self._policy.attempts or is_retried():
            return None
        delay = self._next_delay(overloaded) if _waiting else 0.0
        left = self._started + self._policy.total - self._clock.monotonic()
        return delay if delay < min(left, remaining) else None

    def _next_delay(self, overloaded: bool) -> float:
        if self._delay_for is not None:
            return min(self._policy.max, self._delay_for(self.failed))
        return self._policy.delay(self.failed, self._clock.random, overloaded=overloaded)
