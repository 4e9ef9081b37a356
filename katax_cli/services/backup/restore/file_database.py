"""A SQLite file that a restore fills: beside the one that was asked for, and renamed when it is proven to be whole."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

from katax_cli.core.settings import ConnectionSettings
from katax_cli.engines.restores import DumpHead
from katax_cli.errors import BackupError, ConfigError, Refused
from katax_cli.services.backup.folder import moment
from katax_cli.services.backup.manifest import sync
from katax_cli.services.backup.restore.destination import OLD
from katax_cli.services.backup.restore.load import RestoreOrder
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.tables import lifetime, reset
from katax_cli.services.tables.scratch import new_name, remove_abandoned

_LOCK_SECONDS = 5.0


class FileDatabase:
    """The file is made in a folder of its own beside the target, so that both are on one file system."""

    def __init__(self, order: RestoreOrder, target: str | None) -> None:
        """Without a target a throwaway file beside the one of the connection."""
        self._database: SqlDatabase = order.database
        self._open = order.open_database
        self._purpose = order.purpose
        self._tell = order.tell
        self._swap = False
        beside = os.path.join(os.path.dirname(str(self._database.settings.path)), f"katax_{self._purpose}")
        # Not in the place of a link: others open the file by its own name.
        self.target = os.path.realpath(beside if target is None else target)
        self._beside = Path(self.target).parent
        self._folder = self._beside / new_name(self._purpose)
        self.settings = self._of(self._folder / "restored.db")

    @property
    def file(self) -> Path:
        """The file to be filled."""
        return Path(str(self.settings.path))

    def _of(self, path: Path) -> ConnectionSettings:
        name = f"{self._database.name}/{path.name}"
        # Not embedded: that would make the file for its owner alone before it is filled.
        return replace(self._database.settings, name=name, path=str(path), embedded=False, read_only=False)

    def refuse(self, *, swap: bool) -> bool:
        if not self._beside.is_dir():
            raise ConfigError(f"folder {str(self._beside)!r} does not exist; create it")
        self._swap = swap
        if os.path.lexists(self.target):
            self._refuse_existing(swap=swap)
            return True
        for journal in map(self.target.__add__, lifetime.JOURNALS):
            if os.path.lexists(journal):
                raise Refused(
                    f"{journal!r} is there without its database; remove it, or restore into another name"
                )
        return False

    def _refuse_existing(self, *, swap: bool) -> None:
        if not stat.S_ISREG(os.stat(self.target).st_mode):
            raise Refused(f"{self.target!r} is no file; restore into another name")
        if swap or os.path.getsize(self.target) == 0:
            return
        with self._open(self._of(Path(self.target))) as there:
            count = len(reset.objects(there))
        if count:
            raise Refused(
                f"{self.target!r} is not empty, it has {count} object{'s' * (count != 1)}; "
                "restore into another name, or take its place with --swap"
            )

    def make(self, head: DumpHead | None) -> None:
        for name in remove_abandoned(self._database, self._open, self._purpose, folder=str(self._beside)):
            self._tell(f"removed {name!r}, which a killed {self._purpose} left")
        self._folder.mkdir(mode=0o700)

    def publish(self, note_kept: Callable[[str], object]) -> str | None:
        try:
            return self._publish(note_kept)
        except OSError as error:
            raise BackupError(f"{self.target!r} was not replaced: {error.strerror}") from error

    def _publish(self, note_kept: Callable[[str], object]) -> str | None:
        with self.file.open("rb") as file:
            os.fsync(file.fileno())
        if not os.path.lexists(self.target):
            os.link(self.file, self.target)
            sync(self._beside)
            self.discard()
            return None
        self._refuse_existing(swap=self._swap)  # while it was filled others may have come
        kept = self._exchange(note_kept)
        self.discard()
        return kept

    def _exchange(self, note_kept: Callable[[str], object]) -> str | None:
        """The old file gets a second name first: in no moment is there none of the name that was asked for."""
        kept = f"{self.target}{OLD}{moment()}"
        is_empty = os.path.getsize(self.target) == 0
        with (
            cast("SqlDatabase", self._open(self._of(Path(self.target)))) as old,
            lifetime.locked_file(old, _LOCK_SECONDS, "locking the old file"),
        ):
            self._refuse_users()
            if not is_empty:
                note_kept(kept)
            os.link(self.target, kept)
            status = os.stat(self.target)
            os.chmod(self.file, stat.S_IMODE(status.st_mode))
            with suppress(PermissionError):
                os.chown(self.file, status.st_uid, status.st_gid)
            os.replace(self.file, self.target)
            sync(self._beside)
        if is_empty:
            os.remove(kept)
            return None
        return kept

    def _refuse_users(self) -> None:
        """A process that has the old file open would go on writing to it, under its new name."""
        users = _users(os.stat(self.target))
        if users:
            raise BackupError(
                f"{self.target!r} is open in process {', '.join(users)}; stop {'it' if len(users) == 1 else 'them'}, "
                "then restore again"
            )

    def discard(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._folder.exists():
            raise BackupError(f"{str(self._folder)!r} was not removed; remove it")


def _users(status: os.stat_result) -> list[str]:
    """Other processes that have the file open, as far as this user may see (Linux)."""
    users = []
    with suppress(FileNotFoundError):
        for pid in os.listdir("/proc"):
            if pid.isdigit() and int(pid) != os.getpid() and _has_open(pid, status):
                with suppress(OSError):
                    name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
                    users.append(f"{pid} ({name})")
    return users


def _has_open(pid: str, status: os.stat_result) -> bool:
    with suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                if os.path.samestat(os.stat(f"/proc/{pid}/fd/{descriptor}"), status):
                    return True
    return False
