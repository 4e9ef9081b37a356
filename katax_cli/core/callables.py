"""Functions that katax is given: called on its threads, so a coroutine function would be created and never run."""

from __future__ import annotations

import functools
from collections.abc import Callable
from inspect import isasyncgenfunction, iscoroutine, iscoroutinefunction
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def plain(fn: F, taken_by: str) -> F:
    """Returns `fn`. Raises TypeError for a coroutine function, which `taken_by` would never run."""
    if is_async(fn):
        raise TypeError(_refusal(fn, taken_by))
    return fn


def completed(value: T, fn: object, taken_by: str) -> T:
    """Returns what `fn` returned. Raises TypeError for a coroutine, as a lambda around an async call makes one."""
    if iscoroutine(value):
        value.close()
        raise TypeError(_refusal(fn, taken_by))
    return value


def is_async(fn: object) -> bool:
    """True for `async def`, also behind functools.partial, a bound method or `__call__`."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    call = getattr(type(fn), "__call__", None)  # noqa: B004 - the function behind it is looked at, not asked for
    return any(iscoroutinefunction(one) or isasyncgenfunction(one) for one in (fn, call))


def _refusal(fn: object, taken_by: str) -> str:
    name = getattr(fn, "__qualname__", type(fn).__name__).rpartition("<locals>.")[2]
    return f"{name!r} is a coroutine function, which {taken_by} never runs; give it a plain function"
