"""Durations of the calls on one connection, in bounded memory."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.measure.histogram import Histogram

if TYPE_CHECKING:
    from katax_cli.snapshot import QueryStats

MAX_METRICS = 1000
PERIOD = 3600.0
SLOW_MS = 100.0


_TimedCall = tuple[float, float, bool]
"""When it ended, how many seconds it took, whether it failed: a plain tuple, since each call makes one."""


class QueryMetrics:
    """The last `max_metrics` calls one by one, all of them in `durations` (seconds since the start).

    Adding takes constant time and may be done from any thread. Raises ValueError for a size below one.
    """

    __slots__ = ("_clock", "_recent", "durations", "failed")

    def __init__(self, max_metrics: int = MAX_METRICS, *, clock: Clock = SYSTEM) -> None:
        if max_metrics < 1:
            raise ValueError(f"max_metrics is {max_metrics}, expected at least 1")
        self._clock = clock
        self._recent: deque[_TimedCall] = deque(maxlen=max_metrics)
        self.durations = Histogram()
        self.failed = 0

    @property
    def max_metrics(self) -> int:
        """The number of calls that are kept one by one."""
        return self._recent.maxlen or 0

    def add(self, seconds: float, *, ended: float, failed: bool) -> None:
        """Counts a call that took so many seconds and ended at `ended` of the monotonic clock."""
        self._recent.append((ended, seconds, failed))
        self.durations.observe(seconds)
        if failed:
            self.failed += 1

    def stats(self, *, period: float = PERIOD, slow_ms: float = SLOW_MS) -> QueryStats:
        """The calls that ended within the last `period` seconds, of those that are kept; exact percentiles."""
        from katax_cli.snapshot import QueryStats

        since = self._clock.monotonic() - period
        calls = [call for call in self._calls() if call[0] >= since]
        if not calls:
            return QueryStats(0, None, None, None, None, None, 0)
        times = sorted(seconds * 1000 for _, seconds, _ in calls)
        return QueryStats(
            total=len(times),
            avg_ms=round(math.fsum(times) / len(times), 3),
            min_ms=round(times[0], 3),
            max_ms=round(times[-1], 3),
            p95_ms=round(_nearest_rank(times, 95), 3),
            p99_ms=round(_nearest_rank(times, 99), 3),
            slow_count=sum(time >= slow_ms for time in times),
            failed=sum(failed for _, _, failed in calls),
        )

    def _calls(self) -> list[_TimedCall]:
        while True:
            try:
                return list(self._recent)
            except RuntimeError:  # another thread added one meanwhile
                continue


def _nearest_rank(times: Sequence[float], percent: int) -> float:
    return times[math.ceil(len(times) * percent / 100) - 1]
