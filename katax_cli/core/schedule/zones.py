"""The offsets of a time zone as pieces of constant offset, so that finding local times is integer arithmetic.

All instants are whole seconds since the epoch; "local" seconds are those plus the offset.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_BLOCK = 366 * 86400
_STEP = 5 * 86400
"""No zone changes its offset twice within so many seconds and back."""


class OffsetSpan(NamedTuple):
    """Instants from `start` up to `end`, all at `offset` seconds from UTC; `before` is the offset until `start`."""

    start: int
    end: int
    offset: int
    before: int


def zone(name: str) -> tzinfo:
    """The time zone of this name. Raises ValueError for one that this machine does not know."""
    if name.upper() in ("UTC", "Z"):
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"no time zone named {name!r} here; write one as Europe/Madrid, or UTC") from None


def offset_at(where: tzinfo, instant: int) -> int:
    """Seconds east of UTC at this instant."""
    there = datetime.fromtimestamp(instant, where)
    return int((there.utcoffset() or timedelta()).total_seconds())


@lru_cache(maxsize=4096)
def pieces(where: tzinfo, block: int) -> tuple[OffsetSpan, ...]:
    """The pieces of one block of 366 days; a piece that goes on in the next block is cut there."""
    start, end = block * _BLOCK, (block + 1) * _BLOCK
    before = offset_at(where, start - 1)
    spans: list[OffsetSpan] = []
    while start < end:
        offset = offset_at(where, start)
        change = _change(where, start, end, offset)
        spans.append(OffsetSpan(start, change, offset, before))
        start, before = change, offset
    return tuple(spans)


def _change(where: tzinfo, start: int, end: int, offset: int) -> int:
    """The first instant after `start` with another offset, at most `end`."""
    low = high = start
    while high < end and offset_at(where, high) == offset:
        low, high = high, min(high + _STEP, end)
    if offset_at(where, high) == offset:
        return end
    while high - low > 1:
        middle = (low + high) // 2
        if offset_at(where, middle) == offset:
            low = middle
        else:
            high = middle
    return high


def piece_at(where: tzinfo, instant: int) -> OffsetSpan:
    """The piece that the instant lies in."""
    return next(piece for piece in pieces(where, instant // _BLOCK) if instant < piece.end)


def changes(where: tzinfo, start: int, end: int) -> list[OffsetSpan]:
    """The pieces that begin in (start, end] with a change of the offset."""
    blocks = range(start // _BLOCK, end // _BLOCK + 1)
    every = [piece for block in blocks for piece in pieces(where, block)]
    return [piece for piece in every if start < piece.start <= end and piece.offset != piece.before]
