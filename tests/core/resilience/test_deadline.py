"""One budget of time for a whole operation."""

import math

import pytest

from katax_cli.core.resilience.deadline import NEVER, Deadline
from katax_cli.errors import DeadlineExceeded
from tests.fake_clock import FakeClock


def test_what_remains_shrinks_with_the_clock_and_is_never_negative() -> None:
    clock = FakeClock(at=100.0)
    deadline = Deadline(5.0, clock=clock)
    left = []
    for at in (100.0, 103.0, 105.0, 109.0):
        clock.at = at
        left.append(deadline.remaining())

    assert left == [5.0, 2.0, 0.0, 0.0]


def test_it_is_over_at_its_moment() -> None:
    clock = FakeClock()
    deadline = Deadline(5.0, clock=clock)

    clock.at = 4.9
    assert not deadline.expired
    clock.at = 5.0
    assert deadline.expired


def test_each_layer_takes_the_smaller_of_its_own_limit_and_what_remains() -> None:
    deadline = Deadline(5.0, clock=FakeClock())

    assert [deadline.within(2.0), deadline.within(9.0), deadline.within(None)] == [2.0, 5.0, 5.0]


def test_never_does_not_limit() -> None:
    assert NEVER.remaining() == math.inf
    assert Deadline(1e30).within(None) is None  # no lock, socket or timer waits so long
    assert not NEVER.expired
    assert NEVER.within(None) is None
    assert NEVER.within(3.0) == 3.0
    NEVER.check("main", "query")


def test_check_names_the_connection_the_work_and_the_time_given() -> None:
    clock = FakeClock()
    deadline = Deadline(2.5, clock=clock)
    deadline.check("main", "query")
    clock.at = 2.5

    with pytest.raises(DeadlineExceeded) as error:
        deadline.check("main", "query")

    assert str(error.value) == "'main' is not available: query took longer than 2.5 s"
    assert (error.value.connection, error.value.doing, error.value.seconds) == ("main", "query", 2.5)


def test_no_time_at_all_is_over_at_once() -> None:
    deadline = Deadline(0.0, clock=FakeClock())

    assert deadline.expired
    with pytest.raises(DeadlineExceeded) as error:
        deadline.check("main", "query")
    assert str(error.value) == "'main' is not available: query was not begun, as no time was left"


def test_the_shorter_of_two_ends_first() -> None:
    clock = FakeClock()
    deadline = Deadline(5.0, clock=clock)

    assert deadline.shorter(None) is deadline.shorter(5.0) is deadline.shorter("1m") is deadline
    shorter = deadline.shorter("2s")
    clock.at = 1.5
    assert (shorter.seconds, shorter.remaining(), deadline.remaining()) == (2.0, 0.5, 3.5)
    assert NEVER.shorter(None) is NEVER.shorter(math.inf) is NEVER


def test_the_time_of_a_pause_does_not_count() -> None:
    clock = FakeClock()
    deadline = Deadline(10.0, clock=clock)
    clock.at = 4.0

    def interrupted() -> None:
        with deadline.paused():
            clock.at = 100.0
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert deadline.remaining() == 6.0
    with NEVER.paused():
        pass
    assert NEVER.remaining() == math.inf
