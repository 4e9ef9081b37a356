"""Breakers as calls see them."""

from katax_cli.core.resilience.breaker import CallBreaker
from katax_cli.snapshot import BreakerState


def fail(breaker: CallBreaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.after(breaker.before(), ok=False)


def succeed(breaker: CallBreaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.after(breaker.before(), ok=True)


def state(breaker: CallBreaker) -> BreakerState:
    return breaker.get_state().state
