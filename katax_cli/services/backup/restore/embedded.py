"""A server of a drill's own: a SQLite file or an embedded Redis in a folder that is gone afterwards."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import gettempdir

from katax_cli.core.engine_names import EMBEDDED_ENGINES
from katax_cli.core.settings import EMBEDDED_FOLDER, ConnectionSettings
from katax_cli.errors import WrongEngine
from katax_cli.services.backup.spool import temporary_errors
from katax_cli.services.redis import embedded
from katax_cli.services.tables.scratch import is_abandoned, new_name

_START_SECONDS = 10.0
NAME = "embedded"


@contextmanager
def embedded_place(engine: str) -> Iterator[ConnectionSettings]:
    """Where a backup of `engine` can be restored to; ends with the block, and a Redis that serves it too.

    Removes those of killed drills first. Raises WrongEngine for an engine that has no such server,
    EmbeddedUnavailable without a redis-server.
    """
    if engine not in EMBEDDED_ENGINES:
        wanted_by = "db backups drill --embedded"
        raise WrongEngine(engine, "embedded server", wanted_by=wanted_by, works_on=EMBEDDED_ENGINES)
    with temporary_errors():
        remove_killed()
        home = Path(gettempdir()) / new_name("drill")
        home.mkdir(mode=0o700)
    try:
        if engine == "sqlite":
            yield ConnectionSettings(name=NAME, type="sqlite", path=str(home / "drill.db"))
        else:
            data = str(home / EMBEDDED_FOLDER)
            yield ConnectionSettings(
                name=NAME, type="redis", path=data, embedded=True, connect_timeout=_START_SECONDS
            )
    finally:
        _remove(home)


def remove_killed() -> list[str]:
    """Ends and removes what drills left that were killed; returns the names."""
    temporary = Path(gettempdir())
    left = [temporary / name for name in os.listdir(temporary) if is_abandoned(name, "drill")]
    mine = [home for home in left if _is_mine(home)]
    for home in mine:
        _remove(home)
    return [home.name for home in mine]


def _is_mine(home: Path) -> bool:
    with suppress(FileNotFoundError):  # another drill was faster
        return home.lstat().st_uid == os.geteuid()
    return False


def _remove(home: Path) -> None:
    embedded.stop(home)
    shutil.rmtree(home, ignore_errors=True)
