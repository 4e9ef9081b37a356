"""What is repeated, what never is, and what the caller is told; attempts are counted at a real socket."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from threading import Barrier, Event, Thread
from types import ModuleType

import pytest

from katax_cli.core.interrupts import doubt_of, settle_doubt
from katax_cli.core.resilience.deadline import NEVER, Deadline
from katax_cli.core.resilience.failure import Failure, FailureKind
from katax_cli.core.resilience.retry import RetryPolicy, is_retried, sole_owner
from katax_cli.errors import (
    AuthenticationFailed,
    BreakerOpen,
    ConfigError,
    DeadlineExceeded,
    DeadlockDetected,
    KataxError,
    OutcomeUnknown,
    PoolTimeout,
    QueryError,
    Refused,
    SerializationFailure,
    Unavailable,
)
from katax_cli.resilience import CircuitBreaker
from katax_cli.services.calls.event_loop import warn_of_blocking
from katax_cli.services.calls.guard import Guard, Safety, Sent, is_doubtful, may_repeat, translate
from katax_cli.services.calls.left_behind import BoundedCallTimeout
from katax_cli.services.calls.watchdog import watchdog
from tests.fake_clock import FakeClock
from tests.servers import free_port
from tests.services.line_server import Answered, HungUp, LineServer, Move, ask, classify, line_server
from tests.waiting import until

STEADY = RetryPolicy(attempts=3, initial=1.0, max=10.0, total=45.0, jitter=False)
Attempt = Callable[[Sent], bytes]


def guard_of(
    clock: FakeClock, *, retry: RetryPolicy = STEADY, breaker: CircuitBreaker | None = None
) -> Guard:
    return Guard("main", classify, retry=retry, breaker=breaker, clock=clock)


def asking(server: LineServer, line: bytes = b"select 1") -> Attempt:
    def attempt(sent: Sent) -> bytes:
        return ask(server.port, line, sending=lambda: setattr(sent, "sent", True))

    return attempt


def make(kind: FailureKind) -> Failure:
    return Failure(kind, "it broke", "X1")


def how_far(*, sent: bool = True, rows: bool = False, doubt: bool = False) -> Sent:
    state = Sent(doubt=doubt)
    state.sent, state.rows = sent, rows
    return state


NOT_APPLIED = {
    FailureKind.UNREACHABLE,
    FailureKind.OVERLOADED,
    FailureKind.ROLLED_BACK,
    FailureKind.DEADLOCK,
    FailureKind.BUSY,
}


@pytest.mark.parametrize("kind", FailureKind)
@pytest.mark.parametrize("safety", Safety)
@pytest.mark.parametrize("sent", [True, False])
def test_what_may_be_repeated(kind: FailureKind, safety: Safety, sent: bool) -> None:
    lost_but_safe = kind is FailureKind.LOST and (not sent or safety in (Safety.READ, Safety.IDEMPOTENT))
    outside = safety in (Safety.PART, Safety.PROBE)
    expected = not outside and (kind in NOT_APPLIED or lost_but_safe)

    assert may_repeat(make(kind), safety, how_far(sent=sent)) is expected


@pytest.mark.parametrize("kind", FailureKind)
@pytest.mark.parametrize("safety", Safety)
def test_nothing_is_repeated_after_the_first_row(kind: FailureKind, safety: Safety) -> None:
    assert not may_repeat(make(kind), safety, how_far(rows=True))


@pytest.mark.parametrize(
    ("kind", "safety", "sent", "doubtful"),
    [
        (FailureKind.LOST, Safety.WRITE, True, True),
        (FailureKind.LOST, Safety.WHOLE, True, True),
        (FailureKind.LOST, Safety.IDEMPOTENT, True, True),
        (FailureKind.LOST, Safety.WRITE, False, False),
        (FailureKind.LOST, Safety.WHOLE, False, False),
        (FailureKind.LOST, Safety.PART, True, False),
        (FailureKind.LOST, Safety.LOOKUP, True, False),
        (FailureKind.LOST, Safety.READ, True, False),
        (FailureKind.LOST, Safety.EXPENDABLE, True, False),
        (FailureKind.UNKNOWN_OUTCOME, Safety.WRITE, True, True),
        (FailureKind.UNKNOWN_OUTCOME, Safety.PART, True, True),
        (FailureKind.UNKNOWN_OUTCOME, Safety.READ, True, False),
        (FailureKind.TIMED_OUT, Safety.WRITE, True, False),
        (FailureKind.UNREACHABLE, Safety.WRITE, True, False),
        (FailureKind.ROLLED_BACK, Safety.WHOLE, True, False),
        (FailureKind.DEADLOCK, Safety.WHOLE, True, False),
    ],
)
def test_when_the_outcome_is_unknown(kind: FailureKind, safety: Safety, sent: bool, doubtful: bool) -> None:
    assert is_doubtful(make(kind), safety, how_far(sent=sent)) is doubtful


def test_doubt_of_an_earlier_attempt_stays_until_the_server_answers() -> None:
    state = how_far(sent=False, doubt=True)

    assert is_doubtful(make(FailureKind.UNREACHABLE), Safety.IDEMPOTENT, state)
    assert is_doubtful(make(FailureKind.TIMED_OUT), Safety.IDEMPOTENT, state)
    assert not is_doubtful(make(FailureKind.REJECTED), Safety.IDEMPOTENT, state)


@pytest.mark.parametrize(
    ("kind", "error", "text"),
    [
        (FailureKind.REJECTED, QueryError, "'main' refused the statement: it broke (X1)"),
        (
            FailureKind.AUTHENTICATION,
            AuthenticationFailed,
            "'main' refused the login: it broke (X1); check its user and password",
        ),
        (FailureKind.CONFIGURATION, ConfigError, "'main' cannot be used as configured: it broke (X1)"),
        (FailureKind.READ_ONLY, Refused, "refused: 'main' is read-only: it broke (X1)"),
        (FailureKind.UNREACHABLE, Unavailable, "'main' is not available: it broke (X1)"),
        (FailureKind.OVERLOADED, Unavailable, "'main' is not available: it broke (X1)"),
        (
            FailureKind.ROLLED_BACK,
            SerializationFailure,
            "'main' rolled it back: it broke (X1); run the whole transaction again",
        ),
        (
            FailureKind.DEADLOCK,
            DeadlockDetected,
            "'main' rolled it back: it broke (X1); run the whole transaction again",
        ),
        (FailureKind.BUSY, Unavailable, "'main' is not available: it broke (X1)"),
        (
            FailureKind.LOST,
            OutcomeUnknown,
            "outcome unknown on 'main': it broke (X1); the write may or may not have been applied, "
            "check before repeating it",
        ),
        (FailureKind.TIMED_OUT, Unavailable, "'main' is not available: it broke (X1)"),
    ],
)
def test_what_the_caller_of_a_write_is_told(kind: FailureKind, error: type[KataxError], text: str) -> None:
    meaning = translate(
        make(kind),
        connection="main",
        safety=Safety.WRITE,
        sent=how_far(),
        doing="query",
        deadline=NEVER,
    )

    assert type(meaning) is error
    assert str(meaning) == text


@pytest.mark.parametrize(
    ("after", "seconds"),
    [(10.0, 10.0), (9.5, 10.0), (2.0, 2.0)],
    ids=["over", "nearly over", "the server's own limit"],
)
def test_a_timeout_says_how_long_it_took(after: float, seconds: float) -> None:
    clock = FakeClock()
    deadline = Deadline(10.0, clock=clock)
    clock.at = after

    meaning = translate(
        make(FailureKind.TIMED_OUT),
        connection="main",
        safety=Safety.WRITE,
        sent=how_far(),
        doing="query",
        deadline=deadline,
    )

    assert isinstance(meaning, DeadlineExceeded)
    assert (meaning.doing, meaning.seconds) == ("query", seconds)


@pytest.mark.parametrize(
    ("safety", "error"), [(Safety.READ, DeadlineExceeded), (Safety.WRITE, OutcomeUnknown)]
)
def test_unknown_beats_a_timeout(safety: Safety, error: type[KataxError]) -> None:
    meaning = translate(
        make(FailureKind.LOST),
        connection="main",
        safety=safety,
        sent=how_far(),
        doing="query",
        deadline=Deadline(0.0, clock=FakeClock()),
    )

    assert type(meaning) is error


def test_a_read_is_repeated_until_it_is_answered() -> None:
    clock = FakeClock()
    with line_server("drop", "drop") as server:
        answer = guard_of(clock).call(asking(server), deadline=NEVER, safety=Safety.READ)

    assert answer == b"answer"
    assert len(server.requests) == 3
    assert clock.sleeps == [1.0, 2.0]


def test_attempts_at_the_socket_are_those_of_the_policy() -> None:
    with line_server(afterwards="drop") as server, pytest.raises(Unavailable) as error:
        guard_of(FakeClock()).call(asking(server), deadline=NEVER, safety=Safety.READ)

    assert len(server.requests) == STEADY.attempts
    assert str(error.value) == "'main' is not available: the connection broke"
    assert isinstance(error.value.__cause__, HungUp)


@pytest.mark.parametrize("safety", [Safety.WRITE, Safety.WHOLE])
def test_a_write_without_an_answer_is_unknown_and_never_replayed(safety: Safety) -> None:
    with line_server("drop") as server, pytest.raises(OutcomeUnknown):
        guard_of(FakeClock()).call(asking(server), deadline=NEVER, safety=safety)

    assert len(server.requests) == 1


def test_a_lookup_is_not_replayed_and_not_called_unknown() -> None:
    with line_server("drop") as server, pytest.raises(Unavailable):
        guard_of(FakeClock()).call(asking(server), deadline=NEVER, safety=Safety.LOOKUP)

    assert len(server.requests) == 1


def test_a_write_that_was_never_sent_is_repeated() -> None:
    clock, port = FakeClock(), free_port()

    def attempt(sent: Sent) -> bytes:
        return ask(port, b"insert", sending=lambda: setattr(sent, "sent", True))

    with pytest.raises(Unavailable) as error:
        guard_of(clock).call(attempt, deadline=NEVER, safety=Safety.WRITE)

    assert clock.sleeps == [1.0, 2.0]
    assert str(error.value) == "'main' is not available: connection refused"


@pytest.mark.parametrize("move", ["busy", "deadlock", "overloaded"])
def test_what_the_server_did_not_do_is_repeated_even_for_a_write(move: Move) -> None:
    with line_server(move) as server:
        guard_of(FakeClock()).call(asking(server), deadline=NEVER, safety=Safety.WRITE)

    assert len(server.requests) == 2


@pytest.mark.parametrize("move", ["busy", "deadlock", "overloaded", "drop"])
def test_a_part_of_a_transaction_is_made_once(move: Move) -> None:
    with line_server(move) as server, pytest.raises(Unavailable):
        guard_of(FakeClock()).call(asking(server), deadline=NEVER, safety=Safety.PART)

    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("move", "error"),
    [("syntax", QueryError), ("password", AuthenticationFailed), ("read-only", Refused)],
)
def test_a_no_is_neither_repeated_nor_counted(move: Move, error: type[KataxError]) -> None:
    breaker = CircuitBreaker(1)
    with line_server(afterwards=move) as server, pytest.raises(error):
        guard_of(FakeClock(), breaker=breaker).call(asking(server), deadline=NEVER, safety=Safety.READ)

    assert len(server.requests) == 1
    assert breaker.get_state().failures == 0


def test_an_idempotent_write_is_repeated_and_its_doubt_is_kept() -> None:
    def attempt(sent: Sent) -> bytes:
        port = server.port if not server.requests else free_port()
        return ask(port, b"upsert", sending=lambda: setattr(sent, "sent", True))

    with line_server("drop") as server, pytest.raises(OutcomeUnknown) as error:
        guard_of(FakeClock()).call(attempt, deadline=NEVER, safety=Safety.IDEMPOTENT)

    assert len(server.requests) == 1
    assert isinstance(error.value.__cause__, ConnectionRefusedError)


def test_overload_waits_at_least_half() -> None:
    clock = FakeClock(dice=lambda: 0.0)
    guard = guard_of(clock, retry=RetryPolicy(initial=8.0))
    with line_server("overloaded", "busy") as server:
        guard.call(asking(server), deadline=NEVER, safety=Safety.READ)

    assert clock.sleeps == [4.0, 0.0]


def test_a_wait_that_does_not_fit_is_not_begun() -> None:
    clock = FakeClock()
    with line_server(afterwards="drop") as server, pytest.raises(Unavailable) as error:
        guard_of(clock).call(asking(server), deadline=Deadline(2.5, clock=clock), safety=Safety.READ)

    assert (len(server.requests), clock.sleeps) == (2, [1.0])
    assert type(error.value) is Unavailable


def test_without_time_nothing_is_sent() -> None:
    clock = FakeClock()
    with line_server() as server, pytest.raises(DeadlineExceeded):
        guard_of(clock).call(asking(server), deadline=Deadline(0.0, clock=clock), safety=Safety.READ)

    assert server.requests == []


def test_inside_an_owner_of_retries_one_attempt_is_made() -> None:
    with line_server("drop") as server, pytest.raises(Unavailable), sole_owner():
        guard_of(FakeClock()).call(asking(server), deadline=NEVER, safety=Safety.READ)

    assert len(server.requests) == 1


def test_calls_inside_a_whole_transaction_are_not_repeated_by_themselves() -> None:
    guard, owned = guard_of(FakeClock()), []

    def whole(_sent: Sent) -> bytes:
        owned.append(is_retried())
        return guard.call(asking(server), deadline=NEVER, safety=Safety.READ)

    with line_server("drop") as server:
        answer = guard.call(whole, deadline=NEVER, safety=Safety.WHOLE)

    assert (answer, len(server.requests), owned) == (b"answer", 2, [True, True])


def test_a_whole_is_repeated_although_a_part_translated_its_error() -> None:
    guard, clock = guard_of(FakeClock()), FakeClock()

    def whole(_sent: Sent) -> bytes:
        with guard.translating(deadline=Deadline(9.0, clock=clock), safety=Safety.PART):
            return ask(server.port, b"update", sending=lambda: None)

    with line_server("deadlock", "drop") as server:
        assert guard.call(whole, deadline=NEVER, safety=Safety.WHOLE) == b"answer"

    assert len(server.requests) == 3


def test_a_translated_error_is_raised_as_it_was() -> None:
    guard = guard_of(FakeClock())

    def whole(_sent: Sent) -> bytes:
        with guard.translating(deadline=NEVER, safety=Safety.PART):
            return ask(server.port, b"update", sending=lambda: None)

    with line_server(afterwards="deadlock") as server, pytest.raises(Unavailable) as error:
        guard.call(whole, deadline=NEVER, safety=Safety.WHOLE)

    assert len(server.requests) == 3
    assert isinstance(error.value.__cause__, Answered)


def test_an_unknown_outcome_of_another_connection_does_not_repeat_the_whole() -> None:
    other = Guard("other", classify, retry=STEADY, breaker=None, clock=FakeClock())

    def whole(_sent: Sent) -> bytes:
        with other.translating(deadline=NEVER, safety=Safety.PART):
            return ask(server.port, b"update", sending=lambda: None)

    with line_server("deadlock") as server, pytest.raises(Unavailable):
        guard_of(FakeClock()).call(whole, deadline=NEVER, safety=Safety.WHOLE)

    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("safety", "error"),
    [
        (Safety.WRITE, OutcomeUnknown),
        (Safety.PART, Unavailable),
        (Safety.WHOLE, Unavailable),
        (Safety.READ, Unavailable),
    ],
)
def test_a_lost_commit_is_unknown_and_a_lost_part_is_not(safety: Safety, error: type[KataxError]) -> None:
    guard = guard_of(FakeClock())

    with pytest.raises(error), guard.translating(deadline=NEVER, safety=safety):
        raise HungUp


def test_other_peoples_errors_pass_through_unchanged_and_uncounted() -> None:
    breaker, mine = CircuitBreaker(1), LookupError("mine")

    def attempt(_sent: Sent) -> None:
        raise mine

    guard = guard_of(FakeClock(), breaker=breaker)
    with pytest.raises(LookupError) as error:
        guard.call(attempt, deadline=NEVER, safety=Safety.WHOLE)
    with pytest.raises(LookupError), guard.translating(deadline=NEVER, safety=Safety.PART):
        raise mine

    assert error.value is mine
    assert breaker.is_closed()


@pytest.mark.parametrize(
    "error",
    [
        PoolTimeout("main", waited=1.0, active=1, max=1, waiting=0),
        DeadlineExceeded("main", doing="waiting", seconds=1.0),
        QueryError("other", "no"),
        Unavailable("other", "gone"),
    ],
)
def test_katax_errors_pass_through_unchanged(error: KataxError) -> None:
    breaker, tries = CircuitBreaker(1), []

    def attempt(_sent: Sent) -> None:
        tries.append(1)
        raise error

    with pytest.raises(KataxError) as raised:
        guard_of(FakeClock(), breaker=breaker).call(attempt, deadline=NEVER, safety=Safety.READ)

    assert raised.value is error
    assert len(tries) == 1
    assert breaker.is_closed()


def test_a_commit_lost_inside_a_whole_counts_and_is_not_repeated() -> None:
    breaker, clock = CircuitBreaker(1), FakeClock()
    guard = guard_of(clock, breaker=breaker)

    def whole(_sent: Sent) -> bytes:
        with guard.translating(deadline=NEVER, safety=Safety.WRITE):
            return ask(server.port, b"commit", sending=lambda: None)

    with line_server("drop") as server, pytest.raises(OutcomeUnknown):
        guard.call(whole, deadline=NEVER, safety=Safety.WHOLE)

    assert len(server.requests) == 1
    assert breaker.is_open()


def test_a_connect_that_was_left_behind_is_unreachable_and_repeated() -> None:
    tries = []

    def attempt(_sent: Sent) -> None:
        tries.append(1)
        raise BoundedCallTimeout("connecting to 'main'", 2.0)

    with pytest.raises(Unavailable) as error:
        guard_of(FakeClock()).call(attempt, deadline=NEVER, safety=Safety.WRITE)

    assert len(tries) == 3
    assert str(error.value) == "'main' is not available: connecting to 'main' took longer than 2 s"


def test_hooks_are_told_the_attempt_and_the_drivers_error() -> None:
    told: list[tuple[int, type[BaseException]]] = []
    guard = Guard(
        "main",
        classify,
        retry=STEADY,
        breaker=None,
        on_retry=lambda attempt, error: told.append((attempt, type(error))),
        clock=FakeClock(),
    )
    with line_server("drop", "busy") as server:
        guard.call(asking(server), deadline=NEVER, safety=Safety.READ)

    assert told == [(1, HungUp), (2, Answered)]


def test_an_open_breaker_sends_nothing_and_is_not_retried() -> None:
    clock = FakeClock()
    breaker = CircuitBreaker(clock=clock)
    breaker.force_open()
    with line_server() as server, pytest.raises(BreakerOpen):
        guard_of(clock, breaker=breaker).call(asking(server), deadline=NEVER, safety=Safety.READ)

    assert (server.requests, clock.sleeps) == ([], [])


def test_every_attempt_counts_and_opening_ends_the_retries() -> None:
    clock = FakeClock()
    breaker = CircuitBreaker(2, clock=clock, name="main")
    with line_server(afterwards="drop") as server, pytest.raises(BreakerOpen) as error:
        guard_of(clock, breaker=breaker).call(asking(server), deadline=NEVER, safety=Safety.READ)

    assert len(server.requests) == 2
    assert isinstance(error.value.__cause__, HungUp)


def test_opening_after_a_doubtful_attempt_is_an_unknown_outcome() -> None:
    clock = FakeClock()
    breaker = CircuitBreaker(1, clock=clock)
    with line_server("drop") as server, pytest.raises(OutcomeUnknown):
        guard_of(clock, breaker=breaker).call(asking(server), deadline=NEVER, safety=Safety.IDEMPOTENT)

    assert len(server.requests) == 1


def test_a_part_neither_asks_nor_feeds_the_breaker() -> None:
    clock = FakeClock()
    breaker = CircuitBreaker(1, clock=clock)
    guard = guard_of(clock, breaker=breaker)
    with line_server("drop") as server:
        with pytest.raises(Unavailable):
            guard.call(asking(server), deadline=NEVER, safety=Safety.PART)
        assert breaker.is_closed()
        breaker.force_open()
        guard.call(asking(server), deadline=NEVER, safety=Safety.PART)

    assert len(server.requests) == 2


def test_a_failed_part_counts_once_with_and_without_a_call_around_it() -> None:
    breaker = CircuitBreaker(failures=9)
    guard = guard_of(FakeClock(), breaker=breaker, retry=RetryPolicy(attempts=1))

    def part(_sent: Sent) -> bytes:
        with guard.translating(deadline=NEVER, safety=Safety.PART):
            return ask(server.port, b"update", sending=lambda: None)

    with line_server("drop", "drop", "syntax") as server:
        with pytest.raises(Unavailable):
            part(Sent())
        assert breaker.get_state().failures == 1
        with pytest.raises(Unavailable):
            guard.call(part, deadline=NEVER, safety=Safety.WHOLE)
        assert breaker.get_state().failures == 2
        with pytest.raises(QueryError):
            part(Sent())
        assert breaker.get_state().failures == 2


def test_a_call_inside_the_whole_that_is_the_only_probe_is_let_through() -> None:
    clock = FakeClock()
    breaker = CircuitBreaker(failures=1, reset=1.0, half_open_calls=1, clock=clock)
    guard = guard_of(clock, breaker=breaker)
    breaker.force_open(1.0)
    clock.at += 1.0

    def whole(_sent: Sent) -> str:
        guard.call(asking(server), deadline=NEVER, safety=Safety.READ)
        return breaker.get_state().state

    with line_server() as server:
        assert guard.call(whole, deadline=NEVER, safety=Safety.WHOLE) == "half_open"

    assert (breaker.is_closed(), len(server.requests)) == (True, 1)


def test_a_call_inside_a_whole_that_fails_counts_once() -> None:
    breaker = CircuitBreaker(failures=9)
    guard = guard_of(FakeClock(), breaker=breaker, retry=RetryPolicy(attempts=1))

    with line_server("drop") as server, pytest.raises(Unavailable):
        guard.call(
            lambda _sent: guard.call(asking(server), deadline=NEVER, safety=Safety.READ),
            deadline=NEVER,
            safety=Safety.WHOLE,
        )

    assert breaker.get_state().failures == 1


def test_a_part_that_began_before_the_breaker_opened_says_nothing_later() -> None:
    clock = FakeClock()
    breaker = CircuitBreaker(failures=1, reset=1.0, clock=clock)
    guard = guard_of(clock, breaker=breaker)
    with (  # noqa: PT012 - the breaker changes while the part is under way
        line_server("drop") as server,
        pytest.raises(Unavailable),
        guard.translating(deadline=NEVER, safety=Safety.PART),
    ):
        breaker.force_open(1.0)
        clock.at += 1.0
        assert breaker.get_state().state == "half_open"
        ask(server.port, b"update", sending=lambda: None)

    assert breaker.get_state().state == "half_open"


def test_an_interrupted_probe_makes_room_for_the_next() -> None:
    clock = FakeClock()
    breaker = CircuitBreaker(clock=clock)
    breaker.force_open(1.0)
    clock.at = 1.0
    guard = guard_of(clock, breaker=breaker)

    def interrupted(_sent: Sent) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guard.call(interrupted, deadline=NEVER, safety=Safety.READ)
    with line_server() as server:
        guard.call(asking(server), deadline=NEVER, safety=Safety.READ)

    assert breaker.is_closed()


@pytest.mark.parametrize(
    ("kind", "safety", "at", "doubtful"),
    [
        (None, Safety.WRITE, "attempt", True),
        (None, Safety.READ, "attempt", False),
        (None, Safety.LOOKUP, "attempt", False),
        (FailureKind.BUSY, Safety.WRITE, "pause", False),
        (FailureKind.LOST, Safety.IDEMPOTENT, "pause", True),
        (FailureKind.LOST, Safety.IDEMPOTENT, "second attempt, unsent", True),
    ],
)
def test_what_an_interrupt_leaves_in_doubt(
    kind: FailureKind | None, safety: Safety, at: str, doubtful: bool
) -> None:
    """What was sent and not answered, in this attempt or an earlier one; nothing that was refused or not sent."""

    class Interrupting(FakeClock):
        def sleep(self, seconds: float) -> None:
            if at == "pause":
                raise KeyboardInterrupt
            super().sleep(seconds)

    attempts: list[Sent] = []

    def attempt(sent: Sent) -> None:
        attempts.append(sent)
        if len(attempts) > 1:
            interrupt = KeyboardInterrupt()
            settle_doubt(interrupt)
            raise interrupt
        sent.sent = True
        raise KeyboardInterrupt if kind is None else OSError("it broke")

    failure = make(kind or FailureKind.LOST)
    guard = Guard("main", lambda _: failure, retry=STEADY, breaker=None, clock=Interrupting())
    with pytest.raises(KeyboardInterrupt) as interrupt:
        guard.call(attempt, deadline=NEVER, safety=safety)
    assert (doubt_of(interrupt.value) is not None) == doubtful


@pytest.mark.parametrize("k", [1, 3])
def test_of_a_hundred_threads_at_most_k_reach_the_server_half_open(k: int) -> None:
    clock, barrier = FakeClock(), Barrier(100)
    answers: list[bytes] = []
    refusals: list[BreakerOpen] = []
    breaker = CircuitBreaker(clock=clock, half_open_calls=k)
    breaker.force_open(1.0)
    clock.at = 1.0
    guard = guard_of(clock, breaker=breaker)

    def call() -> None:
        barrier.wait()
        try:
            answers.append(guard.call(asking(server), deadline=NEVER, safety=Safety.READ))
        except BreakerOpen as refusal:
            refusals.append(refusal)
            if len(refusals) == 100 - k:
                server.release.set()

    with line_server(afterwards="hang") as server:
        threads = [Thread(target=call) for _ in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert (len(server.requests), len(answers), len(refusals)) == (k, k, 100 - k)
    assert breaker.is_closed()


def test_a_probe_that_hangs_on_the_server_does_not_keep_it_half_open() -> None:
    clock = FakeClock()
    breaker = CircuitBreaker(1, 60.0, half_open_max=30.0, clock=clock)
    guard = guard_of(clock, breaker=breaker)
    breaker.force_open(1.0)
    clock.at = 1.0
    with line_server("hang") as server:
        hung = Thread(target=lambda: guard.call(asking(server), deadline=NEVER, safety=Safety.READ))
        hung.start()
        until(lambda: server.requests)
        clock.at = 31.0
        assert breaker.is_open()
        clock.at = 91.0
        guard.call(asking(server), deadline=NEVER, safety=Safety.READ)
        assert breaker.is_closed()
        server.release.set()
        hung.join()

    assert (breaker.is_closed(), len(server.requests)) == (True, 2)


def test_the_watchdog_ends_a_call_that_hangs_on_the_server() -> None:
    opened: list[socket.socket] = []
    ready = Event()

    def attempt(sent: Sent) -> bytes:
        def stop() -> None:
            ready.wait()
            opened[0].shutdown(socket.SHUT_RDWR)

        def sending() -> None:
            sent.sent = True
            ready.set()

        with watchdog.limit(0.05, stop):
            return ask(server.port, b"select pg_sleep(9)", sending=sending, sockets=opened)

    with line_server("hang") as server, pytest.raises(DeadlineExceeded) as error:
        guard_of(FakeClock(), retry=RetryPolicy(attempts=1)).call(
            attempt, deadline=Deadline(0.05), safety=Safety.READ, doing="query"
        )

    assert str(error.value) == "'main' is not available: query took longer than 0.05 s"


def test_asyncio_that_another_thread_is_importing_is_no_running_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncio", ModuleType("asyncio"))
    warn_of_blocking("main")
