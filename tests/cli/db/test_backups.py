"""`katax db backup` and `katax db backups` as commands."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from katax_cli.services.backup.manifest import Manifest, RestoreDrill, read_manifest, write_manifest
from katax_cli.services.backup.store import local
from katax_cli.services.backup.verify import find_backup, validated
from tests.cli.harness import katax, write_profile

PASSED = RestoreDrill("2026-11-22T00:00:00+00:00", "scratch", "s", passed=True, restore_seconds=1.0)


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    """The folder of the backups of a profile with two SQLite files."""
    urls = {"main": f"sqlite:///{tmp_path}/app.db", "other": f"sqlite:///{tmp_path}/other.db"}
    write_profile(tmp_path, urls)
    for name in urls:
        assert katax("db", "exec", "-c", name, "CREATE TABLE t (n int); INSERT INTO t VALUES (1)").code == 0
    return tmp_path / "backups"


def make(backups: Path, *drills: RestoreDrill) -> str:
    """Makes a backup that passed these drills; its name."""
    folder = Path(katax("db", "backup", "-f", "json").json["path"])
    write_manifest(folder, replace(read_manifest(folder), drills=drills))
    return folder.name


def test_a_backup_is_told(backups: Path, tmp_path: Path) -> None:
    planned = katax("db", "backup", "--dry-run", "-f", "json")
    assert planned.json == {"directory": str(backups), "connections": ["main"], "dry_run": True}
    assert not backups.exists()

    done = katax("db", "backup", "-f", "json")
    assert done.code == 0
    assert done.json | {"path": "", "size_bytes": 0, "duration_ms": 0} == {
        "connection": "main", "path": "", "size_bytes": 0, "tables": 1, "rows": 1, "left_out": 0, "duration_ms": 0,
    }  # fmt: skip
    there = katax("db", "backup", "--out", "elsewhere", "-f", "json").json["path"]
    assert Path(there).parent == tmp_path / "elsewhere"


def test_several_are_backed_up_side_by_side(backups: Path, tmp_path: Path) -> None:
    (tmp_path / "other.db").write_bytes(b"no database" * 1000)

    done = katax("db", "backup", "-c", "*", "-f", "json")

    assert done.code == 1
    assert [row["connection"] for row in done.json] == ["main"]
    assert "'other'" in json.loads(done.err)["error"]["message"]
    assert [path.name for path in backups.iterdir()] == [Path(done.json[0]["path"]).name]


def test_backups_are_listed_and_verified(backups: Path) -> None:
    assert katax("db", "backups", "list", "-f", "json").json == []
    first, second, third = make(backups), make(backups, PASSED), make(backups)
    (backups / ".partial-x-20261122T005956Z-9f3c2a").mkdir()
    shutil.rmtree(backups / third)
    (backups / third).mkdir()

    rows = katax("db", "backups", "list", "-f", "json").json
    assert [(row["backup"], row["state"], row["drilled_at"], row["reason"]) for row in rows] == [
        (second, "complete", PASSED.drilled_at, None),
        (first, "complete", None, None),
        (third, "damaged", None, "the folder is empty"),
        (".partial-x-20261122T005956Z-9f3c2a", "leftover", None, None),
    ]
    assert (rows[0]["connection"], rows[0]["engine"], rows[0]["rows"]) == ("main", "sqlite", 1)

    done = katax("db", "backups", "verify", "-f", "json")
    assert done.code == 1
    verdicts = {row["backup"]: (row["whole"], row["reasons"]) for row in done.json}
    assert verdicts == {first: (True, []), second: (True, []), third: (False, ["the folder is empty"])}
    assert katax("db", "backups", "verify", first, str(backups / second)).code == 0
    done = katax("db", "backups", "verify", "nothing")
    assert (done.code, "no backup 'nothing'" in done.err) == (2, True)


def test_what_is_pruned_while_others_are_read_is_no_damaged_backup(
    backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bad twin: one that is named is asked for."""
    doomed, read_first = make(backups), make(backups)

    def prune_and_read(folder: Path, *more: Any) -> Manifest:
        shutil.rmtree(backups / doomed, ignore_errors=True)
        return validated(folder, *more)

    def prune_and_find(directory: Path, word: str) -> Path:
        shutil.rmtree(backups / doomed, ignore_errors=True)
        return find_backup(directory, word)

    def prune_and_list(folder: Path) -> Manifest:
        shutil.rmtree(backups / doomed, ignore_errors=True)
        return read_manifest(folder)

    monkeypatch.setattr(local, "validated", prune_and_read)
    done = katax("db", "backups", "verify", "-f", "json")
    assert (done.code, [row["backup"] for row in done.json]) == (0, [read_first]), done.out
    doomed = make(backups)
    with monkeypatch.context() as before_it_is_found:
        before_it_is_found.setattr(local, "find_backup", prune_and_find)
        done = katax("db", "backups", "verify", "-f", "json")
    assert (done.code, [row["backup"] for row in done.json]) == (0, [read_first]), done.err
    doomed = make(backups)
    with monkeypatch.context() as before_it_is_listed:
        before_it_is_listed.setattr(local, "read_manifest", prune_and_list)
        done = katax("db", "backups", "list", "-f", "json")
    assert [row["backup"] for row in done.json] == [read_first]
    doomed = make(backups)
    done = katax("db", "backups", "verify", read_first, doomed, "-f", "json")
    assert (done.code, [row["whole"] for row in done.json]) == (1, [True, False]), done.out


