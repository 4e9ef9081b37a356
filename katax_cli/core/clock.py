"""Time and chance, as one object that tests replace."""

from __future__ import annotations

import random as _random
import time as _time
from datetime import UTC, datetime
from typing import Protocol

from katax_cli.core.waiting import task_waits


class Clock(Protocol):
    """The source of time and chance for decision code. All times are seconds."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary point that never goes back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Waits."""
        ...

    def random(self) -> float:
        """A float in [0, 1)."""
        ...


class _Sleep:
    """Waits as the caller waits: as an object it is no method of a class that borrows it."""

    def __call__(self, seconds: float) -> None:
        waits = task_waits()
        _time.sleep(seconds) if waits is None else waits.sleep(seconds)


class _SystemClock:
    now = staticmethod(_time.time)
    monotonic = staticmethod(_time.monotonic)
    sleep = _Sleep()
    # Not the shared generator: a program that seeds it gets the numbers that it expects.
    random = staticmethod(_random.SystemRandom().random)


SYSTEM: Clock = _SystemClock()


def utc_text(clock: Clock = SYSTEM) -> str:
    """Now, as RFC 3339 in UTC with milliseconds."""
    return datetime.fromtimestamp(clock.now(), UTC).isoformat(timespec="milliseconds")
