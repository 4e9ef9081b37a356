"""The breaker of a connection: events, windows, slow calls, background probes and admission in steps."""

import os

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from katax_cli.core.resilience.breaker import CallBreaker
from katax_cli.core.resilience.breaker_policy import BreakerPolicy, ProbePace
from katax_cli.errors import BreakerOpen
from tests.core.resilience.breakers import fail, state, succeed
from tests.fake_clock import FakeClock


def opened(clock: FakeClock, *, attended: bool = True) -> CallBreaker:
    breaker = CallBreaker(clock=clock, name="main")
    breaker.attended = attended
    fail(breaker, 10)
    assert state(breaker) == "open"
    return breaker


def half_open(clock: FakeClock) -> CallBreaker:
    breaker = opened(clock)
    clock.at += 0.05
    probe(breaker, ok=True)
    return breaker


def probe(breaker: CallBreaker, *, ok: bool | None, last: bool = False) -> None:
    ticket = breaker.take_probe()
    assert ticket is not None
    breaker.probed(ticket, ok, last=last)


def admitted(breaker: CallBreaker) -> list[int]:
    """As many calls as are let out now."""
    tickets: list[int] = []
    while True:
        try:
            tickets.append(breaker.before())
        except BreakerOpen:
            return tickets
        if breaker.is_closed():
            return tickets


def test_all_losses_of_one_cut_are_one_failure() -> None:
    breaker = CallBreaker(clock=FakeClock())
    for _ in range(2):
        tickets = [breaker.before() for _ in range(200)]
        for ticket in tickets:
            breaker.after(ticket, ok=False)

    assert (state(breaker), breaker.get_state().failures) == ("closed", 2)
    fail(breaker)
    assert breaker.get_state().reason == "401 of 401 calls failed within 10 s"


def test_in_a_row_too_a_cut_is_one_failure() -> None:
    breaker = CallBreaker(BreakerPolicy(failures=2), clock=FakeClock())
    for ticket in [breaker.before() for _ in range(9)]:
        breaker.after(ticket, ok=False)

    assert breaker.is_closed()
    fail(breaker)
    assert breaker.get_state().reason == "2 failures in a row"


def test_answers_among_the_losses_count_as_answers() -> None:
    breaker = CallBreaker(clock=FakeClock())
    early = [breaker.before() for _ in range(8)]
    fail(breaker, 4)
    for ticket in early:
        breaker.after(ticket, ok=True)

    assert breaker.is_closed()
    fail(breaker, 4)
    assert breaker.get_state().reason == "8 of 16 calls failed within 10 s"


def test_calls_that_left_the_window_count_no_more() -> None:
    clock = FakeClock()
    breaker = CallBreaker(clock=clock)
    succeed(breaker, 1000)
    clock.at = 10.0
    fail(breaker, 9)
    assert breaker.is_closed()
    fail(breaker)
    assert breaker.get_state().reason == "10 of 10 calls failed within 10 s"


def test_silence_opens_it_whatever_was_answered_before() -> None:
    """Ten thousand answers of the last seconds do not keep callers on a server that is gone."""
    clock = FakeClock()
    breaker = CallBreaker(clock=clock)
    succeed(breaker, 10_000)
    clock.at = 1.0
    fail(breaker, 20)
    assert breaker.is_closed()
    clock.at = 3.9
    fail(breaker)
    succeed(breaker)
    clock.at = 5.0
    fail(breaker, 20)
    assert breaker.is_closed()
    clock.at = 8.0
    fail(breaker)
    assert breaker.get_state().reason == "the last 21 calls failed"


def test_connects_that_take_longer_than_the_window_open_it() -> None:
    """Of 20 callers who wait 12 s each for a server that is silent, those who failed together are one event."""
    clock = FakeClock()
    breaker = CallBreaker(clock=clock)
    for _ in range(3):
        assert breaker.is_closed()
        tickets = [breaker.before() for _ in range(20)]
        clock.sleep(12.0)
        for ticket in tickets:
            breaker.after(ticket, ok=False)
    assert breaker.get_state().reason == "the last 41 calls failed"


def test_a_share_without_events_is_judged_as_a_share() -> None:
    clock = FakeClock()
    breaker = CallBreaker(clock=clock, by_event=False)
    succeed(breaker, 1000)
    clock.at = 1.0
    fail(breaker, 20)
    clock.at = 9.0
    fail(breaker, 20)
    assert breaker.is_closed()


