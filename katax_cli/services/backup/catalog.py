"""The backups of a store: removed where retention says so."""

from __future__ import annotations

from collections.abc import Sequence

from katax_cli.errors import BackupDamaged, BackupError
from katax_cli.services.backup.manifest import Manifest
from katax_cli.services.backup.retention import Retention, RetentionVerdict, judge
from katax_cli.services.backup.store.base import BackupStore
from katax_cli.services.backup.work import StoppableWork


def plan_removal(store: BackupStore, retention: Retention) -> list[RetentionVerdict]:
    """The verdict of retention on the backups of a store; those without a manifest are in no group, and stay."""
    return judge((entry.manifest for entry in store.entries() if entry.manifest), retention)


def remove(store: BackupStore, verdicts: Sequence[RetentionVerdict], work: StoppableWork) -> list[str]:
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
            store.find(anchor.name).verified()
        except BackupDamaged as error:
            raise BackupError(f"nothing is removed: the newest drilled backup is damaged: {error}") from error
    for manifest in doomed:
        work.check()
        store.remove(manifest.name)
    return [manifest.name for manifest in doomed]
