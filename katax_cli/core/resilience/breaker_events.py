"""Changes of a breaker's state and of its callers, passed to listeners outside of its lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from katax_cli.core.callables import plain

if TYPE_CHECKING:
    from katax_cli.errors import BreakerOpen
    from katax_cli.snapshot import BreakerState

OnStateChange = Callable[["BreakerState", "BreakerState"], None]
OnCallNotPermitted = Callable[["BreakerOpen"], None]


class BreakerEvents:
    """Calls listeners with `(new, old)` in the order of the changes, and with refusals; logs an exception in one.

    Changes are noted under the breaker's lock.
    """

    __slots__ = ("_listeners", "_name", "_of_refusals", "_untold")

    def __init__(self, name: str, listener: OnStateChange | None) -> None:
        self._name = name
        self._listeners: tuple[OnStateChange, ...] = ()
        self._of_refusals: tuple[OnCallNotPermitted, ...] = ()
        self._untold: deque[tuple[BreakerState, BreakerState]] = deque()
        if listener is not None:
            self.listen(listener)

    def listen(self, listener: OnStateChange) -> Callable[[], None]:
        self._listeners = (*self._listeners, plain(listener, "on_state_change()"))
        return lambda: self._remove(listener)

    def _remove(self, listener: OnStateChange) -> None:
        self._listeners = tuple(kept for kept in self._listeners if kept is not listener)

    def listen_to_refusals(self, listener: OnCallNotPermitted) -> Callable[[], None]:
        self._of_refusals = (*self._of_refusals, plain(listener, "on_call_not_permitted()"))

        def remove() -> None:
            self._of_refusals = tuple(kept for kept in self._of_refusals if kept is not listener)

        return remove

    def refused(self, error: BreakerOpen) -> None:
        for listener in self._of_refusals:
            self._call("on_call_not_permitted", listener, error)

    def note(self, new: BreakerState, old: BreakerState) -> None:
        self._untold.append((new, old))

    def tell(self) -> None:
        while self._untold:
            try:
                new, old = self._untold.popleft()
            except IndexError:  # another thread calls its listeners
                return
            for listener in self._listeners:
                self._call("on_state_change", listener, new, old)

    def _call(self, event: str, listener: Callable[..., None], *args: object) -> None:
        try:
            listener(*args)
        except Exception:  # the program's function; it may not fail the call that it is called for
            from logging import getLogger

            getLogger("katax").exception("%s of breaker %r failed", event, self._name)
