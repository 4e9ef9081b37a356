"""Repeating calls and breaking circuits, for any function: the public face of the resilience core.

Everything is synchronous and of this process. No driver is imported here: a driver's error can only be met where its
driver is loaded already.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from contextvars import ContextVar
from functools import cache, wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, Self, TypeVar

from katax_cli.core.callables import completed, plain
from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.resilience.breaker import CallBreaker
from katax_cli.core.resilience.breaker_events import OnCallNotPermitted, OnStateChange
from katax_cli.core.resilience.breaker_policy import BreakerPolicy
from katax_cli.core.resilience.failure import Failure, FailureKind
from katax_cli.core.resilience.retry import (
    DelayFor,
    Repeats,
    RetryPolicy,
    UnwantedResult,
    set_waiting,
    sole_owner,
)
from katax_cli.core.text.duration import Duration, in_seconds
from katax_cli.errors import (
    AuthenticationFailed,
    BreakerOpen,
    DeadlineExceeded,
    KataxError,
    OutcomeUnknown,
    PoolClosed,
    PoolTimeout,
    Unavailable,
)
from katax_cli.snapshot import BreakerStats

if TYPE_CHECKING:
    from katax_cli.core.settings import EngineName

__all__ = [
    "BreakerOpen",
    "BreakerStats",
    "CircuitBreaker",
    "UnwantedResult",
    "create_retry_wrapper",
    "is_transient_error",
    "retry",
    "set_waiting",
    "with_retry",
]

P = ParamSpec("P")
T = TypeVar("T")
ShouldRetry = Callable[[Exception], bool]
OnRetry = Callable[[int, Exception], object]
Ignore = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]

_DRIVERS: dict[str, EngineName] = {
    "psycopg": "postgresql",
    "pymysql": "mysql",
    "sqlite3": "sqlite",
    "pymongo": "mongodb",
    "redis": "redis",
}
_NETWORK_ERRORS = frozenset(
    {errno.ECONNREFUSED, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE}
)
_NETWORK_CLASSES = (ConnectionError, TimeoutError)
_LASTING = (BreakerOpen, DeadlineExceeded, PoolClosed)
_NEVER_REPEATED = (OutcomeUnknown, AuthenticationFailed, BreakerOpen)
_DEFAULT = RetryPolicy()
_BREAKER = BreakerPolicy()


def is_transient_error(error: BaseException) -> bool:
    """True if the same call may succeed a little later.

    Judges by code: a connection refused, reset, broken or timed out, a server that starts, stops or has too
    many clients, deadlocks, serialization failures, locks not granted, of all five drivers (SQLAlchemy's
    wrappers too), and katax's Unavailable unless a deadline passed or a breaker or pool is shut. False for
    an outcome that is unknown, and for all that a server will refuse again.
    """
    if isinstance(error, KataxError):
        return isinstance(error, Unavailable) and not isinstance(error, _LASTING)
    failure = _driver_failure(error)
    if failure is not None:
        return failure.transient
    return isinstance(error, _NETWORK_CLASSES) or (
        isinstance(error, OSError) and error.errno in _NETWORK_ERRORS
    )


def with_retry(
    fn: Callable[[], T],
    attempts: int = _DEFAULT.attempts,
    *,
    initial: Duration = _DEFAULT.initial,
    max: Duration = _DEFAULT.max,
    multiplier: float = _DEFAULT.multiplier,
    backoff: bool = True,
    jitter: bool = _DEFAULT.jitter,
    total: Duration = _DEFAULT.total,
    delay: Duration | DelayFor | None = None,
    should_retry: ShouldRetry | None = None,
    retry_on_result: Callable[[T], bool] | None = None,
    on_retry: OnRetry | None = None,
    clock: Clock = SYSTEM,
) -> T:
    """Calls `fn` until it returns, at most `attempts` times; its last error passes through unchanged.

    Calling it says that `fn` may run again. Repeated is what `should_retry(error)` says, by default
    `is_transient_error`; never OutcomeUnknown, AuthenticationFailed or BreakerOpen. So is a call for whose result
    `retry_on_result(result)` is true; the last result is returned. No attempt starts later than `total` seconds
    after the first. Waits follow `core.backoff`: `initial` seconds, growing by `multiplier` up to `max`;
    `backoff=False` keeps them equal; `delay` is another `initial`, or a function from the number of the failed
    attempt to seconds, to which `jitter` is not applied. `on_retry(attempt, error)` is called before each wait, after
    a result with an UnwantedResult. Calls through katax inside make one attempt each, and so does another
    `with_retry`. Raises ValueError for settings that make no sense.
    """
    repeated = retry(
        attempts,
        initial=initial,
        max=max,
        multiplier=multiplier,
        backoff=backoff,
        jitter=jitter,
        total=total,
        delay=delay,
        should_retry=should_retry,
        retry_on_result=retry_on_result,
        on_retry=on_retry,
        clock=clock,
    )
    return repeated(fn)()


def create_retry_wrapper(
    fn: Callable[P, T],
    attempts: int = _DEFAULT.attempts,
    *,
    initial: Duration = _DEFAULT.initial,
    max: Duration = _DEFAULT.max,
    multiplier: float = _DEFAULT.multiplier,
    backoff: bool = True,
    jitter: bool = _DEFAULT.jitter,
    total: Duration = _DEFAULT.total,
    delay: Duration | DelayFor | None = None,
    should_retry: ShouldRetry | None = None,
    retry_on_result: Callable[[T], bool] | None = None,
    on_retry: OnRetry | None = None,
    clock: Clock = SYSTEM,
) -> Callable[P, T]:
    """A function like `fn` each call of which is a `with_retry`; the settings are checked here already."""
    repeated = retry(
        attempts,
        initial=initial,
        max=max,
        multiplier=multiplier,
        backoff=backoff,
        jitter=jitter,
        total=total,
        delay=delay,
        should_retry=should_retry,
        retry_on_result=retry_on_result,
        on_retry=on_retry,
        clock=clock,
    )
    return repeated(fn)


def retry(
    attempts: int = _DEFAULT.attempts,
    *,
    initial: Duration = _DEFAULT.initial,
    max: Duration = _DEFAULT.max,
    multiplier: float = _DEFAULT.multiplier,
    backoff: bool = True,
    jitter: bool = _DEFAULT.jitter,
    total: Duration = _DEFAULT.total,
    delay: Duration | DelayFor | None = None,
    should_retry: ShouldRetry | None = None,
    retry_on_result: Callable[[Any], bool] | None = None,
    on_retry: OnRetry | None = None,
    clock: Clock = SYSTEM,
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorator form of `with_retry`: `@retry(attempts=5)`."""
    policy = RetryPolicy(
        attempts=attempts,
        initial=in_seconds(initial if delay is None or callable(delay) else delay),
        max=in_seconds(max),
        multiplier=multiplier if backoff else 1.0,
        total=in_seconds(total),
        jitter=jitter,
    )
    repeater = _Repeater(
        policy,
        delay_for=plain(delay, "delay") if callable(delay) else None,
        should_retry=plain(should_retry or is_transient_error, "should_retry"),
        is_unwanted=plain(retry_on_result or (lambda _: False), "retry_on_result"),
        on_retry=plain(on_retry or (lambda *_: None), "on_retry"),
        clock=clock,
    )
    return repeater.wrap


