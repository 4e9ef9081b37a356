"""What is removed was still to be removed at that moment, and nobody was reading it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from katax_cli.core.clock import SYSTEM
from katax_cli.errors import BackupError
from katax_cli.services.backup.catalog import plan_removal, remove, still_planned
from katax_cli.services.backup.manifest import RestoreDrill, read_manifest, write_manifest
from katax_cli.services.backup.retention import Retention, RetentionVerdict
from katax_cli.services.backup.store.base import BackupStore
from katax_cli.services.backup.store.place import open_store
from katax_cli.services.backup.work import StoppableWork
from tests.services.backup.server_of_backups import back_up, left, profile_for, run_sql

PASSED = RestoreDrill("2026-11-22T00:00:00+00:00", "scratch", "s", passed=True, restore_seconds=1.0)
ONE, WORK = Retention(last=1), StoppableWork("backups")


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    """Three backups, all of them drilled, the oldest first."""
    profile_for(tmp_path, f"sqlite:///{tmp_path}/app.db")
    run_sql("CREATE TABLE t (n int)")
    made = [back_up().name for _ in range(3)]
    for hours, name in zip((3, 2, 1), made, strict=True):
        stamp(tmp_path, name, PASSED, hours=hours)
    return made


def stamp(folder: Path, name: str, *drills: RestoreDrill, hours: float) -> None:
    path = folder / "backups" / name
    began = datetime.fromtimestamp(SYSTEM.now(), UTC) - timedelta(hours=hours)
    write_manifest(path, replace(read_manifest(path), drills=drills, started_at=began.isoformat()))


@pytest.fixture
def store(tmp_path: Path) -> BackupStore:
    return open_store(str(tmp_path / "backups"), work=WORK)


def doomed(verdicts: list[RetentionVerdict]) -> list[str]:
    return sorted(verdict.manifest.name for verdict in verdicts if not verdict.is_kept)


def test_another_name_of_a_backup_counts_nothing(
    names: list[str], store: BackupStore, tmp_path: Path
) -> None:
    """One that was moved to another disk, with a link in its place, is a backup as it was."""
    folder = tmp_path / "backups"
    (folder / "alias-20261122T005956Z-9f3c2a").symlink_to(folder / names[2])
    (tmp_path / "disk").mkdir()
    for name in names[:2]:
        (folder / name).rename(tmp_path / "disk" / name)
        (folder / name).symlink_to(tmp_path / "disk" / name)

    plan = plan_removal(store, Retention(last=2))

    assert doomed(plan) == names[:1]
    assert remove(store, plan, WORK) == names[:1]
    assert [path.name for path in (tmp_path / "disk").iterdir()] == names[1:2]
    assert sorted(store.names()) == sorted(names[1:])


def test_a_backup_that_is_read_stays(names: list[str], store: BackupStore, tmp_path: Path) -> None:
    plan = plan_removal(store, ONE)
    assert doomed(plan) == sorted(names[:2])
    with store.find(names[0]).fetched(), pytest.raises(BackupError) as raised:
        remove(store, plan, WORK)
    assert str(raised.value) == f"in use, so not removed: {names[0]}; the other 1 were; prune again later"
    assert left(tmp_path) == sorted([names[0], names[2]])

    backup = store.find(names[0])
    with backup.fetched():
        assert len(backup.stamp(PASSED).drills) == 2, "a drill stamps what it reads"
    assert sorted(remove(store, plan, WORK)) == doomed(plan), "another prune removed one of them before"
    assert left(tmp_path) == [names[2]]


def test_a_plan_that_was_overtaken_removes_nothing(
    names: list[str], store: BackupStore, tmp_path: Path
) -> None:
    """While the question waits for its answer a drill of the newest fails, or a newer one comes."""
    plan = plan_removal(store, ONE)
    stamp(tmp_path, names[2], PASSED, replace(PASSED, passed=False), hours=1)
    assert doomed(still_planned(store, ONE, plan)) == []
    stamp(tmp_path, names[2], PASSED, hours=1)
    newer = back_up().name
    assert doomed(still_planned(store, ONE, plan)) == []
    stamp(tmp_path, newer, PASSED, hours=0)
    assert doomed(still_planned(store, ONE, plan)) == sorted(names[:2]), "nothing that was not asked for"
