"""Backups for programs: `Backup(db)`, the core that the commands use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.settings import Secret
from katax_cli.core.text.duration import Duration
from katax_cli.services.backup.create import BackupMade, create_backup
from katax_cli.services.backup.manifest import Manifest, RestoreDrill
from katax_cli.services.backup.restore.drill import drill_backup
from katax_cli.services.backup.restore.run import Restored, prepare
from katax_cli.services.backup.store.base import BackupStore, CatalogEntry
from katax_cli.services.backup.store.place import is_url, open_store
from katax_cli.services.backup.work import StoppableWork


class Backup:
    """Backups of one database in a folder, or below a URL; `tools` is the folder of the server's tools (None: PATH).

    They are encrypted for `recipients`, public keys of age, and decrypted with `identity`, the text of its file.
    `timeout` is for the whole of a call; without one it takes as long as it takes. `name` is that of a backup in the
    folder, or a path or URL.
    """

    def __init__(
        self,
        db: Any,
        directory: str | Path = "backups",
        *,
        tools: str | None = None,
        recipients: Sequence[str] = (),
        identity: str | None = None,
    ) -> None:
        self.db = db
        location = str(directory)
        self.directory: Path | str = location if is_url(location) else Path(location).absolute()
        self._tools = tools
        self._recipients = tuple(recipients)
        self._identity = None if identity is None else Secret.of(identity)

    def create(
        self, *, jobs: int | None = None, allow_missing: bool = False, timeout: Duration | None = None
    ) -> BackupMade:
        """Makes a backup, which is there only when all of it was proven.

        Raises BackupError, ConfigError, Unavailable.
        """
        work = self._work(timeout)
        return create_backup(
            self.db,
            self._store(work),
            work=work,
            recipients=self._recipients,
            jobs=jobs,
            allow_missing=allow_missing,
            tools=self._tools,
        )

    def list(self) -> list[CatalogEntry]:
        """All backups, the newest first; reads their manifests only."""
        return self._store(self._work(None)).entries()

    def verify(self, name: str, *, timeout: Duration | None = None) -> Manifest:
        """Reads every byte of a backup. Raises BackupDamaged with all reasons."""
        return self._store(self._work(timeout)).find(name).verified()

    def restore(
        self,
        name: str,
        *,
        into: str,
        swap: bool = False,
        jobs: int | None = None,
        timeout: Duration | None = None,
    ) -> Restored:
        """Restores a backup into the database `into` of the server of `db`; with `swap` in the place of one with data.

        Raises BackupDamaged, Refused and ConfigError before anything was touched; BackupError when it fails.
        """
        work = self._work(timeout)
        store = self._store(work)
        with store.find(name).fetched() as folder:
            return prepare(
                folder,
                self.db,
                into,
                work=work,
                swap=swap,
                jobs=jobs,
                tools=self._tools,
                note_kept=store.note_kept,
            ).run()

    def drill(
        self,
        name: str,
        *,
        on: Any,
        same_server: bool = False,
        smoke: Sequence[str] = (),
        timeout: Duration | None = None,
    ) -> RestoreDrill:
        """Restores a backup into a throwaway database of the server of `on`; see `passed` and `problems`."""
        work = self._work(timeout)
        backup = self._store(work).find(name)
        with backup.fetched() as folder:
            return drill_backup(
                folder,
                on,
                work=work,
                same_server=same_server,
                smoke=tuple(smoke),
                tools=self._tools,
                stamped=backup.stamp,
            )

    def _store(self, work: StoppableWork) -> BackupStore:
        return open_store(str(self.directory), work=work, identity=self._identity)

    def _work(self, timeout: Duration | None) -> StoppableWork:
        return StoppableWork(self.db.name, Deadline(timeout))
