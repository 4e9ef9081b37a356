"""Names that a server knows, for completion: asked for in threads, and awaited for half a second at most."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from katax_cli.core.clock import SYSTEM
from katax_cli.errors import KataxError
from katax_cli.services.calls.left_behind import Running, start

if TYPE_CHECKING:
    from katax_cli.services.databases.clients import RedisDatabase
    from katax_cli.services.databases.database import Database
    from katax_cli.services.databases.mongodb import MongoDatabase
    from katax_cli.services.databases.sql import SqlDatabase

MOST = 500
"""Names of one kind that are kept."""
_MOST_KINDS = 200
_WAIT_SECONDS = 0.5
_ASKING_SECONDS = 3.0
_FRESH_SECONDS = 30.0


class _Known(NamedTuple):
    names: list[str]
    at: float


class RememberedNames:
    """Names by what they are of; each kind is asked for by one thread at a time, on connections of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = Lock()
        self._known: dict[tuple[str, ...], _Known] = {}
        self._asking: dict[tuple[str, ...], Running] = {}

    def tables(self) -> list[str]:
        """Tables, views or collections."""
        database: SqlDatabase | MongoDatabase = self._database  # type: ignore[assignment]
        return self._ask(
            ("tables",), lambda: (table.name for table in database.tables(timeout=_ASKING_SECONDS))
        )

    def columns(self, table: str) -> list[str]:
        """The columns of a table, the fields seen in a collection."""
        database: SqlDatabase | MongoDatabase = self._database  # type: ignore[assignment]

        def columns() -> Iterable[str]:
            described = database.describe(table, timeout=_ASKING_SECONDS)
            return (column.name for column in described.columns) if described else ()

        return self._ask(("columns", table), columns)

    def keys(self, beginning: str) -> list[str]:
        """Some of the keys that begin so."""
        from katax_cli.services.redis.keyspace import Keyspace

        database: RedisDatabase = self._database  # type: ignore[assignment]
        return self._ask(
            ("keys", beginning),
            lambda: Keyspace(database.within(_ASKING_SECONDS)).beginning_with(beginning),
        )

    def commands(self) -> list[str]:
        """The commands of a Redis server."""
        database: RedisDatabase = self._database  # type: ignore[assignment]

        def commands() -> Iterable[str]:
            entries = database.redis("COMMAND", timeout=_ASKING_SECONDS)
            return sorted(entry[0].decode().upper() for entry in entries)

        return self._ask(("commands",), commands)

    def forget(self) -> None:
        """Asks again for everything when it is next wanted: a statement may have changed it."""
        with self._lock:
            self._known = {key: _Known(known.names, -_FRESH_SECONDS) for key, known in self._known.items()}

    def _ask(self, key: tuple[str, ...], question: Callable[[], Iterable[str]]) -> list[str]:
        with self._lock:
            known = self._known.get(key)
            if known is not None and SYSTEM.monotonic() - known.at < _FRESH_SECONDS:
                return known.names
            asking = self._asking.get(key)
            if asking is None:
                asking = self._asking[key] = start(
                    f"katax-names-{self._database.name}", lambda: self._fill(key, question)
                )
        asking.ended(_WAIT_SECONDS)
        with self._lock:
            known = self._known.get(key)
            return known.names if known is not None else []

    def _fill(self, key: tuple[str, ...], question: Callable[[], Iterable[str]]) -> None:
        names: list[str] = []
        try:
            # What came before the time was up, or before the server said no, is better than nothing.
            with suppress(KataxError):
                for name in islice(question(), MOST):
                    names.append(name)
        finally:
            with self._lock:
                if len(self._known) >= _MOST_KINDS:
                    self._known.clear()
                self._known[key] = _Known(sorted(set(names)), SYSTEM.monotonic())
                self._asking.pop(key, None)