class CircuitBreaker(CallBreaker):
    """A breaker for any function, which knows what the drivers' errors say.

    `breaker.execute(fn)` runs a call under it, `@breaker` every call of a function, `with breaker:` a block.

    Opens after `failures` in a row, or with `window` when the share `rate` of at least `min_calls` calls within so
    many seconds failed, or the share `slow_rate` took longer than `slow_ms`. After `reset` seconds it lets
    `half_open_calls` calls through and closes when all were answered. By an answer such as a broken constraint, a
    lock wait or a wrong password the server shows that it works: they do not count as failures. Any other
    exception does, unless `ignore` (types, or a function from the exception to bool) names it.
    `on_state_change(new, old)` is called outside the lock, and so is `on_call_not_permitted(error)` with each
    BreakerOpen, on the thread whose call it refuses. Raises ValueError for values that make no sense.
    """

    def __init__(
        self,
        failures: int = 5,
        reset: Duration = 60.0,
        *,
        on_state_change: OnStateChange | None = None,
        half_open_calls: int = _BREAKER.half_open_calls,
        half_open_max: Duration = _BREAKER.half_open_max,
        window: Duration | None = None,
        rate: float | None = _BREAKER.rate,
        min_calls: int | None = _BREAKER.min_calls,
        slow_rate: float | None = None,
        slow_ms: float | None = None,
        ignore: Ignore | None = None,
        on_call_not_permitted: OnCallNotPermitted | None = None,
        name: str = "calls",
        clock: Clock = SYSTEM,
    ) -> None:
        if window is None and slow_rate is not None:
            raise ValueError("breaker window is not set; slow calls are counted within one")
        policy = BreakerPolicy(
            failures=failures if window is None else None,
            reset=in_seconds(reset),
            half_open_calls=half_open_calls,
            half_open_max=in_seconds(half_open_max),
            window=None if window is None else in_seconds(window),
            rate=rate,
            min_calls=min_calls,
            slow_rate=slow_rate,
            slow_ms=slow_ms,
        )
        super().__init__(policy, on_state_change=on_state_change, by_event=False, name=name, clock=clock)
        self._ignores = _ignoring(ignore)
        if on_call_not_permitted is not None:
            self.on_call_not_permitted(on_call_not_permitted)

    def execute(self, fn: Callable[[], T]) -> T:
        """Runs `fn` and counts how it ended; raises BreakerOpen without running it, TypeError for a coroutine."""
        plain(fn, "execute()")
        return super().execute(lambda: completed(fn(), fn, "execute()"))

    def __call__(self, fn: Callable[P, T]) -> Callable[P, T]:
        """Decorator form of `execute`."""
        plain(fn, "a breaker")

        @wraps(fn)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            return self.execute(lambda: fn(*args, **kwargs))

        return guarded

    def __enter__(self) -> Self:
        """Lets a block run and counts how it ends; raises BreakerOpen instead when not let through."""
        ticket = self.before()
        _blocks.set((*_blocks.get(), _Block(self, ticket, self._monotonic())))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        blocks = _blocks.get()
        if not blocks or blocks[-1].breaker is not self:
            raise RuntimeError(f"breaker {self.name!r}: a block ends in the thread or task in which it began")
        block = blocks[-1]
        _blocks.set(blocks[:-1])
        ok = True if error is None else self.verdict(error)
        self.after(block.ticket, ok, seconds=self._monotonic() - block.started)

    def verdict(self, error: BaseException) -> bool | None:
        if isinstance(error, Exception) and self._ignores(error):
            return True
        told = error.__cause__ if isinstance(error, Unavailable) and error.__cause__ else error
        failure = _driver_failure(told)
        return super().verdict(error) if failure is None else not failure.counts


