"""The last calls, counted exactly."""

from __future__ import annotations

from threading import Thread

import pytest

from katax_cli.services.calls.query_metrics import QueryMetrics
from katax_cli.snapshot import QueryStats
from tests.fake_clock import FakeClock


def fed(*millis: float, clock: FakeClock | None = None, max_metrics: int = 1000) -> QueryMetrics:
    clock = clock or FakeClock()
    metrics = QueryMetrics(max_metrics, clock=clock)
    for each in millis:
        metrics.add(each / 1000, ended=clock.monotonic(), failed=False)
    return metrics


def test_before_the_first_call() -> None:
    assert fed().stats() == QueryStats(0, None, None, None, None, None, 0)


def test_numbers_of_a_hundred_calls() -> None:
    stats = fed(*range(1, 101)).stats(slow_ms=99)

    assert stats == QueryStats(
        total=100, avg_ms=50.5, min_ms=1, max_ms=100, p95_ms=95, p99_ms=99, slow_count=2, failed=0
    )


def test_one_call_is_every_percentile() -> None:
    assert fed(7.0).stats() == QueryStats(1, 7.0, 7.0, 7.0, 7.0, 7.0, 0)


def test_only_the_last_ones_are_kept_one_by_one_but_all_in_the_histogram() -> None:
    metrics = fed(1, 2, 3, 4, max_metrics=2)

    assert (metrics.stats().total, metrics.stats().min_ms) == (2, 3)
    assert metrics.durations.count == 4
    assert metrics.max_metrics == 2


def test_only_the_calls_of_the_period_count() -> None:
    clock = FakeClock(at=100.0)
    metrics = fed(5, clock=clock)
    clock.at = 160.0
    metrics.add(0.009, ended=160.0, failed=True)

    assert metrics.stats(period=60.0).total == 2
    assert metrics.stats(period=59.9) == QueryStats(1, 9.0, 9.0, 9.0, 9.0, 9.0, 0, failed=1)
    assert metrics.failed == 1


@pytest.mark.parametrize("size", [0, -1])
def test_a_ring_without_room(size: int) -> None:
    with pytest.raises(ValueError) as error:
        QueryMetrics(size)

    assert str(error.value) == f"max_metrics is {size}, expected at least 1"


def test_it_is_read_while_others_add() -> None:
    metrics = QueryMetrics(100)

    def add() -> None:
        for _ in range(5000):
            metrics.add(0.001, ended=1e12, failed=False)

    running = [Thread(target=add)]
    for thread in running:
        thread.start()
    seen = [metrics.stats().total for _ in range(200)]
    for thread in running:
        thread.join()

    assert max(seen) <= 100
    assert metrics.stats().total == 100