def test_slow_calls_open_it_by_their_share() -> None:
    breaker = CallBreaker(BreakerPolicy(slow_rate=0.5, slow_ms=100), clock=FakeClock())
    assert breaker.times_calls
    for seconds in [0.1] * 6 + [0.2] * 5:
        breaker.after(breaker.before(), ok=True, seconds=seconds)
    assert breaker.is_closed()
    breaker.after(breaker.before(), ok=True, seconds=0.2)

    assert breaker.get_state().reason == "6 of 12 calls took longer than 100 ms within 10 s"


def test_probes_come_quickly_at_first_and_rarely_at_last() -> None:
    pace, now, pauses = ProbePace(BreakerPolicy(), lambda: 0.5), 0.0, []
    while now < 60.0:
        pauses.append(pace.pause(now))
        now += pauses[-1]

    assert pauses[:6] == [0.05, 0.1, 0.2, 0.4, 0.5, 0.5]
    assert pauses.count(0.5) == 59
    assert pauses[63:67] == pytest.approx([0.75, 1.5, 3.0, 3.75])
    pace.rest()
    assert pace.pause(1e6) == 0.05


def test_attended_it_lets_no_caller_through_before_a_probe_was_answered() -> None:
    clock = FakeClock()
    breaker = opened(clock)
    assert (breaker.probe_in(), breaker.take_probe()) == (0.05, None)
    for pause in (0.05, 0.1, 0.2, 0.4, 0.5):
        clock.at += pause
        probe(breaker, ok=False)
        assert admitted(breaker) == []
    assert breaker.get_state().reason == "10 of 10 calls failed within 10 s"

    clock.at += 0.5
    ticket = breaker.take_probe()
    assert ticket is not None
    assert breaker.take_probe() is None
    breaker.probed(ticket, ok=None)
    assert state(breaker) == "open"
    clock.at += 0.5
    probe(breaker, ok=True)
    assert state(breaker) == "half_open"


def test_a_prober_that_hangs_or_is_gone_is_replaced_by_one_caller() -> None:
    for takes in (True, False):
        clock = FakeClock()
        breaker = opened(clock)
        clock.at += 0.05
        late = breaker.take_probe() if takes else None
        clock.at += 29.9
        assert admitted(breaker) == []
        clock.at += 0.1
        assert len(admitted(breaker)) == 1
        if late is not None:
            breaker.probed(late, ok=True)
            assert admitted(breaker) == []


def test_unattended_one_caller_is_the_probe() -> None:
    clock = FakeClock()
    breaker = opened(clock, attended=False)
    clock.at += 0.04
    assert admitted(breaker) == []
    clock.at += 0.01
    (ticket,) = admitted(breaker)
    breaker.after(ticket, ok=False)
    clock.at += 0.09
    assert admitted(breaker) == []
    breaker.attended = True
    clock.at += 5.0
    assert admitted(breaker) == []
    breaker.attended = False
    assert len(admitted(breaker)) == 1


def test_callers_are_admitted_in_steps() -> None:
    breaker, sizes = half_open(FakeClock()), []
    while not breaker.is_closed():
        tickets = admitted(breaker)
        sizes.append(len(tickets))
        for ticket in tickets:
            breaker.after(ticket, ok=True)

    assert sizes == [1, 2, 4]


def test_steps_without_calls_pass_and_answered_ones_do_not_bring_back_an_outage() -> None:
    clock = FakeClock()
    breaker = half_open(clock)
    for wanted in ("half_open", "half_open", "closed"):
        clock.at += 0.05
        assert state(breaker) == wanted
    fail(breaker, 10)
    assert breaker.probe_in() == pytest.approx(0.05)


def test_a_call_that_takes_long_keeps_nobody_out_while_probes_are_answered() -> None:
    clock = FakeClock()
    breaker = half_open(clock)
    (long,) = admitted(breaker)
    for size in (2, 4):
        clock.at += 0.5
        probe(breaker, ok=True)
        assert len(admitted(breaker)) == size
    clock.at += 0.5
    probe(breaker, ok=True)
    assert breaker.is_closed()
    breaker.after(long, ok=False)
    assert breaker.is_closed()


@pytest.mark.parametrize("by", ["call", "probe"])
def test_a_failure_in_a_step_opens_it_again_and_forgets_the_others(by: str) -> None:
    clock = FakeClock()
    breaker = half_open(clock)
    (ticket,) = admitted(breaker)
    if by == "call":
        breaker.after(ticket, ok=False)
    else:
        clock.at += 0.5
        probe(breaker, ok=False)

    stats = breaker.get_state()
    assert (stats.state, stats.reason) == ("open", "a probe failed")
    breaker.after(ticket, ok=True)
    assert breaker.is_open()


