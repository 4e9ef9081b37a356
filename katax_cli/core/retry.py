"""How often and how long a call is repeated, as a frozen value and a counter of one call's attempts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to stop repeating and how long to wait before the next attempt; times are seconds.

    Both limits hold: at most `attempts` calls, and none started `total` seconds after the first. The waits
    are those of `core.backoff`. Raises ValueError when a value makes no sense.
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
