"""Attempts and time are both limited; waits come from the policy or from the caller."""

from collections.abc import Iterator
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from katax_cli.core.resilience.retry import ONCE, Repeats, RetryPolicy, is_retried, set_waiting, sole_owner
from tests.fake_clock import FakeClock

STEADY = RetryPolicy(attempts=5, initial=1.0, max=3.0, total=100.0, jitter=False)


@pytest.fixture
def no_waiting() -> Iterator[None]:
    set_waiting(False)
    yield
    set_waiting(True)


def test_the_defaults_are_those_of_the_profile() -> None:
    policy = RetryPolicy()

    assert (policy.attempts, policy.initial, policy.max, policy.multiplier, policy.total) == (
        3,
        1.0,
        10.0,
        2.0,
        45.0,
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"attempts": 0}, "retry attempts is 0, expected at least 1"),
        ({"initial": -1.0}, "retry initial is -1, expected 0 seconds or more"),
        ({"max": -0.5}, "retry max is -0.5, expected 0 seconds or more"),
        ({"total": float("nan")}, "retry total is nan, expected 0 seconds or more"),
        ({"multiplier": 0.5}, "retry multiplier is 0.5, expected at least 1"),
    ],
)
def test_senseless_values_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError) as error:
        RetryPolicy(**wrong)  # type: ignore[arg-type]

    assert str(error.value) == message


def test_no_more_pauses_than_attempts_minus_one() -> None:
    repeats = Repeats(STEADY, FakeClock())

    assert [repeats.pause() for _ in range(5)] == [1.0, 2.0, 3.0, 3.0, None]
    assert repeats.failed == 5


def test_one_attempt_never_pauses() -> None:
    assert Repeats(ONCE, FakeClock()).pause() is None


def test_jitter_is_full_and_equal_under_overload() -> None:
    policy = RetryPolicy(initial=8.0)

    assert policy.delay(1, lambda: 0.25) == 2.0
    assert policy.delay(1, lambda: 0.25, overloaded=True) == 5.0


def test_repeats_rolls_the_dice_of_its_clock() -> None:
    clock = FakeClock(dice=lambda: 0.25)

    assert Repeats(RetryPolicy(initial=8.0), clock).pause() == 2.0
    assert Repeats(RetryPolicy(initial=8.0), clock).pause(overloaded=True) == 5.0


def test_no_attempt_starts_when_the_total_is_used_up() -> None:
    clock = FakeClock()
    policy = RetryPolicy(attempts=9, initial=1.0, total=3.0, jitter=False)
    repeats = Repeats(policy, clock)

    clock.at = 1.9
    assert repeats.pause() == 1.0
    clock.at = 2.9
    assert repeats.pause() is None


def test_a_wait_that_ends_with_the_total_is_not_begun() -> None:
    repeats = Repeats(RetryPolicy(initial=2.0, total=2.0, jitter=False), FakeClock())

    assert repeats.pause() is None


def test_a_wait_that_does_not_fit_the_deadline_is_not_begun() -> None:
    assert Repeats(STEADY, FakeClock()).pause(remaining=1.0) is None
    assert Repeats(STEADY, FakeClock()).pause(remaining=1.1) == 1.0


def test_the_caller_may_choose_the_waits_up_to_the_cap() -> None:
    repeats = Repeats(STEADY, FakeClock(), delay_for=lambda failed: failed * 1.25)

    assert [repeats.pause() for _ in range(3)] == [1.25, 2.5, 3.0]


@pytest.mark.usefixtures("no_waiting")
def test_waiting_can_be_turned_off_and_the_limits_stay() -> None:
    clock = FakeClock()
    repeats = Repeats(STEADY, clock)

    assert [repeats.pause() for _ in range(5)] == [0.0, 0.0, 0.0, 0.0, None]

    repeats = Repeats(STEADY, clock)
    clock.at = STEADY.total
    assert repeats.pause() is None


def test_inside_an_owner_nothing_is_repeated() -> None:
    repeats = Repeats(STEADY, FakeClock())

    with sole_owner():
        assert is_retried()
        assert repeats.pause() is None

    assert not is_retried()
    assert repeats.pause() == 2.0


def test_an_inner_owner_leaves_the_outer_one_in_place() -> None:
    with sole_owner():
        with sole_owner():
            pass
        assert is_retried()


def test_another_thread_has_its_own_owner() -> None:
    seen = []
    with sole_owner():
        thread = Thread(target=lambda: seen.append(is_retried()))
        thread.start()
        thread.join()

    assert seen == [False]


@settings(max_examples=40)
@given(
    attempts=st.integers(1, 8),
    initial=st.floats(0.0, 20.0),
    top=st.floats(0.0, 20.0),
    total=st.floats(0.0, 60.0),
    work=st.floats(0.0, 10.0),
    dice=st.floats(0.0, 1.0, exclude_max=True),
)
def test_attempts_and_total_time_are_always_bounded(
    attempts: int, initial: float, top: float, total: float, work: float, dice: float
) -> None:
    clock = FakeClock(dice=lambda: dice)
    repeats = Repeats(RetryPolicy(attempts, initial, top, total=total), clock)
    starts = 1
    clock.at += work
    while (pause := repeats.pause()) is not None:
        assert pause <= top
        clock.sleep(pause)
        assert clock.at < total
        starts += 1
        clock.at += work

    assert starts <= attempts