def test_a_hanging_call_opens_it_where_nobody_probes() -> None:
    clock = FakeClock()
    breaker = opened(clock, attended=False)
    clock.at += 0.05
    assert len(admitted(breaker)) == 1
    clock.at += 30.0

    assert breaker.get_state().reason == "a probe did not answer"


def test_a_refused_login_is_not_tried_again_in_the_background() -> None:
    clock = FakeClock()
    breaker = opened(clock)
    clock.at += 0.05
    probe(breaker, ok=True, last=True)
    (long,) = admitted(breaker)

    assert (state(breaker), breaker.probe_in()) == ("half_open", None)
    clock.at += 5.0
    assert breaker.take_probe() is None
    breaker.after(long, ok=True)
    for _ in range(6):
        succeed(breaker)
    assert breaker.is_closed()
    fail(breaker, 10)
    assert breaker.probe_in() == pytest.approx(0.05)


def test_an_operator_ends_probing_and_starts_it() -> None:
    clock = FakeClock()
    breaker = opened(clock)
    clock.at += 0.05
    under_way = breaker.take_probe()
    assert under_way is not None
    breaker.force_open(10.0)
    breaker.probed(under_way, ok=True)
    assert (state(breaker), breaker.probe_in()) == ("forced_open", None)
    clock.at += 10.0
    assert state(breaker) == "half_open"
    breaker.force_open()
    assert breaker.probe_in() is None
    breaker.disable()
    assert (admitted_once(breaker), breaker.probe_in()) == (True, None)


def admitted_once(breaker: CallBreaker) -> bool:
    breaker.before()
    return True


# Threads of tests before this one may still be ending.
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_child_made_by_fork_probes_by_its_callers() -> None:
    clock = FakeClock()
    breaker = opened(clock)
    clock.at += 0.05
    assert breaker.take_probe() is not None
    with breaker._lock:  # another thread of the parent may hold it
        child = os.fork()
        if child == 0:
            clock.at += 0.5
            os._exit(0 if not breaker.attended and len(admitted(breaker)) == 1 else 1)

    assert os.waitpid(child, 0)[1] == 0


class Recovery(RuleBasedStateMachine):
    """Any order of calls, answers, probes, silence and time keeps the limits and leaves every state."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.breaker = CallBreaker(BreakerPolicy(min_calls=3), clock=self.clock)
        self.out: list[int] = []
        self.probes: list[int] = []
        self.most = 0

    @rule(seconds=st.sampled_from([0.0, 0.05, 0.5, 5.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.at += seconds

    @rule(attended=st.booleans())
    def attend(self, attended: bool) -> None:
        self.breaker.attended = attended

    @rule()
    def call(self) -> None:
        before = state(self.breaker)
        try:
            self.out.append(self.breaker.before())
        except BreakerOpen:
            assert before in ("open", "half_open")
        else:
            assert before in ("closed", "half_open")

    @precondition(lambda self: self.out)
    @rule(data=st.data(), ok=st.sampled_from([True, False, None]))
    def answer(self, data: st.DataObject, ok: bool | None) -> None:
        was_open = state(self.breaker) == "open"
        self.breaker.after(self.out.pop(data.draw(st.integers(0, len(self.out) - 1))), ok)
        assert not was_open or state(self.breaker) == "open"

    @rule()
    def take_probe(self) -> None:
        ticket = self.breaker.take_probe()
        if ticket is not None:
            assert state(self.breaker) in ("open", "half_open")
            self.probes.append(ticket)

    @precondition(lambda self: self.probes)
    @rule(ok=st.sampled_from([True, False, None]), last=st.booleans())
    def probed(self, ok: bool | None, last: bool) -> None:
        self.breaker.probed(self.probes.pop(), ok, last=last and bool(ok))

    @invariant()
    def half_open_lets_out_a_step_at_most(self) -> None:
        if state(self.breaker) == "half_open":
            assert self.breaker._admitted <= self.breaker._step <= 4

    @invariant()
    def no_state_stays_for_ever(self) -> None:
        kept = self.clock.at
        if state(self.breaker) in ("open", "half_open"):
            assert self.breaker._until <= self.clock.at + 2 * 30.0 + 5.0
        assert self.clock.at == kept


Recovery.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestRecovery = Recovery.TestCase
