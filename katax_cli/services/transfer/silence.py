"""The end of a transfer whose server answers nothing: it has no other limit of time.

Slow is not silent. A commit of a large COPY or a sort before the first row may take hours, and nothing that the
transfer's own connection does tells them from a frozen server. So where nothing moved for a while a new connection is
tried, and any answer to it (also that the server is full, or does not take the login) proves that the server lives.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread
from types import TracebackType
from typing import Self

from katax_cli.core.clock import SYSTEM
from katax_cli.core.resilience.failure import FailureKind
from katax_cli.errors import KataxError, OutcomeUnknown, Unavailable
from katax_cli.services.databases.database import classify_with, open_bounded
from katax_cli.services.databases.sql import SqlDatabase

_ASK_AFTER = 30.0
"""Seconds without a row after which the servers are asked whether they live."""
_ANSWER_WITHIN = 30.0
"""Seconds in which a server that lives answers one of several new connections."""
_PAUSE = 2.0
_NO_ANSWER = (FailureKind.UNREACHABLE, FailureKind.LOST, FailureKind.TIMED_OUT)


class SilenceWatch:
    """Around a transfer between these databases; called with the number of rows done so far, which is passed on.

    Raises Unavailable, or OutcomeUnknown where a COMMIT was under way, in place of the error of the connection that it
    broke. `lasts` says what is done by then and how to go on.
    """

    def __init__(
        self, *databases: SqlDatabase, progress: Callable[[int], object], lasts: Callable[[], str]
    ) -> None:
        self._databases = [database for database in databases if database.engine.name != "sqlite"]
        self._progress = progress
        self._lasts = lasts
        self._moved_at = SYSTEM.monotonic()
        self._ended = Event()
        self._silent: SqlDatabase | None = None

    def __enter__(self) -> Self:
        if self._databases:
            Thread(target=self._watch, name="katax-silence", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._silent is None or not isinstance(error, KataxError):
            return
        reason = f"no answer for {_ANSWER_WITHIN:g} s, not even to a new connection; {self._lasts()}"
        unknown = isinstance(error, OutcomeUnknown)
        raise (OutcomeUnknown if unknown else Unavailable)(self._silent.name, reason) from error

    def __call__(self, count: int) -> None:
        self._moved_at = SYSTEM.monotonic()
        self._progress(count)

    def _watch(self) -> None:
        asked_at = self._moved_at
        while not self._ended.wait(
            max(max(asked_at, self._moved_at) + _ASK_AFTER - SYSTEM.monotonic(), 0.01)
        ):
            if SYSTEM.monotonic() < max(asked_at, self._moved_at) + _ASK_AFTER:
                continue
            moved_at = self._moved_at
            silent = next((database for database in self._databases if not self._answers(database)), None)
            asked_at = SYSTEM.monotonic()
            if silent is not None and moved_at == self._moved_at and not self._ended.is_set():
                self._silent = silent
                for database in self._databases:
                    database.interrupt_running()
                return

    def _answers(self, database: SqlDatabase) -> bool:
        asked_at = SYSTEM.monotonic()
        while not _answered(database):
            left = asked_at + _ANSWER_WITHIN - SYSTEM.monotonic()
            if left <= 0:
                return False
            if self._ended.wait(min(_PAUSE, left)):
                return True
        return True


def _answered(database: SqlDatabase) -> bool:
    engine = database.engine
    try:
        engine.close(open_bounded(engine, None))
    except Exception as error:  # noqa: BLE001 - the drivers' own: its meaning decides
        return classify_with(engine)(error).kind not in _NO_ANSWER
    return True
