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
from katax_cli.core.text.duration import FOREVER
from katax_cli.errors import BackupError
from katax_cli.services.backup.folder import moment
from katax_cli.services.backup.manifest import sync
from katax_cli.services.backup.restore.destination import OLD
from katax_cli.services.backup.store.base import KeptDatabase
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.tables import lifetime
from katax_cli.services.tables.scratch import Open, administrator, is_file, sql_of

NOTE = ".kept-"


def new_note(connection: str, name: str) -> tuple[str, bytes]:
    """The name and the contents of a new note, in whatever place."""
    said = {"connection": connection, "name": name}
    return f"{NOTE}{moment()}-{token_hex(3)}.json", json.dumps(said).encode()


def kept_by(note: str, contents: bytes) -> KeptDatabase | None:
    """The database that a note names; None when it cannot be read."""
    with suppress(ValueError, TypeError, KeyError):
        said = json.loads(contents)
        kept = KeptDatabase(note, str(said["connection"]), str(said["name"]))
        return kept if OLD in kept.name else None
    return None


def note_kept(directory: Path, connection: str, name: str) -> None:
    """Notes that a database is kept until the next prune, before it loses its name: whatever ends the work then, there
    is a note of it. Raises BackupError when it cannot be noted."""
    note, contents = new_note(connection, name)
    path = directory / note
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        sync(directory)
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
    for note in sorted(directory.glob(f"{NOTE}*.json")):
        with suppress(OSError):
            kept.append(kept_by(str(note), note.read_bytes()))
    return [one for one in kept if one is not None]


def drop_kept(kept: KeptDatabase, settings: ConnectionSettings, open_database: Open) -> bool:
    """Drops one; False when there is none, as after a restore that was killed before it took the place."""
    with open_database(settings) as database:
        if isinstance(database, SqlDatabase) and is_file(database):
            was_there = os.path.lexists(kept.name)
            lifetime.remove_file(kept.name)
        else:
            with administrator(database, open_database) as server:
                sql = sql_of(cast("SqlDatabase", server))
                was_there = lifetime.is_listed(cast("SqlDatabase", server), kept.name)
                quoted = quote_identifier(kept.name, cast("SqlDatabase", server).dialect)
                cast("SqlDatabase", server).execute(sql.drop.format(name=quoted), timeout=FOREVER)
    return was_there
