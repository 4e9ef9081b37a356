"""Durations as people write them: `250ms`, `30s`, `5m`, `2h`, `7d`, or plain seconds."""

from __future__ import annotations

from math import isfinite

Duration = float | str
"""What the Python API takes for a time span: seconds, or `"250ms"`, `"30s"`, `"5m"`, `"2h"`, `"7d"`."""

LONGEST = 36500 * 86400.0
"""Seconds: what timers of the system, and dates, can still hold."""
FOREVER = float("inf")
"""The seconds of a call without any limit; None would mean the limit of the connection."""
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def in_seconds(value: Duration) -> float:
    """A time span as float seconds. Raises ValueError for text that is no duration, TypeError for other types."""
    if type(value) is float:
        return value
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"a duration is a {type(value).__name__}, expected seconds or text such as '5m'")
    return float(value)


def parse_duration(text: str) -> float:
    """Returns seconds. Raises ValueError for anything that is not a duration from 0 to 36500 days."""
    written = text.strip()
    digits = written.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZµ")
    unit = written[len(digits) :] or "s"
    try:
        seconds = _number(digits.rstrip()) * _UNITS[unit]
    except (KeyError, ValueError):
        raise ValueError(f"{text!r} is no duration; write seconds or 250ms, 30s, 5m, 2h, 7d") from None
    if seconds > LONGEST:
        raise ValueError(f"{text!r} is too long; a duration is 36500d at most")
    return seconds


def _number(digits: str) -> float:
    # float() also takes "1_0" and non-ASCII digits, which are no duration.
    if "_" in digits or not digits.isascii():
        raise ValueError(digits)
    value = float(digits)
    if not isfinite(value) or value < 0:
        raise ValueError(digits)
    return value


def format_duration(seconds: float) -> str:
    """Returns the shortest exact form that `parse_duration` reads back: `250ms`, `1.5s`, `5m`, `7d`."""
    if seconds and seconds < 1:
        return f"{seconds * 1000:g}ms"
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{seconds / _UNITS[unit]:.15g}{unit}"
    return f"{seconds:.15g}s"
