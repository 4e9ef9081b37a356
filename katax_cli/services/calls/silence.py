"""Telling a server that answers nothing from a slow one, where a call has no other limit of time.

Slow is not silent: a commit of a large COPY, an index or a sort may take hours, and nothing that its own connection
does tells it from a frozen server. So where nothing moved for a while the server's address is connected to anew,
without a login, and a single byte proves that it lives.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread
from typing import Generic, TypeVar

from katax_cli.core.clock import SYSTEM

T = TypeVar("T")

ASK_AFTER = 30.0
"""Seconds in which nothing moved, after which the servers are asked whether they live."""
ANSWER_WITHIN = 30.0
"""Seconds in which a server that lives says its first byte to a new connection, of which there are two."""
ASK_AGAIN = 480.0
"""The most seconds between two questions, each of which waits twice as long as the one before: MySQL counts those who
leave without a login, and after `max_connect_errors` of them (100) refuses this host."""


class Silence(Generic[T]):
    """A thread that asks `find()` for a silent server where nothing `moved`, and calls `end(server)` with it.

    It does so again while the server is silent: what began in the moment of the first call was not ended.
    """

    def __init__(self, find: Callable[[], T | None], end: Callable[[T], object]) -> None:
        self._find, self._end = find, end
        self._moved_at = SYSTEM.monotonic()
        self._stopped = Event()

    def start(self) -> None:
        """Begins to watch."""
        self.moved()
        Thread(target=self._watch, name="katax-silence", daemon=True).start()

    def moved(self) -> None:
        """Something came of the work."""
        self._moved_at = SYSTEM.monotonic()

    def stop(self) -> None:
        """Ends nothing any more."""
        self._stopped.set()

    def answered(self, greets: Callable[[float], bool]) -> bool:
        """Asks twice: after this machine slept, the first try may have had no time, or no network yet."""
        return any(self._stopped.is_set() or greets(ANSWER_WITHIN) for _ in range(2))

    def _watch(self) -> None:
        asked_at, pause = self._moved_at, ASK_AFTER
        while not self._stopped.wait(max(max(asked_at, self._moved_at) + pause - SYSTEM.monotonic(), 0.01)):
            if SYSTEM.monotonic() < max(asked_at, self._moved_at) + pause:
                continue
            moved_at = self._moved_at
            silent = self._find()
            asked_at, pause = SYSTEM.monotonic(), min(2 * pause, ASK_AGAIN)
            if silent is not None and moved_at == self._moved_at and not self._stopped.is_set():
                pause = ASK_AFTER
                self._end(silent)


def reason(after: str) -> str:
    """The words for a server that was found silent, and `after` them how to go on."""
    return f"no answer for {ANSWER_WITHIN:g} s, not even to a new connection; {after}"
