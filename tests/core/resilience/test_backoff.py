"""The waits: exponential, capped, jittered."""

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katax_cli.core.resilience.backoff import ceiling, equal_jitter, full_jitter


def thrown(*values: float) -> list[Callable[[], float]]:
    """Dice that always fall the same way."""
    return [partial(float, value) for value in values]


seconds = st.floats(0.0, 1e6)
unit = st.floats(0.0, 1.0, exclude_max=True)


def test_grows_by_the_multiplier_up_to_the_cap() -> None:
    waits = [ceiling(n, initial=1.0, multiplier=2.0, max=10.0) for n in range(1, 7)]

    assert waits == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_a_multiplier_of_one_keeps_it_constant() -> None:
    assert [ceiling(n, initial=3.0, multiplier=1.0, max=10.0) for n in (1, 9)] == [3.0, 3.0]


def test_an_exponent_too_large_for_a_float_is_the_cap() -> None:
    assert ceiling(100_000, initial=1.0, multiplier=2.0, max=10.0) == 10.0


def test_full_jitter_spreads_from_zero_to_the_ceiling() -> None:
    assert [full_jitter(8.0, dice) for dice in thrown(0.0, 0.25, 0.5)] == [0.0, 2.0, 4.0]


def test_equal_jitter_keeps_half() -> None:
    assert [equal_jitter(8.0, dice) for dice in thrown(0.0, 0.25, 0.5)] == [4.0, 5.0, 6.0]


@given(longest=seconds, u=unit)
def test_jitter_stays_within_its_bounds(longest: float, u: float) -> None:
    full = full_jitter(longest, lambda: u)
    equal = equal_jitter(longest, lambda: u)

    assert 0.0 <= full <= longest
    assert longest / 2 <= equal <= longest


@pytest.mark.parametrize("jitter", [full_jitter, equal_jitter])
def test_callers_at_the_cap_still_spread(jitter: Callable[[float, Callable[[], float]], float]) -> None:
    capped = ceiling(50, initial=1.0, multiplier=2.0, max=10.0)

    assert len({jitter(capped, dice) for dice in thrown(0.1, 0.5, 0.9)}) == 3
