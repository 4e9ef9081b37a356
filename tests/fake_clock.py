"""A clock that tests turn by hand: sleeping moves it and is written down."""

from __future__ import annotations

from collections.abc import Callable

from katax_cli.core.clock import SYSTEM


class FakeClock:
    """Starts at `at`; the epoch is 1,000,000 s ahead, so that the two kinds of time cannot be mixed up."""

    EPOCH = 1_000_000.0

    def __init__(self, *, at: float = 0.0, dice: Callable[[], float] = lambda: 0.5) -> None:
        self.at = at
        self.sleeps: list[float] = []
        self.random = dice

    def now(self) -> float:
        return self.EPOCH + self.at

    def monotonic(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.at += seconds


class AheadClock:
    """The system's clock with a lead that tests set: ages and lifetimes end without waiting."""

    now = SYSTEM.now
    sleep = SYSTEM.sleep
    random = SYSTEM.random

    def __init__(self) -> None:
        self.lead = 0.0

    def monotonic(self) -> float:
        return SYSTEM.monotonic() + self.lead
