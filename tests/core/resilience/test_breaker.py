"""The state machine, its limits under threads, and what an operator may force."""

import logging
from collections.abc import Callable
from threading import Barrier, Event, Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from katax_cli.core.resilience.breaker_policy import BreakerPolicy
from katax_cli.core.resilience.call_window import CallWindow
from katax_cli.core.resilience.verdict import verdict
from katax_cli.errors import (
    AuthenticationFailed,
    BreakerOpen,
    ConfigError,
    DeadlineExceeded,
    KataxError,
    OutcomeUnknown,
    PoolClosed,
    PoolTimeout,
    QueryError,
    Unavailable,
)
from katax_cli.resilience import CircuitBreaker
from katax_cli.snapshot import BreakerState, BreakerStats
from tests.core.resilience.breakers import fail, state, succeed
from tests.fake_clock import FakeClock


def boom() -> None:
    raise OSError("boom")


def opened(clock: FakeClock, *, half_open_calls: int = 1) -> CircuitBreaker:
    breaker = CircuitBreaker(3, 60.0, clock=clock, name="main", half_open_calls=half_open_calls)
    fail(breaker, 3)
    return breaker


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"failures": 0}, "breaker failures is 0, expected at least 1"),
        ({"half_open_calls": 0}, "breaker half_open_calls is 0, expected at least 1"),
        ({"min_calls": 0}, "breaker min_calls is 0, expected at least 1"),
        ({"reset": 0.0}, "breaker reset is 0, expected more than 0 seconds"),
        ({"half_open_max": -1.0}, "breaker half_open_max is -1, expected more than 0 seconds"),
        ({"window": 0.0}, "breaker window is 0, expected more than 0 seconds"),
        ({"probe": 0.0}, "breaker probe is 0, expected more than 0 seconds"),
        ({"rate": 1.5}, "breaker rate is 1.5, expected more than 0 and at most 1"),
        ({"rate": 0.0}, "breaker rate is 0, expected more than 0 and at most 1"),
        ({"slow_rate": 0.5}, "breaker slow_ms is not set; slow_rate and slow_ms go together"),
        ({"slow_ms": 9.0}, "breaker slow_rate is not set; slow_rate and slow_ms go together"),
        ({"slow_rate": 0.5, "slow_ms": 0.0}, "breaker slow_ms is 0, expected more than 0 milliseconds"),
    ],
)
def test_senseless_values_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError) as error:
        BreakerPolicy(**wrong)  # type: ignore[arg-type]

    assert str(error.value) == message


def test_a_rate_of_all_calls_is_allowed() -> None:
    breaker = CircuitBreaker(window=10.0, rate=1.0, min_calls=2, clock=FakeClock())

    succeed(breaker)
    fail(breaker)
    assert breaker.is_closed()


def test_opens_at_the_last_of_its_failures_in_a_row() -> None:
    breaker = CircuitBreaker(3, clock=FakeClock())

    fail(breaker, 2)
    assert breaker.is_closed()
    fail(breaker)
    assert breaker.is_open()
    assert not breaker.is_closed()


def test_a_success_between_starts_the_count_again() -> None:
    breaker = CircuitBreaker(3, clock=FakeClock())

    fail(breaker, 2)
    succeed(breaker)
    fail(breaker, 2)

    assert breaker.is_closed()
    assert breaker.get_state().failures == 2


def test_an_open_breaker_calls_nothing_and_says_why_and_until_when() -> None:
    clock = FakeClock()
    breaker = opened(clock)
    clock.at = 12.5
    called = []

    with pytest.raises(BreakerOpen) as error:
        breaker.execute(lambda: called.append(1))

    assert str(error.value) == ("circuit breaker is open for 'main': 3 failures in a row; next try in 47.5 s")
    assert called == []


def test_the_state_is_told_with_epoch_times() -> None:
    clock = FakeClock(at=7.0)
    breaker = opened(clock)
    clock.at = 10.0

    assert breaker.get_state() == BreakerStats(
        "open",
        failures=3,
        last_failure_at=FakeClock.EPOCH + 7.0,
        next_probe_at=FakeClock.EPOCH + 67.0,
        reason="3 failures in a row",
    )


def test_half_open_after_the_reset_time_and_closed_by_one_answer() -> None:
    clock = FakeClock()
    breaker = opened(clock)

    clock.at = 59.9
    assert state(breaker) == "open"
    clock.at = 60.0
    assert state(breaker) == "half_open"
    assert not breaker.is_open()
    assert not breaker.is_closed()
    succeed(breaker)
    assert breaker.get_state() == BreakerStats("closed", 0, last_failure_at=FakeClock.EPOCH)


