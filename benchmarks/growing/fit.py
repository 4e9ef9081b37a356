"""Work at several sizes, and the exponent of its cost: 1.0 is linear, 2.0 quadratic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import log, sqrt
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from harness import cpu_seconds

TRIES = 2
ENOUGH = 4.0
"""Seconds of one size after which it is not tried again."""
NOISE = 0.03
"""Seconds of processor time below which a growth says nothing: one start differs from the next by as much."""


class Place(NamedTuple):
    """An empty folder, the URL of an empty database of the engine ("" for a file), and its server's process."""

    folder: Path
    url: str
    server: int | None = None

    def server_seconds(self) -> float:
        """Processor time of the server so far, with those of its processes that ended."""
        if self.server is None:
            return 0.0
        while True:
            living = Path(f"/proc/{self.server}/task/{self.server}/children").read_text().split()
            try:
                return sum(cpu_seconds(pid, with_ended=True) for pid in (self.server, *map(int, living)))
            except (FileNotFoundError, ProcessLookupError):
                continue  # one of them ended meanwhile; its time is the server's now


class Cost(NamedTuple):
    """`seconds` of processors, of katax and its server together; `megabytes` is the most that katax had; `wall` is
    what a watch shows, other programs of the machine included."""

    seconds: float
    megabytes: float = 0.0
    wall: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Growth:
    """One work: `sizes` for every run, `large` for those that may take long. `start` is the size whose cost is no
    growth and is taken off the others; None: there is none."""

    name: str
    engine: str
    sizes: tuple[int, ...]
    large: tuple[int, ...]
    cost: Callable[[int, Place], Cost]
    start: int | None = 1
    tries: int = TRIES


class Fit(NamedTuple):
    """The slope of the straight line through the logarithms, and its standard error."""

    exponent: float
    error: float


@dataclass(frozen=True)
class Measured:
    """What a growth cost: `seconds` above `started`, which the smallest possible size costs."""

    name: str
    engine: str
    sizes: list[int]
    seconds: list[float]
    megabytes: list[float]
    wall: list[float]
    started: float
    notes: list[str] = field(default_factory=list)

    @property
    def fit(self) -> Fit | None:
        """Over the sizes whose seconds are more than noise; None where fewer than three are. A start differs from the
        next by a tenth or two."""
        noise = max(NOISE, self.started / 4)
        pairs = [pair for pair in zip(self.sizes, self.seconds, strict=True) if pair[1] >= noise]
        return (
            fitted([size for size, _ in pairs], [second for _, second in pairs]) if len(pairs) > 2 else None
        )


def fitted(sizes: Sequence[int], seconds: Sequence[float]) -> Fit:
    """Least squares through at least three points, on logarithmic scales."""
    xs, ys = [log(size) for size in sizes], [log(second) for second in seconds]
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - x_mean) ** 2 for x in xs)
    slope = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / spread
    missed = sum((y - y_mean - slope * (x - x_mean)) ** 2 for x, y in zip(xs, ys, strict=True))
    return Fit(slope, sqrt(missed / (len(xs) - 2) / spread))


def measured(growth: Growth, cost: Callable[[int], Cost], *, large: bool) -> Measured:
    """`cost` is that of the growth in a new place; the least of several tries counts, for others only add. Large sizes
    are tried once."""
    tries = 1 if large else growth.tries
    start = 0.0 if growth.start is None else least(cost, growth.start, tries).seconds
    sizes = list(growth.large if large else growth.sizes)
    costs = [least(cost, size, tries) for size in sizes]
    return Measured(
        growth.name,
        growth.engine,
        sizes,
        [max(each.seconds - start, 0.0) for each in costs],
        [each.megabytes for each in costs],
        [each.wall for each in costs],
        start,
        [each.note for each in costs],
    )


def least(cost: Callable[[int], Cost], size: int, tries: int) -> Cost:
    began, costs = perf_counter(), [cost(size)]
    while len(costs) < tries and perf_counter() - began < ENOUGH:
        costs.append(cost(size))
    return min(costs)
