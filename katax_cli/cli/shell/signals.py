"""Signals that end a service of the command line."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any

from katax_cli.core.resilience.deadline import Deadline

_LOOK_EVERY = 0.5
SignalHandler = Callable[[int, FrameType | None], Any]


class Ending:
    """Records TERM and INT; the second signal exits at once with 128 and its number."""

    def __init__(self) -> None:
        self._seen = False
        # Takes no lock that the interrupted code may hold; SimpleQueue is made for this.
        self._arrived: SimpleQueue[int] = SimpleQueue()

    def wait(self, seconds: float | None = None) -> bool:
        """Waits for the first signal, or `seconds`; True when it has arrived."""
        deadline = Deadline(seconds)
        while not self._seen and not deadline.expired:
            # A signal that the system handed to another thread does not wake this one by itself.
            with suppress(Empty):
                self._arrived.get(timeout=deadline.within(_LOOK_EVERY))
        return self._seen

    def take(self, number: int, _frame: FrameType | None) -> None:
        """The handler."""
        if self._seen:
            os._exit(128 + number)
        self._seen = True
        self._arrived.put(number)


@contextmanager
def ended_by_signals() -> Iterator[Ending]:
    """Takes TERM and INT; as before afterwards."""
    ending = Ending()
    with handled({signal.SIGTERM: ending.take, signal.SIGINT: ending.take}):
        yield ending


@contextmanager
def handled(handlers: Mapping[signal.Signals, SignalHandler]) -> Iterator[None]:
    """Sets handlers of signals; the earlier ones are back afterwards."""
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
