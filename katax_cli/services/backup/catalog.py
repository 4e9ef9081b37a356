"""The backups of a store: removed where retention says so."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from katax_cli.core.clock import SYSTEM
from katax_cli.errors import BackupDamaged, BackupError
from katax_cli.services.backup.manifest import Manifest
from katax_cli.services.backup.retention import Retention, RetentionVerdict, group_of, judge
from katax_cli.services.backup.store.base import BackupStore
from katax_cli.services.backup.work import StoppableWork


def plan_removal(store: BackupStore, retention: Retention) -> list[RetentionVerdict]:
    """The verdict of retention on the backups of a store; those without a manifest are in no group, and stay."""
    now = datetime.fromtimestamp(SYSTEM.now(), UTC)
    return judge((entry.manifest for entry in store.entries() if entry.manifest), retention, now=now)


def still_planned(
    store: BackupStore, retention: Retention, verdicts: Sequence[RetentionVerdict]
) -> list[RetentionVerdict]:
    """The verdicts of a plan without the removals that came to be wrong since: a newer backup is there, or a drill."""
    later = {verdict.manifest.name: verdict for verdict in plan_removal(store, retention)}
    return [one if one.is_kept else later.get(one.manifest.name, one) for one in verdicts]


def remove(store: BackupStore, verdicts: Sequence[RetentionVerdict], work: StoppableWork) -> list[str]:
    """Removes what is not kept; returns the names. Before that the newest drilled backup of each group is read whole.

    Raises BackupError, and removes nothing, when one of those is damaged; and afterwards, when others use some.
    """
    anchors: dict[tuple[str, str], Manifest] = {}
    doomed = [verdict.manifest for verdict in verdicts if not verdict.is_kept]
    groups = set(map(group_of, doomed))
    for verdict in verdicts:
        group = group_of(verdict.manifest)
        if group in groups and verdict.is_kept and verdict.manifest.is_drilled:
            anchors.setdefault(group, verdict.manifest)
    for anchor in anchors.values():
        try:
            store.find(anchor.name).verified()
        except BackupDamaged as error:
            raise BackupError(f"nothing is removed: the newest drilled backup is damaged: {error}") from error
    used = []
    for manifest in doomed:
        work.check()
        if not store.remove(manifest.name):
            used.append(manifest.name)
    if used:
        raise BackupError(
            f"in use, so not removed: {', '.join(used)}; the other {len(doomed) - len(used)} were; prune again later"
        )
    return [manifest.name for manifest in doomed]
