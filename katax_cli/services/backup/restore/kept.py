"""Databases whose place a restored one took: noted in the folder of the backups, dropped by the next prune."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import cast

from katax_cli.core.settings import ConnectionSettings
from katax_cli.core.sql import quote_identifier
from katax_cli.errors import BackupError
from katax_cli.services.backup.manifest import sync_folder
from katax_cli.services.backup.restore.destination import FOREVER, OLD, moment
from katax_cli.services.backup.store.base import KeptDatabase
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.tables.scratch import Open, administrator, is_file, sql_of

_NOTE = ".kept-"


def note_kept(directory: Path, connection: str, name: str) -> None:
    """Notes that a database is kept until the next prune, before it loses its name: whatever ends the work then, there
    is a note of it. Raises BackupError when it cannot be noted."""
    path = directory / f"{_NOTE}{moment()}-{token_hex(3)}.json"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            json.dump({"connection": connection, "name": name}, file)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(directory)
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        raise BackupError(
            f"nothing is replaced: that the old database is kept as {name!r} cannot be noted in {str(directory)!r}: "
            f"{error.strerror}"
        ) from error


def kept_databases(directory: Path) -> list[KeptDatabase]:
    """Those that are noted in a folder of backups, the oldest first; notes that cannot be read are left alone."""
    kept = []
    for note in sorted(directory.glob(f"{_NOTE}*.json")):
        with suppress(OSError, ValueError, TypeError, KeyError):
            said = json.loads(note.read_text(encoding="utf-8"))
            connection, name = str(said["connection"]), str(said["name"])
            if OLD in name:
                kept.append(KeptDatabase(str(note), connection, name))
    return kept


def drop_kept(kept: KeptDatabase, settings: ConnectionSettings, open_database: Open) -> bool:
    """Drops one; False when there is none, as after a restore that was killed before it took the place."""
    with open_database(settings) as database:
        if isinstance(database, SqlDatabase) and is_file(database):
            was_there = os.path.lexists(kept.name)
            for end in ("", "-wal", "-shm", "-journal"):
                with suppress(FileNotFoundError):
                    os.remove(kept.name + end)
        else:
            with administrator(database, open_database) as server:
                sql = sql_of(cast("SqlDatabase", server))
                was_there = bool(cast("SqlDatabase", server).run(sql.exists, [kept.name]).rows)
                quoted = quote_identifier(kept.name, cast("SqlDatabase", server).dialect)
                cast("SqlDatabase", server).execute(sql.drop.format(name=quoted), timeout=FOREVER)
    return was_there
