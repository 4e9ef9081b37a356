"""The wait before the next attempt: exponential, randomised, never longer than the cap.

With attempt n = 1, 2, 3 … and a random u in [0, 1):

    ceiling(n) = min(max, initial * multiplier ** (n - 1))
    full jitter  = u * ceiling(n)               spreads callers best
    equal jitter = (1 + u) / 2 * ceiling(n)     for overload: full jitter may come out near zero

Formulas: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015. The random factor applies
to the capped value, so that callers who all reached the cap still spread, and no wait exceeds `max`.
"""

from __future__ import annotations

from collections.abc import Callable


def ceiling(attempt: int, *, initial: float, multiplier: float, max: float) -> float:
    """The longest wait in seconds after the failed attempt number `attempt` (from 1)."""
    try:
        return min(max, initial * multiplier ** (attempt - 1))
    except OverflowError:
        return max


def full_jitter(longest: float, random: Callable[[], float]) -> float:
    """Seconds between 0 and `longest`."""
    return longest * random()


def equal_jitter(longest: float, random: Callable[[], float]) -> float:
    """Seconds between half of `longest` and `longest`."""
    return longest * (1.0 + random()) / 2.0
