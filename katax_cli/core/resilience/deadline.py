"""One budget of time for a whole operation, made outside and handed down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.text.duration import FOREVER, LONGEST, Duration, in_seconds
from katax_cli.errors import DeadlineExceeded


class Deadline:
    """A moment after which an operation is over; each layer takes what remains.

    `seconds=None` never ends, and more than timers can hold neither. Cheap: one clock reading to make, one to ask. It
    moves only while `paused`.
    """

    __slots__ = ("_clock", "_ends", "_monotonic", "seconds")

    def __init__(self, seconds: Duration | None, *, clock: Clock = SYSTEM) -> None:
        self.seconds = None if seconds is None else in_seconds(seconds)
        self._clock = clock
        self._monotonic = clock.monotonic
        if self.seconds is None or self.seconds > LONGEST:
            self._ends = FOREVER
        else:
            self._ends = clock.monotonic() + self.seconds

    def remaining(self) -> float:
        """Seconds left, never negative; infinite when there is no limit."""
        ends = self._ends
        if ends == FOREVER:
            return FOREVER
        left = ends - self._monotonic()
        return left if left > 0.0 else 0.0

    def within(self, seconds: Duration | None) -> float | None:
        """The smaller of `seconds` and what remains; None when neither limits."""
        if seconds is not None:
            return min(in_seconds(seconds), self.remaining())
        # As `remaining`, without its frame: each guarded call asks this three times.
        ends = self._ends
        if ends == FOREVER:
            return None
        left = ends - self._monotonic()
        return left if left > 0.0 else 0.0

    def shorter(self, seconds: Duration | None) -> Deadline:
        """One so many seconds from now, or this one where it ends first: an error names the seconds that counted."""
        if seconds is None or in_seconds(seconds) >= self.remaining():
            return self
        return Deadline(seconds, clock=self._clock)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The time of the block does not count: a person is asked."""
        began = self._monotonic()
        try:
            yield
        finally:
            self._ends += self._monotonic() - began

    @property
    def expired(self) -> bool:
        return self.remaining() == 0.0

    def check(self, connection: str, doing: str) -> None:
        """Raises DeadlineExceeded when no time is left."""
        if self._ends <= self._monotonic():
            raise DeadlineExceeded(connection, doing=doing, seconds=self.seconds or 0.0)


NEVER = Deadline(None)
