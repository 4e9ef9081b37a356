"""A histogram of durations in constant memory, with fixed, logarithmic buckets."""

from __future__ import annotations

import math
from bisect import bisect_left

BUCKETS_PER_DECADE = 20
_SHORTEST = 1e-5
_DECADES = 8
# Upper bounds, inclusive, from 10 µs to 1000 s; one more bucket takes what is above.
BOUNDS: tuple[float, ...] = tuple(
    float(f"{_SHORTEST * 10 ** (step / BUCKETS_PER_DECADE):.4g}")
    for step in range(_DECADES * BUCKETS_PER_DECADE + 1)
)


class Histogram:
    """Durations in seconds: count, sum, extremes and percentiles, exact but for the percentiles.

    A percentile is off by at most half a bucket, 6 % of the value between 10 µs and 1000 s. All histograms
    have the same buckets, so any two can be merged. `observe` takes constant time and may be called from
    any thread; a reader meanwhile may see one field ahead of another by one observation.
    """

    __slots__ = ("_buckets", "max", "min", "sum")

    def __init__(self) -> None:
        self._buckets = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0
        self.min = math.inf
        self.max = 0.0

    def observe(self, seconds: float) -> None:
        """Adds one duration; a negative one, which a clock set back may give, counts as zero."""
        if seconds < 0.0:
            seconds = 0.0
        bucket = bisect_left(BOUNDS, seconds) if seconds > _SHORTEST else 0
        # No lock: CPython switches threads at calls and loops only, and there is none from here on. A lock
        # would double the cost, and a child forked while another thread holds it could never observe again.
        self._buckets[bucket] += 1
        self.sum += seconds
        if seconds < self.min:
            self.min = seconds
        if seconds > self.max:
            self.max = seconds

    @property
    def count(self) -> int:
        return sum(self._buckets)

    @property
    def mean(self) -> float | None:
        """The average in seconds; None before the first observation."""
        count = self.count
        return self.sum / count if count else None

    def percentile(self, percent: float) -> float | None:
        """The duration that `percent` of the observations did not exceed (nearest rank); None without any.

        Raises ValueError unless 0 < percent <= 100.
        """
        if not 0.0 < percent <= 100.0:
            raise ValueError(f"percentile {percent:g} asked for, expected above 0 and at most 100")
        buckets = list(self._buckets)
        rank = math.ceil(sum(buckets) * percent / 100.0)
        if rank == 0:
            return None
        return min(max(_middle(_bucket_of_rank(buckets, rank)), self.min), self.max)

    def merge(self, other: Histogram) -> None:
        """Adds what `other` has observed; `other` stays as it is."""
        self._buckets = [mine + theirs for mine, theirs in zip(self._buckets, other._buckets, strict=True)]
        self.sum += other.sum
        self.min = min(self.min, other.min)
        self.max = max(self.max, other.max)

    def copy(self) -> Histogram:
        """A histogram of its own with the same observations."""
        copied = Histogram()
        copied.merge(self)
        return copied


def _bucket_of_rank(buckets: list[int], rank: int) -> int:
    seen = 0
    for index, amount in enumerate(buckets):
        seen += amount
        if seen >= rank:
            return index
    raise AssertionError("the rank is at most the sum of the buckets")


def _middle(bucket: int) -> float:
    """The geometric middle; the outermost buckets have none, there the caller's min and max decide."""
    if bucket == 0:
        return 0.0
    if bucket == len(BOUNDS):
        return math.inf
    return math.sqrt(BOUNDS[bucket - 1] * BOUNDS[bucket])
