"""The end of a transfer whose server answers nothing: it has no other limit of time.

Slow is not silent. A commit of a large COPY or a sort before the first row may take hours, and nothing that the
transfer's own connection does tells them from a frozen server. So where nothing moved for a while, the address that
this connection is with is connected to anew, without a login, and a single byte proves that the server lives.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread
from types import TracebackType
from typing import Self

from katax_cli.core.clock import SYSTEM
from katax_cli.engines.base import GreetsAnew
from katax_cli.errors import KataxError, OutcomeUnknown, Unavailable
from katax_cli.services.databases.sql import SqlDatabase

_ASK_AFTER = 30.0
"""Seconds without a row after which the servers are asked whether they live."""
_ANSWER_WITHIN = 30.0
"""Seconds in which a server that lives says its first byte to a new connection, of which there are two."""
_ASK_AGAIN = 480.0
"""The most seconds between two questions, each of which waits twice as long as the one before: MySQL counts those who
leave without a login, and after `max_connect_errors` of them (100) refuses this host."""


class SilenceWatch:
    """Around a transfer between these databases; called with the number of rows done so far, which is passed on.

    Raises Unavailable, or OutcomeUnknown where a COMMIT was under way, in place of the error of the connection that it
    broke. `lasts` says what is done by then and how to go on.
    """

    def __init__(
        self, *databases: SqlDatabase, progress: Callable[[int], object], lasts: Callable[[], str]
    ) -> None:
        self._databases = [database for database in databases if isinstance(database.engine, GreetsAnew)]
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
        silent = self._silent.name
        reason = f"no answer for {_ANSWER_WITHIN:g} s, not even to a new connection; {self._lasts()}"
        if not isinstance(error, OutcomeUnknown):
            raise Unavailable(silent, reason) from error
        of_whom = "" if error.connection == silent else f"{silent!r} gave "
        raise OutcomeUnknown(error.connection, of_whom + reason) from error

    def __call__(self, count: int) -> None:
        self._moved_at = SYSTEM.monotonic()
        self._progress(count)

    def _watch(self) -> None:
        asked_at, pause = self._moved_at, _ASK_AFTER
        while not self._ended.wait(max(max(asked_at, self._moved_at) + pause - SYSTEM.monotonic(), 0.01)):
            if SYSTEM.monotonic() < max(asked_at, self._moved_at) + pause:
                continue
            moved_at = self._moved_at
            silent = next((database for database in self._databases if not self._answers(database)), None)
            asked_at, pause = SYSTEM.monotonic(), min(2 * pause, _ASK_AGAIN)
            if silent is not None and moved_at == self._moved_at and not self._ended.is_set():
                self._silent = silent
                # The others may be in a COMMIT, which they shall end.
                silent.interrupt_running()
                return

    def _answers(self, database: SqlDatabase) -> bool:
        """Asks twice: after this machine slept, the first try may have had no time, or no network yet."""
        return any(self._ended.is_set() or _answered(database) for _ in range(2))


def _answered(database: SqlDatabase) -> bool:
    engine = database.engine
    assert isinstance(engine, GreetsAnew), "no other is watched"
    return all(engine.greets(connection, _ANSWER_WITHIN) for connection in tuple(database.leases.running))