def test_a_failed_probe_opens_for_another_full_time() -> None:
    clock = FakeClock()
    breaker = opened(clock)
    clock.at = 70.0
    fail(breaker)

    stats = breaker.get_state()
    assert (stats.state, stats.failures, stats.reason) == ("open", 4, "a probe failed")
    assert stats.next_probe_at == FakeClock.EPOCH + 130.0


def test_half_open_lets_its_probes_out_and_no_more() -> None:
    clock = FakeClock(at=0.0)
    breaker = opened(clock, half_open_calls=2)
    clock.at = 60.0
    first, second = breaker.before(), breaker.before()

    with pytest.raises(BreakerOpen) as error:
        breaker.before()

    assert str(error.value) == "circuit breaker is open for 'main': it is being probed"
    breaker.after(first, ok=True)
    assert state(breaker) == "half_open"
    with pytest.raises(BreakerOpen):
        breaker.before()
    breaker.after(second, ok=True)
    assert state(breaker) == "closed"


def test_a_probe_that_says_nothing_makes_room_for_another() -> None:
    clock = FakeClock()
    breaker = opened(clock)
    clock.at = 60.0
    probe = breaker.before()
    with pytest.raises(BreakerOpen):
        breaker.before()

    breaker.after(probe, ok=None)
    clock.at = 200.0
    assert state(breaker) == "half_open"
    succeed(breaker)

    assert state(breaker) == "closed"


def test_a_hung_probe_does_not_keep_it_half_open() -> None:
    clock = FakeClock()
    breaker = opened(clock)
    clock.at = 60.0
    hung = breaker.before()

    clock.at = 89.9
    assert state(breaker) == "half_open"
    clock.at = 95.0
    stats = breaker.get_state()
    assert (stats.state, stats.reason) == ("open", "a probe did not answer")
    assert stats.next_probe_at == FakeClock.EPOCH + 150.0
    breaker.after(hung, ok=True)
    assert state(breaker) == "open"


def test_a_late_answer_counts_as_late_although_nobody_asked_before() -> None:
    clock = FakeClock()
    breaker = opened(clock)
    clock.at = 60.0
    hung = breaker.before()
    clock.at = 90.0

    breaker.after(hung, ok=True)

    assert state(breaker) == "open"


def test_hung_and_open_times_that_ran_out_unseen_end_in_half_open() -> None:
    clock = FakeClock()
    breaker = opened(clock)
    clock.at = 60.0
    breaker.before()
    clock.at = 150.0

    assert state(breaker) == "half_open"
    succeed(breaker)
    assert state(breaker) == "closed"


def test_answers_alone_close_it_when_no_further_probe_comes() -> None:
    clock = FakeClock()
    breaker = opened(clock, half_open_calls=2)
    clock.at = 60.0
    succeed(breaker)

    clock.at = 90.0

    assert state(breaker) == "closed"


@pytest.mark.parametrize("ok", [True, False, None])
def test_the_result_of_a_call_let_out_before_the_present_state_is_ignored(ok: bool | None) -> None:
    clock = FakeClock()
    breaker = CircuitBreaker(3, 60.0, clock=clock)
    old = breaker.before()
    fail(breaker, 3)
    clock.at = 60.0
    probe = breaker.before()

    breaker.after(old, ok)

    assert state(breaker) == "half_open"
    with pytest.raises(BreakerOpen):
        breaker.before()
    breaker.after(probe, ok=True)
    breaker.after(old, ok=False)
    assert breaker.get_state().failures == 0


def test_reset_closes_and_forgets_what_is_still_out() -> None:
    breaker = CircuitBreaker(1, clock=FakeClock())
    out = breaker.before()
    fail(breaker)

    breaker.reset()
    breaker.after(out, ok=False)

    assert (breaker.get_state().state, breaker.get_state().failures) == ("closed", 0)


def test_forced_open_stays_until_reset_and_gives_its_reason() -> None:
    clock = FakeClock()
    breaker = CircuitBreaker(clock=clock, name="main")
    breaker.force_open(reason="maintenance")
    clock.at = 1e9

    assert breaker.is_open()
    assert breaker.get_state() == BreakerStats("forced_open", 0, reason="maintenance")
    with pytest.raises(BreakerOpen) as error:
        breaker.before()
    assert str(error.value) == "circuit breaker is open for 'main': maintenance"
    breaker.reset()
    succeed(breaker)


def test_forced_open_for_a_while_ends_in_probes() -> None:
    clock = FakeClock()
    breaker = CircuitBreaker(clock=clock)
    breaker.force_open(10.0)

    assert breaker.get_state().next_probe_at == FakeClock.EPOCH + 10.0
    clock.at = 10.0
    assert state(breaker) == "half_open"


