"""The operations of a place of backups, wherever it is, for commands and programs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from math import inf
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from katax_cli.services.backup.manifest import Manifest, RestoreDrill
from katax_cli.services.backup.retention import started


class CatalogEntry(NamedTuple):
    """One backup, in its folder or at its URL; `manifest` is None, and `reason` says why, of what is none."""

    path: Path | str
    state: Literal["complete", "damaged", "being made", "leftover"]
    manifest: Manifest | None = None
    reason: str | None = None

    @property
    def name(self) -> str:
        return str(self.path).rpartition("/")[2]


def newest_first(entry: CatalogEntry) -> float:
    """Sorts backups, those without a manifest last."""
    return -started(entry.manifest).timestamp() if entry.manifest else inf


class KeptDatabase(NamedTuple):
    """An old database: its name (SQLite: file) on the server of a connection, and the note that says so."""

    note: str
    connection: str
    name: str


class StoredBackup(Protocol):
    """One backup of a store."""

    @property
    def name(self) -> str: ...

    def manifest(self) -> Manifest:
        """The checked manifest; no other file is looked at. Raises BackupDamaged."""
        ...

    def verified(self) -> Manifest:
        """The manifest after every byte was read, and decrypted where the store has an identity.

        Raises BackupDamaged with all reasons.
        """
        ...

    def fetched(self) -> AbstractContextManager[Path]:
        """Its files in a folder of this machine, decrypted; a copy is private, and gone afterwards.

        Raises BackupDamaged for one that is not whole, ConfigError without the identity that decrypts it.
        """
        ...

    def stamp(self, drill: RestoreDrill) -> Manifest:
        """Adds a drill to its manifest."""
        ...


class BackupStore(Protocol):
    """A folder or a URL that holds backups. A name in it is that of a complete backup, at every moment."""

    @property
    def location(self) -> str:
        """The folder or the URL, for people."""
        ...

    def new_folder(self, connection: str) -> AbstractContextManager[Path]:
        """A folder to write a backup into, gone afterwards; leftovers of runs that died are removed first."""
        ...

    def publish(self, partial: Path, manifest: Manifest) -> Path | str:
        """Gives what is whole in that folder its name in the store; returns its folder or URL."""
        ...

    def entries(self) -> list[CatalogEntry]:
        """All backups, the newest first, then what is being made or was left behind. Reads manifests only."""
        ...

    def names(self) -> list[str]:
        """The names of backups, whole or not, the newest first."""
        ...

    def find(self, word: str) -> StoredBackup:
        """A backup by its name, or by its path or URL. Raises ConfigError when there is none."""
        ...

    def remove(self, name: str) -> bool:
        """Removes a backup, or finds it gone; what an interrupted removal leaves has no backup's name.

        False when another katax of this machine reads it or writes to it.
        """
        ...

    def note_kept(self, connection: str, database: str) -> None:
        """Notes that a database is kept whose place a restored one took. Raises BackupError."""
        ...

    def kept(self) -> list[KeptDatabase]:
        """Those that were noted, the oldest first."""
        ...

    def forget_kept(self, kept: KeptDatabase) -> None:
        """Removes a note."""
        ...
