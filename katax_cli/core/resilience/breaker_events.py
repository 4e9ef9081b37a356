"""The changes of a breaker's state, noted under its lock and passed to listeners outside of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from katax_cli.snapshot import BreakerState

OnStateChange = Callable[["BreakerState", "BreakerState"], None]


class BreakerEvents:
    """Calls listeners with `(new, old)` in the order of the changes; logs an exception in one."""

    __slots__ = ("_listeners", "_name", "_untold")

    def __init__(self, name: str, listener: OnStateChange | None) -> None:
        self._name = name
        self._listeners: tuple[OnStateChange, ...] = () if listener is None else (listener,)
        self._untold: deque[tuple[BreakerState, BreakerState]] = deque()

    def listen(self, listener: OnStateChange) -> Callable[[], None]:
        self._listeners = (*self._listeners, listener)
        return lambda: self._remove(listener)

    def _remove(self, listener: OnStateChange) -> None:
        self._listeners = tuple(kept for kept in self._listeners if kept is not listener)

    def note(self, new: BreakerState, old: BreakerState) -> None:
        self._untold.append((new, old))

    def tell(self) -> None:
        while self._untold:
            try:
                new, old = self._untold.popleft()
            except IndexError:  # another thread tells it
                return
            for listener in self._listeners:
                self._call(listener, new, old)

    def _call(self, listener: OnStateChange, new: BreakerState, old: BreakerState) -> None:
        try:
            listener(new, old)
        except Exception:  # the program's function; it may not fail the call that it is told of
            from logging import getLogger

            getLogger("katax").exception("on_state_change of breaker %r failed", self._name)
