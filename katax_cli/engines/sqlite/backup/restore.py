"""The identity of a SQLite file, and the room beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from katax_cli.engines.base import SqlEngine
from katax_cli.engines.parts import EnginePart
from katax_cli.engines.restores import Space
from katax_cli.engines.sqlite.backup.dump import place_of


class SqliteRestore(EnginePart[SqlEngine]):
    """A file is a server of its own."""

    def server_id(self, connection: Any) -> str:
        return f"sqlite:{place_of(Path(str(self._engine.settings.path)).absolute())}"

    def space(self, connection: Any, database: str) -> Space:
        path = os.path.abspath(str(self._engine.settings.path))
        found = os.statvfs(os.path.dirname(path))
        used = os.path.getsize(path) if os.path.exists(path) else 0
        return Space(found.f_bavail * found.f_frsize, used)


create = SqliteRestore
