"""Listeners of one connection's events."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Lock
from typing import Any, Literal, get_args

from katax_cli.core.callables import completed, plain
from katax_cli.errors import unknown_name

EventName = Literal["query", "slow_query", "call", "connection_error", "breaker"]
EVENTS: tuple[EventName, ...] = get_args(EventName)

_log = logging.getLogger("katax.events")


class Events:
    """Calls listeners in the order in which they were added; one that raises is logged and does no harm."""

    __slots__ = ("_changing", "_listeners", "are_heard")

    def __init__(self) -> None:
        self._changing = Lock()
        self._listeners: dict[str, tuple[Callable[..., Any], ...]] = {}
        self.are_heard = False
        """True while anybody listens to any of them."""

    def on(self, event: EventName, listener: Callable[..., Any]) -> Callable[[], None]:
        """Adds a listener; returns what removes it.

        Raises ValueError for an unknown event, TypeError for a coroutine function.
        """
        if event not in EVENTS:
            raise ValueError(unknown_name("event", event, EVENTS, "events"))
        plain(listener, f"on({event!r})")
        with self._changing:
            self._listeners[event] = (*self._listeners.get(event, ()), listener)
            self.are_heard = True
        return lambda: self._remove(event, listener)

    def _remove(self, event: EventName, listener: Callable[..., Any]) -> None:
        with self._changing:
            kept = tuple(one for one in self._listeners.get(event, ()) if one is not listener)
            self._listeners[event] = kept
            self.are_heard = any(self._listeners.values())

    def wants(self, event: EventName) -> bool:
        return bool(self._listeners.get(event))

    def emit(self, event: EventName, *facts: object) -> None:
        for listener in self._listeners.get(event, ()):
            try:
                completed(listener(*facts), listener, f"on({event!r})")
            except Exception:  # noqa: BLE001 - a listener is foreign code: it may not break the call that it watches
                _log.exception("a listener of %r failed", event)
