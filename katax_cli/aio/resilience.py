"""Repeating coroutine functions and breaking their circuits, by the same rules as plain ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from katax_cli import resilience
from katax_cli.core.resilience.retry import DelayFor, RetryPolicy
from katax_cli.core.text.duration import Duration
from katax_cli.engines.awaited.calls import call, wait_for
from katax_cli.resilience import OnRetry, ShouldRetry

P = ParamSpec("P")
T = TypeVar("T")
_DEFAULT = RetryPolicy()


async def with_retry(
    fn: Callable[[], Awaitable[T]],
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
) -> T:
    """Calls the coroutine function `fn` until it returns, at most `attempts` times; see `katax_cli.with_retry`.

    Calls through katax inside make one attempt each. A cancellation ends the wait and is not repeated.
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
    )
    return await repeated(fn)()


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
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Awaitable[T]]]:
    """Decorator form of `with_retry`: `@retry(attempts=5)`. Raises ValueError for settings that make no sense."""
    repeated = resilience.retry(
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
    )

    def decorated(fn: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        @wraps(fn)
        async def run(*args: P.args, **kwargs: P.kwargs) -> T:
            return await call(repeated(lambda: wait_for(fn(*args, **kwargs))))

        return run

    return decorated


class AsyncCircuitBreaker:
    """A `katax_cli.CircuitBreaker` for coroutine functions, which it may share with plain ones.

    `await breaker.execute(fn)` runs a call under it, `@breaker` every call of a coroutine function.
    """

    def __init__(self, breaker: resilience.CircuitBreaker) -> None:
        self.breaker = breaker

    async def execute(self, fn: Callable[[], Awaitable[T]]) -> T:
        """Runs `fn` and counts how it ended; raises BreakerOpen without running it when not let through."""
        return await call(self.breaker.execute, lambda: wait_for(fn()))

    def __call__(self, fn: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        """Decorator form of `execute`."""

        @wraps(fn)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            return await self.execute(lambda: fn(*args, **kwargs))

        return guarded
