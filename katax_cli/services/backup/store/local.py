"""Backups in a folder of this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from katax_cli.errors import BackupDamaged
from katax_cli.services.backup.folder import (
    backup_folders,
    kept_in_place,
    new_folder,
    partial_folders,
    publish,
    withdrawn,
)
from katax_cli.services.backup.manifest import Manifest, RestoreDrill, read_manifest
from katax_cli.services.backup.restore import kept
from katax_cli.services.backup.restore.drill import stamp
from katax_cli.services.backup.sealing import Identities
from katax_cli.services.backup.spool import SPOOL, private_folder
from katax_cli.services.backup.store.base import CatalogEntry, KeptDatabase, newest_first
from katax_cli.services.backup.store.copying import copied
from katax_cli.services.backup.verify import find_backup, trusted, validated
from katax_cli.services.backup.work import StoppableWork


class FolderStore:
    """The backups in one folder; it need not be there."""

    def __init__(self, directory: Path, *, work: StoppableWork, identities: Identities | None) -> None:
        self._directory = directory
        self._work = work
        self._identities = identities

    @property
    def location(self) -> str:
        return str(self._directory)

    def new_folder(self, connection: str) -> AbstractContextManager[Path]:
        return new_folder(self._directory, connection)

    def publish(self, partial: Path, manifest: Manifest) -> Path:
        return publish(partial)

    def entries(self) -> list[CatalogEntry]:
        entries = [_entry(path) for path in reversed(backup_folders(self._directory))]
        # Names know seconds only. What is gone since it was listed was pruned.
        entries = sorted((entry for entry in entries if os.path.exists(entry.path)), key=newest_first)
        entries += [
            CatalogEntry(path, "being made" if is_held else "leftover")
            for path, is_held in partial_folders(self._directory)
        ]
        return entries

    def names(self) -> list[str]:
        return [path.name for path in backup_folders(self._directory)[::-1]]

    def find(self, word: str) -> FolderBackup:
        return FolderBackup(find_backup(self._directory, word), work=self._work, identities=self._identities)

    def remove(self, name: str) -> bool:
        with withdrawn(self._directory / name) as path:
            if path is not None:
                shutil.rmtree(path.resolve())
                path.unlink(missing_ok=True)  # a link to a backup on another disk
        return path is not None or not (self._directory / name).exists()

    def note_kept(self, connection: str, database: str) -> None:
        kept.note_kept(self._directory, connection, database)

    def kept(self) -> list[KeptDatabase]:
        return kept.kept_databases(self._directory)

    def forget_kept(self, kept: KeptDatabase) -> None:
        Path(kept.note).unlink(missing_ok=True)


class FolderBackup:
    """A backup in a folder of its own."""

    def __init__(self, folder: Path, *, work: StoppableWork, identities: Identities | None) -> None:
        self.path = folder
        self._work = work
        self._identities = identities

    @property
    def name(self) -> str:
        return self.path.name

    def manifest(self) -> Manifest:
        return read_manifest(self.path)

    def verified(self) -> Manifest:
        with kept_in_place(self.path):
            return validated(self.path, self._work, self._identities)

    @contextmanager
    def fetched(self) -> Iterator[Path]:
        with kept_in_place(self.path), self._plain() as folder:
            yield folder

    @contextmanager
    def _plain(self) -> Iterator[Path]:
        if self.manifest().encryption is None:
            yield self.path
            return
        manifest = trusted(self.path, self._work)
        with private_folder(SPOOL) as home:
            yield copied(
                home,
                manifest,
                lambda file: (self.path / file.path).open("rb"),
                where=str(self.path),
                work=self._work,
                identities=self._identities,
            )

    def stamp(self, drill: RestoreDrill) -> Manifest:
        return stamp(self.path, drill)


def _entry(path: Path) -> CatalogEntry:
    try:
        return CatalogEntry(path, "complete", read_manifest(path))
    except BackupDamaged as error:
        return CatalogEntry(path, "damaged", reason="; ".join(error.reasons))
