import math
import random
from itertools import pairwise
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katax_cli.core.measure.histogram import BOUNDS, Histogram

durations = st.lists(st.floats(min_value=2e-5, max_value=900.0), min_size=1, max_size=60)


def observed(*seconds: float) -> Histogram:
    histogram = Histogram()
    for each in seconds:
        histogram.observe(each)
    return histogram


def test_nothing_observed() -> None:
    empty = Histogram()
    assert (empty.count, empty.sum, empty.mean, empty.percentile(50), empty.percentile(99)) == (
        0,
        0.0,
        None,
        None,
        None,
    )
    assert (empty.min, empty.max) == (math.inf, 0.0)


def test_one_observation_is_every_percentile_exactly() -> None:
    one = observed(0.0371)
    assert (one.percentile(50), one.percentile(95), one.percentile(99), one.min, one.max) == (0.0371,) * 5


def test_count_sum_mean_and_extremes_are_exact() -> None:
    histogram = observed(0.5, 0.25, 4.0, 0.25)
    assert (histogram.count, histogram.sum, histogram.mean) == (4, 5.0, 1.25)
    assert (histogram.min, histogram.max) == (0.25, 4.0)


@given(durations, st.floats(min_value=0.1, max_value=100.0))
def test_percentile_is_within_6_percent_of_the_nearest_rank(values: list[float], percent: float) -> None:
    exact = sorted(values)[math.ceil(len(values) * percent / 100.0) - 1]
    assert observed(*values).percentile(percent) == pytest.approx(exact, rel=0.06)


def test_percentiles_differ() -> None:
    histogram = observed(*(ms / 1000 for ms in range(1, 1001)))
    assert histogram.percentile(50) == pytest.approx(0.5, rel=0.06)
    assert histogram.percentile(95) == pytest.approx(0.95, rel=0.06)
    assert histogram.percentile(99) == pytest.approx(0.99, rel=0.06)
    assert histogram.percentile(100) == pytest.approx(1.0, rel=0.06)


@pytest.mark.parametrize("percent", [0, -1, 100.1])
def test_percentile_out_of_range(percent: float) -> None:
    with pytest.raises(ValueError) as error:
        Histogram().percentile(percent)
    assert str(error.value) == f"percentile {percent:g} asked for, expected above 0 and at most 100"


def test_outermost_buckets_answer_with_the_extremes() -> None:
    assert observed(0.0, 0.0).percentile(99) == 0.0
    assert observed(5000.0, 7000.0).percentile(50) == 7000.0


def test_a_clock_set_back_counts_as_zero() -> None:
    back = observed(-3.0)
    assert (back.count, back.sum, back.min, back.max, back.percentile(50)) == (1, 0.0, 0.0, 0.0, 0.0)


@given(durations, durations)
def test_merged_is_as_if_observed_by_one(mine: list[float], theirs: list[float]) -> None:
    merged, other, one = observed(*mine), observed(*theirs), observed(*mine, *theirs)
    merged.merge(other)
    assert all(merged.percentile(percent) == one.percentile(percent) for percent in range(1, 101))
    assert merged.sum == pytest.approx(one.sum)
    assert (merged.min, merged.max) == (one.min, one.max)
    assert other.count == len(theirs)


def test_a_copy_goes_its_own_way() -> None:
    original = observed(1.0)
    copied = original.copy()
    copied.observe(2.0)
    assert (original.count, original.max) == (1, 1.0)
    assert (copied.count, copied.sum, copied.max) == (2, 3.0, 2.0)


def test_bounds_ascend_by_the_same_factor() -> None:
    assert (BOUNDS[0], BOUNDS[-1]) == (1e-5, 1000.0)
    assert all(high / low == pytest.approx(10**0.05, rel=1e-3) for low, high in pairwise(BOUNDS))


def test_no_observation_is_lost_between_threads() -> None:
    histogram = Histogram()
    values = [random.Random(7).random() for _ in range(2000)]

    def observe_all() -> None:
        for value in values:
            histogram.observe(value)

    threads = [Thread(target=observe_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert histogram.count == 8000
    assert histogram.sum == pytest.approx(4 * sum(values))
