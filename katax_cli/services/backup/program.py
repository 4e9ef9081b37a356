"""Backups for programs: `Backup(db)`, the core that the commands use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.text.duration import Duration
from katax_cli.services.backup.catalog import CatalogEntry, catalog
from katax_cli.services.backup.create import BackupMade, create_backup
from katax_cli.services.backup.manifest import Manifest, RestoreDrill
from katax_cli.services.backup.restore.drill import drill_backup
from katax_cli.services.backup.restore.run import Restored, prepare
from katax_cli.services.backup.verify import find_backup, validated
from katax_cli.services.backup.work import StoppableWork


class Backup:
    """Backups of one database in a folder. `tools` is the folder of the server's own tools (None: PATH).

    `timeout` is for the whole of a call; without one it takes as long as it takes. `name` is that of a backup in the
    folder, or a path.
    """

    def __init__(self, db: Any, directory: str | Path = "backups", *, tools: str | None = None) -> None:
        self.db = db
        self.directory = Path(directory).absolute()
        self._tools = tools

    def create(
        self, *, jobs: int | None = None, allow_missing: bool = False, timeout: Duration | None = None
    ) -> BackupMade:
        """Makes a backup, which is there only when all of it was proven.

        Raises BackupError, ConfigError, Unavailable.
        """
        return create_backup(
            self.db,
            self.directory,
            work=self._work(timeout),
            jobs=jobs,
            allow_missing=allow_missing,
            tools=self._tools,
        )

    def list(self) -> list[CatalogEntry]:
        """All backups in the folder, the newest first; reads their manifests only."""
        return catalog(self.directory)

    def verify(self, name: str, *, timeout: Duration | None = None) -> Manifest:
        """Reads every byte of a backup. Raises BackupDamaged with all reasons."""
        return validated(find_backup(self.directory, name), self._work(timeout))

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
        folder = find_backup(self.directory, name)
        return prepare(
            folder, self.db, into, work=self._work(timeout), swap=swap, jobs=jobs, tools=self._tools
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
        folder = find_backup(self.directory, name)
        work = self._work(timeout)
        return drill_backup(
            folder, on, work=work, same_server=same_server, smoke=tuple(smoke), tools=self._tools
        )

    def _work(self, timeout: Duration | None) -> StoppableWork:
        return StoppableWork(self.db.name, Deadline(timeout))
