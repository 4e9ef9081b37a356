"""Bounds the log of what clients do: the first lines of a kind, and then how many more there were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from logging import Filter, LogRecord, getLogger
from threading import Lock

from katax_cli.core.clock import SYSTEM, Clock

FIRST = 10
"""How many lines of a kind are written in each interval."""
SECONDS = 60.0
_COUNT = "%d more lines in %.0f s like: %s"
_LOGGERS = ("katax.ws", "katax.ws.engine")
_log = getLogger("katax.ws")


class _LoggedStatement:
    """The lines that one statement of the program logged since `began`."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.count = 0
        self.last = ""


class RepeatedLines(Filter):
    """Lets through the first lines of each statement that logs; `report` tells of the rest."""

    def __init__(self, *, clock: Clock = SYSTEM) -> None:
        super().__init__()
        self._clock = clock
        self._lock = Lock()
        self._kinds: dict[tuple[str, int], _LoggedStatement] = {}

    def filter(self, record: LogRecord) -> bool:
        if record.msg is _COUNT:
            return True
        with self._lock:
            place = (record.pathname, record.lineno)
            kind = self._kinds.setdefault(place, _LoggedStatement(self._clock.monotonic()))
            kind.count += 1
            if kind.count > FIRST:
                kind.last = record.getMessage()
            return kind.count <= FIRST

    def report(self, *, at_end: bool = False) -> None:
        """Logs how many lines were left out in the intervals that are over, at the end in all of them."""
        now = self._clock.monotonic()
        with self._lock:
            over = [place for place, kind in self._kinds.items() if at_end or now - kind.began >= SECONDS]
            ended = [self._kinds.pop(place) for place in over]
        for kind in ended:
            if kind.count > FIRST:
                _log.warning(_COUNT, kind.count - FIRST, now - kind.began, kind.last)


@contextmanager
def bounded_log() -> Iterator[RepeatedLines]:
    """Inside the block the lines of servers are bounded; `report` is due from time to time."""
    lines = RepeatedLines()
    for name in _LOGGERS:
        getLogger(name).addFilter(lines)
    try:
        yield lines
    finally:
        for name in _LOGGERS:
            getLogger(name).removeFilter(lines)
        lines.report(at_end=True)
