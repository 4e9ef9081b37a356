"""The one place where a call to a server is repeated, refused, counted and its error given a meaning.

    Retry(Breaker(call))    within the deadline

Drivers repeat nothing themselves. Inside `with_retry`, or inside a transaction that is repeated as a whole,
a guarded call makes one attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum, auto
from typing import TYPE_CHECKING, TypeVar

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.interrupts import note_doubt
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.resilience.failure import Failure, FailureKind
from katax_cli.core.resilience.retry import Repeats, RetryPolicy, sole_owner
from katax_cli.core.resilience.verdict import verdict
from katax_cli.errors import (
    AuthenticationFailed,
    BreakerOpen,
    ConfigError,
    DeadlineExceeded,
    KataxError,
    OutcomeUnknown,
    Refused,
    Unavailable,
)
from katax_cli.services.calls.event_loop import warn_of_blocking
from katax_cli.services.calls.left_behind import BoundedCallTimeout
from katax_cli.services.calls.refusals import refusal

if TYPE_CHECKING:
    from katax_cli.core.resilience.breaker import CallBreaker

T = TypeVar("T")
OnRetry = Callable[[int, BaseException], object]
OnConnectionError = Callable[[KataxError], object]


class Safety(Enum):
    """The risk of making a call again: loss or duplication."""

    READ = auto()
    """A read command, or a statement inside a transaction that the server itself keeps READ ONLY."""
    LOOKUP = auto()
    """A statement that only looks like a read (a function in it may write): not repeated once sent."""
    IDEMPOTENT = auto()
    """A write that its caller declared to have the same effect when made twice."""
    EXPENDABLE = auto()
    """A write that is repeated anyway (a heartbeat, an answer that is asked for again): lost, it is unavailable."""
    WRITE = auto()
    """One write that commits by itself, or a COMMIT."""
    WHOLE = auto()
    """A transaction run as a whole by a callable; it counts as sent when its COMMIT goes out."""
    PART = auto()
    """A statement of an open transaction: made once, outside the breaker; lost, it is rolled back."""
    PROBE = auto()
    """A health probe: made once, outside the breaker; it changes nothing."""


class Sent:
    """The progress of an attempt; the attempt sets it.

    `sent` right before the statement goes out, `rows` once the first row was handed out. `doubt` is the
    guard's: an earlier attempt of the same call may have been applied.
    """

    __slots__ = ("doubt", "rows", "sent")

    def __init__(self, *, sent: bool = False, doubt: bool = False) -> None:
        self.sent, self.rows, self.doubt = sent, False, doubt


_ROLLED_BACK = (FailureKind.ROLLED_BACK, FailureKind.DEADLOCK)
_NOT_APPLIED = frozenset({FailureKind.UNREACHABLE, FailureKind.OVERLOADED, FailureKind.BUSY, *_ROLLED_BACK})
_OF_THE_CONNECTION = frozenset(
    {FailureKind.UNREACHABLE, FailureKind.OVERLOADED, FailureKind.LOST, FailureKind.AUTHENTICATION}
)
_STEPS_SECONDS = 0.5
"""The longest that a caller waits for its turn when the server is back."""
_REFUSAL_SECONDS = 0.001
"""What a refusal takes: callers that ask in a loop would leave no processor to what finds the server again."""
_LOSSES = (FailureKind.UNREACHABLE, FailureKind.LOST)
_REPEATABLE_WHEN_LOST = frozenset({Safety.READ, Safety.IDEMPOTENT})
_NEVER_IN_DOUBT = (Safety.READ, Safety.PROBE, Safety.EXPENDABLE)
_OUTSIDE = (Safety.PART, Safety.PROBE)  # a tuple: hashing a member of an Enum takes a call
_WRITES = frozenset({Safety.IDEMPOTENT, Safety.WRITE, Safety.WHOLE})


def may_repeat(failure: Failure, safety: Safety, sent: Sent) -> bool:
    """True if the call may work later and making it again can neither lose nor double anything."""
    if not failure.transient or sent.rows or safety in _OUTSIDE:
        return False
    return failure.kind in _NOT_APPLIED or not sent.sent or safety in _REPEATABLE_WHEN_LOST


def is_doubtful(failure: Failure, safety: Safety, sent: Sent) -> bool:
    """True if a write may or may not have been applied."""
    if safety in _NEVER_IN_DOUBT:
        return False
    if failure.kind is FailureKind.UNKNOWN_OUTCOME:
        return True
    lost = failure.kind is FailureKind.LOST and sent.sent and safety in _WRITES
    return lost or (sent.doubt and failure.kind is not FailureKind.REJECTED)


def translate(
    failure: Failure, *, connection: str, safety: Safety, sent: Sent, doing: str, deadline: Deadline
) -> KataxError:
    """The error of katax that says what a classified failure means to the caller; doubt beats a timeout."""
    reason = f"{failure.message} ({failure.code})" if failure.code else failure.message
    if is_doubtful(failure, safety, sent):
        return OutcomeUnknown(connection, reason)
    match failure.kind:
        case FailureKind.REJECTED | FailureKind.ROLLED_BACK | FailureKind.DEADLOCK:
            return refusal(connection, failure)
        case FailureKind.AUTHENTICATION:
            return AuthenticationFailed(connection, reason)
        case FailureKind.CONFIGURATION:
            return ConfigError(f"{connection!r} cannot be used as configured: {reason}")
        case FailureKind.READ_ONLY:
            return Refused(f"{connection!r} is read-only: {reason}")
        case FailureKind.TIMED_OUT:
            return _timed_out(connection, reason, doing, deadline)
        case FailureKind.LOST if deadline.expired:
            # The watchdog broke the connection, or the driver gave up waiting at the same moment.
            return _timed_out(connection, reason, doing, deadline)
        case _:
            return Unavailable(connection, reason)


def _timed_out(connection: str, reason: str, doing: str, deadline: Deadline) -> Unavailable:
    if deadline.seconds is None:
        return Unavailable(connection, reason)
    # A server's own, shorter limit ends a statement long before the deadline.
    left = deadline.remaining()
    spent = deadline.seconds if left < 0.1 * deadline.seconds else round(deadline.seconds - left, 2)
    return DeadlineExceeded(connection, doing=doing, seconds=spent)


class Guard:
    """Guards all calls to one connection; `classify` is its engine's.

    `on_retry(attempt, error)` is called before the wait, with the number of the attempt that failed and the
    driver's error. `on_connection_error(error)` is called when a call fails for good because the server was
    not reached, lost, full, or refused the login; `on_loss()` whenever it was lost or not reached.
    `wait_for_server(seconds)` waits for a lost server no longer than that and says whether it is back.
    `is_closed()` is true once this program closed the connection: what is cut off then says nothing of the server.
    `connect_seconds` is what connecting may take: a caller who gave it less cannot tell that the server is gone.
    """

    def __init__(
        self,
        connection: str,
        classify: Callable[[BaseException], Failure],
        *,
        retry: RetryPolicy,
        breaker: CallBreaker | None,
        on_retry: OnRetry | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.connection = connection
        self.breaker = breaker
        self.on_connection_error: OnConnectionError | None = None
        self.on_loss: Callable[[], None] | None = None
        self.wait_for_server: Callable[[float], bool] | None = None
        self.is_closed: Callable[[], bool] = lambda: False
        self.connect_seconds = 0.0
        self._classify = classify
        self._retry = retry
        self._on_retry = on_retry
        self._clock = clock

    def call(
        self, attempt: Callable[[Sent], T], *, deadline: Deadline, safety: Safety, doing: str = "query"
    ) -> T:
        """Returns what an attempt returned; repeats what failed for now, if that is safe.

        Raises the errors of `translate`, chained to the driver's; BreakerOpen; DeadlineExceeded when no time
        is left to begin with. Other people's errors, and katax's own, pass through unchanged. A wait that
        does not fit into the deadline is not begun: the last error is raised at once.
        """
        warn_of_blocking(self.connection)
        deadline.check(self.connection, doing)
        call = _GuardedCall(deadline, safety, doing, self._clock.monotonic())
        breaker = None if safety in _OUTSIDE else self._breaker_to_ask()
        run = self._alone(attempt) if safety is Safety.WHOLE else attempt
        ticket = 0 if breaker is None else self._let_out(breaker, deadline)
        try:
            while True:
                try:
                    value = run(call.sent)
                except BaseException as error:
                    failure = self._failure(error)
                    if breaker is not None:
                        said = None if self._cut_short(failure, call) else self._verdict(error, failure)
                        breaker.after(ticket, said, seconds=self._since(call))
                    if failure is None:
                        raise
                    self._wait(error, failure, call)
                    ticket = 0 if breaker is None else self._before_again(breaker, call, error)
                else:
                    if breaker is not None:
                        seconds = self._since(call) if breaker.times_calls else 0.0
                        breaker.after(ticket, ok=True, seconds=seconds)
                    return value
        except BaseException as error:
            self._note_doubt(error, safety, call.sent, doing)
            raise

    def _let_out(self, breaker: CallBreaker | _Joined, deadline: Deadline) -> int:
        """Asks the breaker; while a server that answered is admitted callers in steps, the others wait a moment."""
        try:
            return breaker.before()
        except BreakerOpen:
            if self.wait_for_server is None:
                raise
            seconds = _STEPS_SECONDS if breaker.admits_in_steps else _REFUSAL_SECONDS
            if not self.wait_for_server(min(seconds, deadline.remaining())):
                raise
        return breaker.before()

    def _since(self, call: _GuardedCall) -> float:
        return self._clock.monotonic() - call.attempt_started

    @contextmanager
    def translating(self, *, deadline: Deadline, safety: Safety, doing: str = "query") -> Iterator[None]:
        """Gives the errors of a block their meaning; for what is sent once, as a part of what was let through.

        The breaker is told of failures, and not asked. A part of a transaction says PART or WHOLE, its COMMIT
        says WRITE.
        """
        breaker = None if self.breaker is None else _Joined(self.breaker)
        ticket = 0 if breaker is None else breaker.before()
        try:
            yield
        except BaseException as error:
            sent = Sent(sent=safety is not Safety.WHOLE)
            failure = None if isinstance(error, KataxError) else self._failure(error)
            if failure is None:
                self._note_doubt(error, safety, sent, doing)
                raise
            if breaker is not None:
                breaker.after(ticket, ok=self._health_by(failure))
            raise self._translated(failure, safety, sent, doing, deadline) from error

    def _note_doubt(self, error: BaseException, safety: Safety, sent: Sent, doing: str) -> None:
        """Notes on an interrupt that the write which it ended may have been applied."""
        if not isinstance(error, Exception) and safety in _WRITES and (sent.sent or sent.doubt):
            note_doubt(error, self.connection, doing, earlier=sent.doubt)

    def _failure(self, error: BaseException) -> Failure | None:
        """The failure that the error means; None for an error that is not this connection's."""
        if isinstance(error, BoundedCallTimeout):
            return Failure(FailureKind.UNREACHABLE, str(error))
        if isinstance(error, KataxError):
            # A part of the call has translated it already (`translating`); the whole may still be repeated.
            translated = isinstance(error, Unavailable) and self._is_ours(error)
            return self._failure(error.__cause__) if translated and error.__cause__ is not None else None
        if not isinstance(error, Exception):
            return None
        failure = self._classify(error)
        if failure.kind in _LOSSES and self.on_loss is not None:
            self.on_loss()
        return None if failure.kind is FailureKind.UNKNOWN else failure

    def _is_ours(self, error: KataxError) -> bool:
        return getattr(error, "connection", None) == self.connection

    def _verdict(self, error: BaseException, failure: Failure | None) -> bool | None:
        if isinstance(error, KataxError):
            # From the server if it has a cause; then a part of this call has told the breaker of a failure.
            from_server = self._is_ours(error) and error.__cause__ is not None
            return (verdict(error) or None) if from_server else None
        return None if failure is None else self._health_by(failure)

    def _health_by(self, failure: Failure) -> bool | None:
        """The server's health; None for a call that closing the connection, not the server, may have cut off."""
        return None if failure.counts and self.is_closed() else not failure.counts

    def _cut_short(self, failure: Failure | None, call: _GuardedCall) -> bool:
        """True if connecting ended with its caller's time, which was less than the server may take."""
        unreachable = failure is not None and failure.kind is FailureKind.UNREACHABLE
        return unreachable and call.deadline.expired and self._since(call) < self.connect_seconds

    def _breaker_to_ask(self) -> CallBreaker | _Joined | None:
        if self.breaker is not None and self in _wholes.get():
            return _Joined(self.breaker)
        return self.breaker

    def _alone(self, attempt: Callable[[Sent], T]) -> Callable[[Sent], T]:
        """The attempt as the one that is repeated: calls of its own are parts of it."""

        def run(sent: Sent) -> T:
            token = _wholes.set((*_wholes.get(), self))
            try:
                with sole_owner():
                    return attempt(sent)
            finally:
                _wholes.reset(token)

        return run

    def _wait(self, error: BaseException, failure: Failure, call: _GuardedCall) -> None:
        """Waits for the next attempt, or raises what the error means when there is none."""
        pause = call.pause(failure, self._retry, self._clock)
        if pause is None:
            if isinstance(error, KataxError):
                raise error
            raise self._translated(failure, call.safety, call.sent, call.doing, call.deadline) from error
        if self._on_retry is not None:
            self._on_retry(call.failed, error)
        call.sent = Sent(doubt=is_doubtful(failure, call.safety, call.sent))
        self._sleep(pause, failure, call)
        call.attempt_started = self._clock.monotonic()

    def _sleep(self, pause: float, failure: Failure, call: _GuardedCall) -> None:
        """Waits; a server that is back ends the wait, unless that was said before and proved wrong."""
        if self.wait_for_server is None or failure.kind not in _LOSSES or call.woken:
            call.woken = False
            self._clock.sleep(pause)
        else:
            call.woken = self.wait_for_server(pause)

    def _before_again(self, breaker: CallBreaker | _Joined, call: _GuardedCall, error: BaseException) -> int:
        try:
            return self._let_out(breaker, call.deadline)
        except BreakerOpen as refused:
            if call.sent.doubt:
                raise OutcomeUnknown(self.connection, str(refused)) from error
            raise refused from error

    def _translated(
        self, failure: Failure, safety: Safety, sent: Sent, doing: str, deadline: Deadline
    ) -> KataxError:
        """The error that the failure means; listeners hear of lost connections."""
        meaning = translate(
            failure, connection=self.connection, safety=safety, sent=sent, doing=doing, deadline=deadline
        )
        told = failure.kind in _OF_THE_CONNECTION and not isinstance(meaning, DeadlineExceeded)
        if told and self.on_connection_error is not None:
            self.on_connection_error(meaning)
        return meaning


