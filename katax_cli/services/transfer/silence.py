"""The end of a transfer whose server answers nothing: it has no other limit of time."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from katax_cli.engines.base import GreetsAnew
from katax_cli.errors import KataxError, OutcomeUnknown, Unavailable
from katax_cli.services.calls.silence import Silence, reason
from katax_cli.services.databases.sql import SqlDatabase


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
        self._watch = Silence(self._find_silent, self._end)
        self._silent: SqlDatabase | None = None

    def __enter__(self) -> Self:
        if self._databases:
            self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.stop()
        if self._silent is None or not isinstance(error, KataxError):
            return
        silent, why = self._silent.name, reason(self._lasts())
        if not isinstance(error, OutcomeUnknown):
            raise Unavailable(silent, why) from error
        of_whom = "" if error.connection == silent else f"{silent!r} gave "
        raise OutcomeUnknown(error.connection, of_whom + why) from error

    def __call__(self, count: int) -> None:
        self._watch.moved()
        self._progress(count)

    def _find_silent(self) -> SqlDatabase | None:
        return next((each for each in self._databases if not self._lives(each)), None)

    def _lives(self, database: SqlDatabase) -> bool:
        engine = database.engine
        assert isinstance(engine, GreetsAnew), "no other is watched"
        return self._watch.answered(
            lambda seconds: all(engine.greets(each, seconds) for each in tuple(database.leases.running))
        )

    def _end(self, silent: SqlDatabase) -> None:
        self._silent = self._silent or silent
        # The others may be in a COMMIT, which they shall end.
        silent.interrupt_running()
