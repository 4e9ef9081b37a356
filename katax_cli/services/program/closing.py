"""Closing each kind of thing that a program opens: databases, engines, pools, clients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from inspect import signature
from typing import Any, Protocol, TypeGuard

from katax_cli.core.callables import is_async
from katax_cli.core.clock import SYSTEM
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.resilience.shutdown import Shutdown, Stage, Step
from katax_cli.services.calls.left_behind import start
from katax_cli.services.databases.database import Database
from katax_cli.services.program.pool_metrics import in_use

_WAYS = ("dispose", "close", "shutdown", "stop", "disconnect")
"""How things are ended, the first that they have: SQLAlchemy's engines only know `dispose`."""
_ASK_EVERY = 0.02


class Staged(Protocol):
    """Knows the order in which its parts end, and ends once for all callers."""

    ending: Shutdown

    def shutdown_stages(self) -> Sequence[Stage]: ...


def is_staged(target: object) -> TypeGuard[Staged]:
    """By its class: an object may make up whatever attribute it is asked for, as pymongo's clients do."""
    return hasattr(type(target), "shutdown_stages")


def stages_of(target: object) -> list[Stage]:
    """The stages of closing a target: a container, a database, anything with close() or dispose(), or several.

    Raises TypeError for what cannot be ended.
    """
    targets = list(target) if isinstance(target, list | tuple | set | frozenset) else [target]
    plain = [step_for(each) for each in targets if not is_staged(each)]
    staged = [stage for each in targets if is_staged(each) for stage in each.shutdown_stages()]
    return [*staged, *([lambda: plain] if plain else [])]


def step_for(target: object) -> Step:
    """The step that ends one thing after what is in use came back. Raises TypeError for what has no end."""
    name = getattr(target, "name", None)
    if isinstance(target, Database):
        return Step(target.name, closer_of(target), lambda: _of(target, target.left_open()))
    return Step(name if isinstance(name, str) else type(target).__name__, closer_of(target))


def closer_of(target: object) -> Callable[[float], Iterable[str]]:
    if isinstance(target, Database):
        return lambda seconds: _of(target, target.close(timeout=seconds))
    for way in _WAYS:
        close = getattr(target, way, None)
        if not callable(close):
            continue
        if is_async(close):
            raise TypeError(
                f"a {type(target).__name__} is closed on its event loop, which katax does not run; "
                f"await its {way}() in a hook of the program's own"
            )
        if _is_bound_to_a_thread(target):
            raise TypeError(
                f"a {type(target).__name__} of sqlite3 can be closed by its own thread only; open it with "
                "check_same_thread=False, or use a database of katax"
            )
        return partial(_close_other, target, close)
    raise TypeError(f"a {type(target).__name__} cannot be shut down; it has none of {', '.join(_WAYS)}()")


def _is_bound_to_a_thread(target: object) -> bool:
    """True for a sqlite3 connection that refuses every thread but the one that opened it."""
    if not any(
        (kind.__module__, kind.__name__) == ("sqlite3", "Connection") for kind in type(target).__mro__
    ):
        return False
    cursor = start("katax-ask-thread", getattr(target, "cursor"))  # noqa: B009 - known by its name only
    cursor.ended(None)
    return type(cursor.outcome).__name__ == "ProgrammingError" and "thread" in str(cursor.outcome)


def _of(database: Database, left: Iterable[str]) -> list[str]:
    return [f"{database.name}: {each}" for each in left]


def _close_other(target: object, close: Callable[..., Any], seconds: float) -> Iterable[str]:
    deadline = Deadline(seconds)
    active = _drained(target, deadline)
    close(**({"timeout": deadline.remaining()} if _takes_timeout(close) else {}))
    return [f"{type(target).__name__}: {active} connections in use"] if active else []


def _drained(target: object, deadline: Deadline) -> int:
    """Waits until nothing of a pool is in use; how many connections still are."""
    while (active := in_use(target)) and not deadline.expired:
        SYSTEM.sleep(min(_ASK_EVERY, deadline.remaining()))
    return active


def _takes_timeout(close: Callable[..., Any]) -> bool:
    try:
        return "timeout" in signature(close).parameters
    except ValueError:  # written in C
        return False
