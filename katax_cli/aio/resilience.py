"""Repeating coroutine functions and breaking their circuits, by the same rules as plain ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from katax_cli import resilience
from katax_cli.engines.awaited.calls import call, wait_for

P = ParamSpec("P")
Options = ParamSpec("Options")
T = TypeVar("T")


class _Decorator(Protocol):
    def __call__(self, fn: Callable[P, Awaitable[T]], /) -> Callable[P, Coroutine[Any, Any, T]]: ...


def _of_coroutines(decorator: Callable[Options, Any]) -> Callable[Options, _Decorator]:
    """A decorator with options, such as `resilience.retry`, for coroutine functions."""

    @wraps(decorator)
    def with_options(*args: Options.args, **options: Options.kwargs) -> _Decorator:
        decorate = decorator(*args, **options)

        def decorated(fn: Callable[P, Awaitable[T]], /) -> Callable[P, Coroutine[Any, Any, T]]:
            @wraps(fn)
            async def run(*args: P.args, **kwargs: P.kwargs) -> T:
                return await call(decorate(lambda: wait_for(fn(*args, **kwargs))))

            return run

        return decorated

    return with_options


def _on_coroutines(
    repeated: Callable[Concatenate[Callable[[], T], Options], T],
) -> Callable[Concatenate[Callable[[], Awaitable[T]], Options], Coroutine[Any, Any, T]]:
    """A function that calls another one, such as `resilience.with_retry`, for coroutine functions."""

    @wraps(repeated)
    async def run(fn: Callable[[], Awaitable[T]], *args: Options.args, **options: Options.kwargs) -> T:
        return await call(repeated, lambda: wait_for(fn()), *args, **options)

    return run  # type: ignore[return-value]  # Concatenate has no names, and `fn` may be given by its own


with_retry = _on_coroutines(resilience.with_retry)
"""`katax_cli.with_retry` of a coroutine function. A cancellation ends the wait and is not repeated."""

retry = _of_coroutines(resilience.retry)
"""`katax_cli.retry` of a coroutine function: `@retry(attempts=5)`."""


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