class _Block(NamedTuple):
    """A `with breaker:` under way."""

    breaker: CircuitBreaker
    ticket: int
    started: float


_blocks: ContextVar[tuple[_Block, ...]] = ContextVar("katax_breaker_blocks", default=())
"""The blocks under way in this thread or task, the innermost last: one breaker serves many at once."""


def _ignoring(ignore: Ignore | None) -> Callable[[Exception], bool]:
    if ignore is None:
        return lambda _error: False
    if isinstance(ignore, type | tuple):
        types = ignore
        return lambda error: isinstance(error, types)
    return plain(ignore, "ignore")


class _Repeater(NamedTuple):
    """The settings of a retry, checked, and the loop."""

    policy: RetryPolicy
    delay_for: DelayFor | None
    should_retry: ShouldRetry
    is_unwanted: Callable[[Any], bool]
    on_retry: OnRetry
    clock: Clock

    def wrap(self, fn: Callable[P, T]) -> Callable[P, T]:
        plain(fn, "retry")

        @wraps(fn)
        def repeated(*args: P.args, **kwargs: P.kwargs) -> T:
            return self._run(lambda: fn(*args, **kwargs))

        return repeated

    def _run(self, fn: Callable[[], T]) -> T:
        repeats = Repeats(self.policy, self.clock, delay_for=self.delay_for)
        while True:
            try:
                with sole_owner():
                    value = completed(fn(), fn, "retry")
            except Exception as error:
                if (pause := self._pause(error, repeats)) is None:
                    raise
                failed: Exception = error
            else:
                if not self.is_unwanted(value) or (pause := repeats.pause()) is None:
                    return value
                failed = UnwantedResult(value)
            self.on_retry(repeats.failed, failed)
            del failed  # its traceback holds this frame
            self.clock.sleep(pause)

    def _pause(self, error: Exception, repeats: Repeats) -> float | None:
        if isinstance(error, _NEVER_REPEATED) or not self.should_retry(error):
            return None
        return repeats.pause(overloaded=_is_overload(error))


def _is_overload(error: BaseException) -> bool:
    failure = _driver_failure(error.__cause__ or error)
    overloaded = failure is not None and failure.kind is FailureKind.OVERLOADED
    return overloaded or isinstance(error, PoolTimeout)


def _driver_failure(error: BaseException) -> Failure | None:
    """The failure that a driver's error means; None for an error of no driver."""
    error = getattr(error, "orig", None) or error  # SQLAlchemy wraps the driver's error
    for base in type(error).__mro__:
        root = base.__module__.partition(".")[0]
        if root in _DRIVERS and root in sys.modules:
            failure = _classifier(_DRIVERS[root])(error)
            return None if failure.kind is FailureKind.UNKNOWN else failure
    return None


@cache
def _classifier(engine: EngineName) -> Callable[[BaseException], Failure]:
    from katax_cli.core.settings import ConnectionSettings
    from katax_cli.engines.registry import load

    return load(ConnectionSettings(name=engine, type=engine)).classify
