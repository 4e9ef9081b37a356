"""The outcomes of the calls of the last seconds, for breakers that judge by rate."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

_TENTHS = 10
_SILENCE = 0.3
"""The part of a window without any answer that says more than what was answered before it."""


class CallCounts(NamedTuple):
    """Calls that ended; `failures` count one for each event, `merged` are the other losses of the same events."""

    calls: int = 0
    failures: int = 0
    merged: int = 0
    slow: int = 0


class _Tenth:
    """A tenth of the window; written from many threads at once only in `calls`."""

    __slots__ = ("calls", "failures", "merged", "number", "slow")

    def __init__(self, number: int) -> None:
        self.number = number
        self.calls = self.failures = self.merged = self.slow = 0


class CallWindow:
    """Counts of the last `seconds`, in tenths: the oldest tenth leaves as a whole.

    While `now < ends` an answered call may be counted by `present.calls += 1` and `answered = True` without a lock.
    Two threads can lose one of two answers that way, which a share of calls can bear; failures are counted under the
    owner's lock. Failures since the last answer are also counted by themselves, however long ago they were.
    """

    __slots__ = (
        "_events",
        "_lost",
        "_silent_since",
        "_tenths",
        "_width",
        "answered",
        "ends",
        "present",
    )

    def __init__(self, seconds: float) -> None:
        self._width = seconds / _TENTHS
        self.clear()

    def clear(self) -> None:
        self._tenths: deque[_Tenth] = deque()
        self.present = _Tenth(0)
        self.ends = float("-inf")
        self.answered = True

    def record(self, now: float, *, failed: bool = False, merged: bool = False, slow: bool = False) -> None:
        """Adds one call that ended `now` (seconds that never go back)."""
        self._roll(now)
        tenth = self.present
        tenth.calls += 1
        tenth.failures += failed
        tenth.merged += merged
        tenth.slow += slow
        if failed or merged:
            self._lose(now, event=failed)
        else:
            self.answered = True

    def _lose(self, now: float, *, event: bool) -> None:
        if self.answered:
            self.answered = False
            self._silent_since, self._events, self._lost = now, 0, 0
        self._events += event
        self._lost += 1

    def silence(self, now: float, *, events: int, calls: int) -> str | None:
        """The reason to open after a long time without an answer, in which so many calls failed; else None."""
        if self.answered or self._events < events or self._lost < calls:
            return None
        long = now - self._silent_since >= _SILENCE * _TENTHS * self._width
        return f"the last {self._lost} calls failed" if long else None

    def counts(self, now: float) -> CallCounts:
        self._roll(now)
        return CallCounts(
            calls=sum(tenth.calls for tenth in self._tenths),
            failures=sum(tenth.failures for tenth in self._tenths),
            merged=sum(tenth.merged for tenth in self._tenths),
            slow=sum(tenth.slow for tenth in self._tenths),
        )

    def _roll(self, now: float) -> None:
        if now < self.ends:
            return
        number = int(now / self._width)
        while self._tenths and self._tenths[0].number <= number - _TENTHS:
            self._tenths.popleft()
        if not self._tenths or self._tenths[-1].number != number:
            self._tenths.append(_Tenth(number))
        self.present = self._tenths[-1]
        self.ends = (number + 1) * self._width
