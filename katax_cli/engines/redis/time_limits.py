"""Passes the caller's budget of time to redis-py, which knows timeouts of connections only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Final


class _Unlimited:
    """Marks that no limit was given; None would mean: no limit at all."""


_UNSET: Final = _Unlimited()
# A socket timeout of 0 would mean: do not wait at all, and fail in another way.
_SHORTEST = 0.001
_limit: ContextVar[float | _Unlimited | None] = ContextVar("redis_limit", default=_UNSET)


def limited(timeout: float | None) -> AbstractContextManager[None]:
    """Within it, each answer and each wait for a connection takes `timeout` seconds at most (None: no limit).

    Holds for the current thread, and for all that a client does: commands, pipelines, scripts.
    """
    return _Limited(timeout)


class _Limited:
    __slots__ = ("_timeout", "_token")

    def __init__(self, timeout: float | None) -> None:
        self._timeout = None if timeout is None else max(timeout, _SHORTEST)

    def __enter__(self) -> None:
        self._token = _limit.set(self._timeout)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        _limit.reset(self._token)


@contextmanager
def unlimited() -> Iterator[None]:
    """Within it, connections have the time that they were made with."""
    token = _limit.set(_UNSET)
    try:
        yield
    finally:
        _limit.reset(token)


def spend(seconds: float) -> None:
    """Takes what a wait for a connection took from the limit around us: the answer gets the rest."""
    limit = _limit.get()
    if limit is not None and not isinstance(limit, _Unlimited):
        _limit.set(max(limit - seconds, _SHORTEST))


def answer_within(default: float | None) -> float | None:
    """Seconds to wait for an answer: the limit around us, else the connection's own."""
    limit = _limit.get()
    return default if isinstance(limit, _Unlimited) else limit


def at_most(default: float | None) -> float | None:
    """The shorter of the limit around us and `default` seconds."""
    limit = answer_within(None)
    if limit is None or default is None:
        return default if limit is None else limit
    return min(limit, default)
