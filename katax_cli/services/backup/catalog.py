"""The backups in a folder: listed with their state, and removed where retention says so."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from katax_cli.errors import BackupDamaged, BackupError
from katax_cli.services.backup.folder import backup_folders, partial_folders, withdrawn
from katax_cli.services.backup.manifest import Manifest, read_manifest
from katax_cli.services.backup.retention import Retention, RetentionVerdict, judge
from katax_cli.services.backup.verify import validated
from katax_cli.services.backup.work import StoppableWork


class CatalogEntry(NamedTuple):
    """One backup; `manifest` is None, and `reason` says why, of what is none."""

    path: Path
    state: Literal["complete", "damaged", "being made", "leftover"]
    manifest: Manifest | None = None
    reason: str | None = None


def catalog(directory: Path) -> list[CatalogEntry]:
    """All backups, the newest first, then what is being made or was left behind. Reads manifests only."""
    entries = [_entry(path) for path in reversed(backup_folders(directory))]
    # Names know seconds only.
    entries.sort(key=lambda entry: entry.manifest.started_at if entry.manifest else "", reverse=True)
    entries += [
        CatalogEntry(path, "being made" if is_held else "leftover")
        for path, is_held in partial_folders(directory)
    ]
    return entries


def _entry(path: Path) -> CatalogEntry:
    try:
        return CatalogEntry(path, "complete", read_manifest(path))
    except BackupDamaged as error:
        return CatalogEntry(path, "damaged", reason="; ".join(error.reasons))


def plan_removal(directory: Path, retention: Retention) -> list[RetentionVerdict]:
    """The verdict of retention on the backups in a folder; those without a manifest are in no group, and stay."""
    return judge((entry.manifest for entry in catalog(directory) if entry.manifest), retention)


def remove(directory: Path, verdicts: Sequence[RetentionVerdict], work: StoppableWork) -> list[str]:
    """Removes what is not kept; returns the names. Before that the newest drilled backup of each group is read whole.

    Raises BackupError, and removes nothing, when one of those is damaged.
    """
    anchors: dict[tuple[str, str], Manifest] = {}
    doomed = [verdict.manifest for verdict in verdicts if not verdict.is_kept]
    groups = {(one.server_id, one.database) for one in doomed}
    for verdict in verdicts:
        manifest = verdict.manifest
        group = (manifest.server_id, manifest.database)
        if group in groups and verdict.is_kept and manifest.is_drilled:
            anchors.setdefault(group, manifest)
    for anchor in anchors.values():
        try:
            validated(directory / anchor.name, work)
        except BackupDamaged as error:
            raise BackupError(f"nothing is removed: the newest drilled backup is damaged: {error}") from error
    for manifest in doomed:
        work.check()
        with withdrawn(directory / manifest.name) as path:
            shutil.rmtree(path)
    return [manifest.name for manifest in doomed]