def test_a_forced_time_must_be_positive() -> None:
    with pytest.raises(ValueError) as error:
        CircuitBreaker().force_open(0.0)

    assert str(error.value) == "force_open for_ is 0, expected more than 0 seconds"


def test_disabled_lets_everything_through_and_counts_nothing() -> None:
    breaker = CircuitBreaker(1, clock=FakeClock())
    fail(breaker)
    breaker.disable("drill")
    fail(breaker, 5)

    stats = breaker.get_state()
    assert (stats.state, stats.failures, stats.reason) == ("disabled", 1, "drill")
    breaker.reset()
    fail(breaker)
    assert breaker.is_open()


def test_execute_returns_counts_and_passes_errors_through() -> None:
    breaker = CircuitBreaker(2, clock=FakeClock())

    assert breaker.execute(lambda: 42) == 42
    for _ in range(2):
        with pytest.raises(OSError, match="boom"):
            breaker.execute(boom)

    assert breaker.is_open()


def test_an_interrupt_neither_counts_nor_blocks_the_probe() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    clock = FakeClock()
    breaker = opened(clock)
    clock.at = 60.0

    with pytest.raises(KeyboardInterrupt):
        breaker.execute(interrupted)

    assert breaker.execute(lambda: "probe") == "probe"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError("gone"), False),
        (Unavailable("main", "gone"), False),
        (DeadlineExceeded("main", doing="query", seconds=1.0), False),
        (OutcomeUnknown("main", "gone"), False),
        (QueryError("main", "syntax"), True),
        (AuthenticationFailed("main", "password"), True),
        (BreakerOpen("other"), None),
        (PoolTimeout("main", waited=1.0, active=1, max=1, waiting=1), None),
        (PoolClosed("main"), None),
        (ConfigError("no"), None),
        (KataxError("no"), None),
        (KeyboardInterrupt(), None),
        (SystemExit(), None),
    ],
)
def test_what_an_error_says_about_the_callee(error: BaseException, says: bool | None) -> None:
    assert verdict(error) is says


def rated(clock: FakeClock) -> CircuitBreaker:
    return CircuitBreaker(window=10.0, rate=0.5, min_calls=4, clock=clock, name="main")


def test_the_rate_needs_a_minimum_of_calls() -> None:
    breaker = rated(FakeClock())

    fail(breaker, 3)
    assert breaker.is_closed()
    fail(breaker)
    assert breaker.get_state().reason == "4 of 4 calls failed within 10 s"


def test_the_rate_is_of_all_calls() -> None:
    breaker = rated(FakeClock())

    succeed(breaker, 3)
    fail(breaker, 2)
    assert breaker.is_closed()
    fail(breaker)
    assert breaker.is_open()
    assert breaker.get_state().failures == 3


def test_what_left_the_window_no_longer_counts() -> None:
    clock = FakeClock()
    breaker = rated(clock)
    fail(breaker, 3)
    clock.at = 10.0
    fail(breaker, 3)

    assert breaker.is_closed()
    assert breaker.get_state().failures == 3


def test_closing_starts_an_empty_window() -> None:
    breaker = rated(FakeClock())
    fail(breaker, 4)
    breaker.reset()
    fail(breaker, 3)

    assert breaker.is_closed()
    assert breaker.get_state().failures == 3


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(0.0, 5.0), st.booleans()), max_size=40))
def test_the_window_counts_what_a_list_of_all_calls_counts(steps: list[tuple[float, bool]]) -> None:
    window, now, ended = CallWindow(10.0), 0.0, []
    for pause, failed in steps:
        now += pause
        window.record(now, failed=failed)
        ended.append((int(now / 1.0), failed))
        recent = [bad for tenth, bad in ended if tenth > int(now / 1.0) - 10]

        counts = window.counts(now)
        assert (counts.calls, counts.failures) == (len(recent), sum(recent))


def test_changes_are_told_new_then_old_and_outside_the_lock() -> None:
    clock, told = FakeClock(), []

    def tell(new: BreakerState, old: BreakerState) -> None:
        told.append((new, old, state(breaker)))

    breaker = CircuitBreaker(1, 60.0, clock=clock, on_state_change=tell)
    fail(breaker)
    clock.at = 60.0
    succeed(breaker)
    breaker.reset()

    assert told == [
        ("open", "closed", "open"),
        ("half_open", "open", "half_open"),
        ("closed", "half_open", "closed"),
    ]


