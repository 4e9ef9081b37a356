"""Calls in daemon threads that can be left behind: never joined, awaited for a limited time only."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread
from typing import Any

from katax_cli.core.clock import SYSTEM


class Running:
    """A call under way; once `ended`, `outcome` is its result, or its error as a value."""

    def __init__(self) -> None:
        self.started = SYSTEM.monotonic()
        self.outcome: Any = None
        self._ended = Event()

    def ended(self, seconds: float | None) -> bool:
        """Waits up to `seconds` for the end; True when it came."""
        return self._ended.wait(seconds)

    def run(self, call: Callable[[], Any]) -> None:
        try:
            self.outcome = call()
        except BaseException as error:  # noqa: BLE001 - it is handed to whoever waits
            self.outcome = error
        self._ended.set()


def start(name: str, call: Callable[[], Any]) -> Running:
    """Starts `call` in a daemon thread called `name`."""
    running = Running()
    Thread(target=running.run, args=(call,), name=name, daemon=True).start()
    return running