class _GuardedCall:
    """One guarded call under way: what it may use up and how far its present attempt got."""

    __slots__ = ("_repeats", "attempt_started", "deadline", "doing", "safety", "sent", "started", "woken")

    def __init__(self, deadline: Deadline, safety: Safety, doing: str, now: float) -> None:
        self.deadline = deadline
        self.safety = safety
        self.doing = doing
        self.started = self.attempt_started = now
        self.sent = Sent()
        self.woken = False
        self._repeats: Repeats | None = None

    @property
    def failed(self) -> int:
        return 0 if self._repeats is None else self._repeats.failed

    def pause(self, failure: Failure, policy: RetryPolicy, clock: Clock) -> float | None:
        """Seconds until the next attempt, None when there is to be none."""
        if not may_repeat(failure, self.safety, self.sent):
            return None
        if self._repeats is None:
            self._repeats = Repeats(policy, clock, started=self.started)
        overloaded = failure.kind is FailureKind.OVERLOADED
        return self._repeats.pause(overloaded=overloaded, remaining=self.deadline.remaining())


class _Joined:
    """The breaker of what belongs to a call that it let through: not asked again, told of failures only.

    Else a transaction that is the one probe of a half-open breaker could not make a call of its own.
    """

    __slots__ = ("_breaker",)

    def __init__(self, breaker: CallBreaker) -> None:
        self._breaker = breaker

    times_calls = admits_in_steps = False

    def before(self) -> int:
        return self._breaker.ticket

    def after(self, ticket: int, ok: bool | None, *, seconds: float = 0.0) -> None:
        if ok is False:
            self._breaker.after(ticket, ok, seconds=seconds)


_wholes: ContextVar[tuple[Guard, ...]] = ContextVar("katax_wholes", default=())