def test_commands_are_told_at_once() -> None:
    told: list[tuple[BreakerState, BreakerState]] = []
    breaker = CircuitBreaker(on_state_change=lambda new, old: told.append((new, old)))

    breaker.force_open()
    assert told == [("forced_open", "closed")]
    breaker.disable()
    assert told[1:] == [("disabled", "forced_open")]
    breaker.reset()
    assert told[2:] == [("closed", "disabled")]


def test_a_broken_listener_is_logged_and_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_new: BreakerState, _old: BreakerState) -> None:
        raise LookupError("listener")

    breaker = CircuitBreaker(1, clock=FakeClock(), on_state_change=broken, name="main")
    with caplog.at_level(logging.ERROR):
        fail(breaker)

    assert breaker.is_open()
    assert caplog.messages == ["on_state_change of breaker 'main' failed"]


def crowd(work: Callable[[], None], size: int = 100) -> None:
    barrier = Barrier(size)

    def run() -> None:
        barrier.wait()
        work()

    threads = [Thread(target=run) for _ in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("k", [1, 3])
def test_of_a_hundred_threads_at_most_k_are_let_out_half_open(k: int) -> None:
    clock, out, refused = FakeClock(), [], []
    breaker = opened(clock, half_open_calls=k)
    clock.at = 60.0

    def ask() -> None:
        try:
            out.append(breaker.before())
        except BreakerOpen:
            refused.append(1)

    crowd(ask)

    assert (len(out), len(refused)) == (k, 100 - k)


def test_no_failure_of_many_threads_is_lost() -> None:
    breaker = CircuitBreaker(101, clock=FakeClock())

    crowd(lambda: fail(breaker))

    assert breaker.get_state().failures == 100


def test_a_waiting_call_holds_up_nobody() -> None:
    breaker, inside, release = CircuitBreaker(clock=FakeClock()), Event(), Event()

    def slow() -> None:
        inside.set()
        release.wait()

    thread = Thread(target=lambda: breaker.execute(slow))
    thread.start()
    inside.wait()
    assert breaker.execute(lambda: "quick") == "quick"
    release.set()
    thread.join()


class Machine(RuleBasedStateMachine):
    """Any order of calls, answers, silence, time and commands keeps what the contract promises."""

    K = 2

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.changes: list[tuple[BreakerState, BreakerState]] = []
        self.breaker = CircuitBreaker(
            3,
            60.0,
            half_open_calls=self.K,
            half_open_max=30.0,
            clock=self.clock,
            on_state_change=lambda new, old: self.changes.append((new, old)),
        )
        self.out: list[tuple[int, BreakerState]] = []
        self.probed_since = 0.0

    def probes(self) -> int:
        """Probes of the present half-open stay that have not answered."""
        current = self.breaker.ticket
        return sum(1 for ticket, sent_in in self.out if (ticket, sent_in) == (current, "half_open"))

    @rule(seconds=st.sampled_from([0.0, 1.0, 29.0, 30.0, 60.0, 200.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.at += seconds

    @rule()
    def call(self) -> None:
        before, probes = state(self.breaker), self.probes()
        try:
            ticket = self.breaker.before()
        except BreakerOpen:
            assert before in ("open", "forced_open", "half_open")
            return
        assert before in ("closed", "half_open", "disabled")
        if before == "half_open" and probes == 0:
            self.probed_since = self.clock.at
        self.out.append((ticket, before))

    @precondition(lambda self: self.out)
    @rule(data=st.data(), ok=st.sampled_from([True, False, None]))
    def answer(self, data: st.DataObject, ok: bool | None) -> None:
        before = state(self.breaker)
        ticket, _ = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        self.breaker.after(ticket, ok)
        if before in ("open", "forced_open", "disabled"):
            assert state(self.breaker) == before

    @rule(what=st.sampled_from(["reset", "force_open", "disable"]))
    def command(self, what: str) -> None:
        getattr(self.breaker, what)()

    @rule()
    def force_open_for_a_while(self) -> None:
        self.breaker.force_open(10.0)

    @invariant()
    def at_most_k_probes_are_out(self) -> None:
        assert state(self.breaker) != "half_open" or self.probes() <= self.K

    @invariant()
    def a_silent_probe_does_not_keep_it_half_open(self) -> None:
        if state(self.breaker) == "half_open" and self.probes():
            assert self.clock.at < self.probed_since + 30.0

    @invariant()
    def every_change_continues_from_the_last_and_is_told(self) -> None:
        now = state(self.breaker)
        told: list[BreakerState] = ["closed", *(new for new, _ in self.changes)]

        assert told[-1] == now
        assert told[:-1] == [old for _, old in self.changes]
        assert all(new != old for new, old in self.changes)


Machine.TestCase.settings = settings(max_examples=25, stateful_step_count=25)
TestMachine = Machine.TestCase
