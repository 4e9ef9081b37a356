"""Whole tables into SQLite; out of it they come by plain SELECT."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from katax_cli.engines.base import SqlEngine
from katax_cli.engines.sqlite.session import SqliteSession


class SqliteTransfer:
    """TransferSession."""

    def __init__(self, engine: SqlEngine) -> None:
        self._engine = engine
        self._held: dict[str, int] = {}

    def prepare(self, connection: SqliteSession) -> None:
        """Leaves the session as it is: SQLite has values in one form only."""

    def claim(self, connection: SqliteSession, name: str) -> bool:
        """A lock of the kernel's on a file beside the database, which ends with its process."""
        path = self._path(name)
        if path is None:
            return True
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The one who had it may have removed the file meanwhile.
            if os.path.samestat(os.fstat(file), os.stat(path)):
                self._held[name] = file
                return True
        os.close(file)
        return False

    def release(self, connection: SqliteSession, name: str) -> None:
        path, file = self._path(name), self._held.pop(name, None)
        if path is not None and file is not None:
            with suppress(OSError):
                os.unlink(path)
            os.close(file)

    def _path(self, name: str) -> str | None:
        path = self._engine.settings.path
        return None if path in (None, "", ":memory:") else f"{os.path.realpath(str(path))}.{name[:16]}.lock"

    def insert(self, connection: SqliteSession, into: str, rows: Sequence[Sequence[Any]], tail: str) -> int:
        marks = ", ".join("?" * len(rows[0]))
        return connection.run_many(f"INSERT INTO {into} VALUES ({marks}){tail}", rows, None)


create = SqliteTransfer
