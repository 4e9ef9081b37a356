"""The end of a backup or restore whose server answers nothing: a server's tool waits for a frozen one for ever."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from katax_cli.core.settings import ConnectionSettings
from katax_cli.engines.base import GreetsAnew
from katax_cli.errors import KataxError, Unavailable
from katax_cli.services.backup.work import StoppableWork
from katax_cli.services.calls.guard import Safety
from katax_cli.services.calls.silence import Silence, reason
from katax_cli.services.databases.database import open_bounded
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.tables.scratch import AnyDatabase, Open


class ServerSilence:
    """The watch over one server while `work` needs it; `moved` says that something came of it.

    A server that answers nothing ends the work, and the block raises Unavailable, which says `after` it how to go on.
    """

    def __init__(self, name: str, work: StoppableWork, *, after: str) -> None:
        self._name, self._work, self._after = name, work, after
        self._watch: Silence[bool] | None = None
        self._is_silent = False

    def moved(self) -> None:
        if self._watch is not None:
            self._watch.moved()

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
        watch = self._watch = Silence(lambda: None if watch.answered(greets) else True, self._end)
        watch.start()
        try:
            yield
        except KataxError as error:
            if self._is_silent:
                raise Unavailable(self._name, reason(self._after)) from error
            raise
        finally:
            watch.stop()

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

    def _end(self, _silent: bool) -> None:
        self._is_silent = True
        self._work.cut()
