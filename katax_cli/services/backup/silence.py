"""The end of a backup or restore whose server answers nothing: a server's tool waits for a frozen one for ever.

Slow is not silent: an index or a sort may take hours. So where nothing moved for a while the server's address is
connected to anew, without a login, and a single byte proves that it lives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from katax_cli.core.clock import SYSTEM
from katax_cli.core.settings import ConnectionSettings
from katax_cli.engines.base import GreetsAnew
from katax_cli.errors import KataxError, Unavailable
from katax_cli.services.backup.work import StoppableWork
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.database import open_bounded
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.tables.scratch import AnyDatabase, Open

_ASK_AFTER = 30.0
"""Seconds in which nothing moved, after which the server is asked whether it lives."""
_ANSWER_WITHIN = 30.0
"""Seconds in which a server that lives says its first byte to a new connection, of which there are two: after this
machine slept, the first try may have had no time, or no network yet."""
_ASK_AGAIN = 480.0
"""The most seconds between two questions, each of which waits twice as long as the one before: MySQL counts those who
leave without a login, and after `max_connect_errors` of them (100) refuses this host."""


class ServerSilence:
    """The watch over one server while `work` needs it; `moved` says that something came of it.

    A server that answers nothing ends the work, and the block raises Unavailable, which says `after` it how to go on.
    """

    def __init__(self, name: str, work: StoppableWork, *, after: str) -> None:
        self._name, self._work, self._after = name, work, after
        self._moved_at = SYSTEM.monotonic()
        self._ended = Event()
        self._is_silent = False

    def moved(self) -> None:
        self._moved_at = SYSTEM.monotonic()

    def telling(self, told: Callable[[int], object]) -> Callable[[int], object]:
        """The same function, by whose calls it is known that something moved."""
        last: int | None = None

        def tell(count: int) -> object:
            nonlocal last
            if count != last:
                last = count
                self.moved()
            return told(count)

        return tell

    def opening(self, open_database: Open) -> Open:
        """The same function, whose databases lose their connections under way when the server is silent."""

        def opened(settings: ConnectionSettings) -> AnyDatabase:
            database = open_database(settings)
            if isinstance(database, SqlDatabase):
                self._work.cut_by(database.interrupt_running)
            return database

        return opened

    @contextmanager
    def watching(self, greets: Callable[[float], bool]) -> Iterator[None]:
        """`greets` is False when the server leaves a new connection without a word for so many seconds."""
        self.moved()
        Thread(target=self._watch, args=(greets,), name="katax-silence", daemon=True).start()
        try:
            yield
        except KataxError as error:
            if self._is_silent:
                reason = f"no answer for {_ANSWER_WITHIN:g} s, not even to a new connection; {self._after}"
                raise Unavailable(self._name, reason) from error
            raise
        finally:
            self._ended.set()

    @contextmanager
    def watching_server(self, database: Any) -> Iterator[None]:
        """Watches by a connection of its own; servers that greet nobody are not watched."""
        engine: Any = database.engine
        if not isinstance(database.engine, GreetsAnew):
            yield
            return
        self._work.cut_by(database.interrupt_running)
        with database.guard.translating(
            deadline=self._work.deadline, safety=Safety.READ, doing=self._work.name
        ):
            connection = open_bounded(engine, self._work.deadline.within(None))
        try:
            with self.watching(lambda seconds: engine.greets(connection, seconds)):
                yield
        finally:
            engine.close(connection)

    def _watch(self, greets: Callable[[float], bool]) -> None:
        asked_at, pause = self._moved_at, _ASK_AFTER
        while not self._ended.wait(max(max(asked_at, self._moved_at) + pause - SYSTEM.monotonic(), 0.01)):
            if SYSTEM.monotonic() < max(asked_at, self._moved_at) + pause:
                continue
            moved_at = self._moved_at
            lives = _lives(greets)
            asked_at, pause = SYSTEM.monotonic(), min(2 * pause, _ASK_AGAIN)
            if not lives and moved_at == self._moved_at and not self._ended.is_set():
                # Again, while it is silent: what began in this moment was not cut.
                self._is_silent, pause = True, _ASK_AFTER
                self._work.cut()


def _lives(greets: Callable[[float], bool]) -> bool:
    """Asks twice."""
    return any(greets(_ANSWER_WITHIN) for _ in range(2))