def test_pruning_asks_and_says_why(backups: Path) -> None:
    old, drilled, newest = make(backups, PASSED), make(backups, PASSED), make(backups)
    keep = ("db", "backups", "prune", "--keep-last", "1", "-f", "json")

    waiting = katax(*keep, "-y")
    assert waiting.code == 0
    assert [row["verdict"] for row in waiting.json] == ["kept"] * 3
    assert waiting.json[0]["reasons"] == ["newest, not drilled yet"]

    folder = backups / newest
    write_manifest(folder, read_manifest(folder).with_drill(PASSED))
    planned = katax(*keep, "--dry-run")
    refused = katax(*keep)
    assert [row["verdict"] for row in planned.json] == ["kept", "to be removed", "to be removed"]
    assert (refused.code, "removing 2 backups on 'test/backups' needs confirmation" in refused.err) == (
        4,
        True,
    )
    assert len(list(backups.iterdir())) == 3

    dump = backups / newest / "dump.sqlite.zst"
    whole = dump.read_bytes()
    dump.write_bytes(whole[:-1])
    damaged = katax(*keep, "-y")
    assert (damaged.code, "nothing is removed: the newest drilled backup is damaged" in damaged.err) == (
        1,
        True,
    )
    assert len(list(backups.iterdir())) == 3

    dump.write_bytes(whole)
    done = katax(*keep, "-y")
    assert {row["backup"]: row["verdict"] for row in done.json} == {
        newest: "kept", drilled: "removed", old: "removed",
    }  # fmt: skip
    assert [path.name for path in backups.iterdir()] == [newest]


def test_pruning_without_a_rule_is_a_mistake(backups: Path) -> None:
    done = katax("db", "backups", "prune", "-y")
    assert (done.code, "nothing is said to be kept" in done.err) == (2, True)


def test_no_umask_makes_a_backup_that_no_restore_trusts(backups: Path) -> None:
    """Nobody else gets into its folder, but a copy of it may stand elsewhere."""
    before = os.umask(0)
    try:
        name = make(backups)
        done = katax("db", "backups", "drill", name, "--embedded")
        again = katax("db", "backups", "drill", name, "--embedded")
    finally:
        os.umask(before)
    assert (done.code, again.code) == (0, 0), done.err
    assert [path for path in (backups / name).rglob("*") if path.stat().st_mode & 0o022] == []
