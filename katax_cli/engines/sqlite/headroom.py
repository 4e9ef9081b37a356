"""The write access to a SQLite file, and its limited resources."""

from __future__ import annotations

import os
import shutil

from katax_cli.engines.base import SqlEngine
from katax_cli.engines.parts import EnginePart
from katax_cli.engines.sqlite.session import SqliteSession
from katax_cli.snapshot import Headroom, ServerStanding


class SqliteHeadroom(EnginePart[SqlEngine]):
    """ReportsHeadroom. A database in memory has no known limits."""

    def standing(self, connection: SqliteSession, timeout: float | None = None) -> ServerStanding:
        """A file has no primary; SQLite writes beside it too, so the folder counts."""
        path = self._path
        if path is None:
            return ServerStanding("memory", writable=True)
        locked = next((each for each in (path, os.path.dirname(path)) if not os.access(each, os.W_OK)), None)
        return ServerStanding(
            "file", locked is None, None, None if locked is None else f"{locked} is not writable"
        )

    def headroom(self, connection: SqliteSession, timeout: float | None = None) -> list[Headroom]:
        """The write-ahead log, which grows while a reader holds a snapshot, and the disk."""
        path = self._path
        if path is None:
            return []
        log, disk = f"{path}-wal", shutil.disk_usage(os.path.dirname(path))
        size = os.path.getsize(log) if os.path.exists(log) else 0
        return [
            Headroom("wal", size, None, "bytes"),
            Headroom("disk", disk.total - disk.free, disk.total, "bytes"),
        ]

    @property
    def _path(self) -> str | None:
        path = self._engine.settings.path
        return None if path is None or path == ":memory:" else os.path.abspath(path)


create = SqliteHeadroom
