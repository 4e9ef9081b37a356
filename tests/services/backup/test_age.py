"""The age of the newest drilled backup, in every place that shows health."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from uuid import uuid4

import pytest

from katax_cli.core.clock import SYSTEM
from katax_cli.profiles.load import load_profile
from katax_cli.services.backup.age import _FolderManifests, _StoredManifests, backup_checker
from katax_cli.services.backup.manifest import DumpFile, Manifest, RestoreDrill, write_manifest
from katax_cli.services.calls.left_behind import start
from katax_cli.snapshot import Check
from tests.cli.harness import katax, write_profile
from tests.servers.object_store import ObjectServer
from tests.waiting import SECONDS, until

PASSED = RestoreDrill("2026-11-21T19:00:00+00:00", "c", "s", passed=True, restore_seconds=1.0)
CALM = "[health]\ndegraded_ms = 60000\nunhealthy_ms = 120000\n"
"""A busy machine is no slow server."""
NAME = "main-20261121T1900{:02}Z-9f3c2a"


def put(folder: Path, number: int, age: timedelta, *drills: RestoreDrill, connection: str = "main") -> Path:
    """A backup of that age."""
    name = NAME.format(number)
    started = (datetime.fromtimestamp(SYSTEM.now(), UTC) - age).isoformat()
    made = Manifest(
        name=name,
        engine="sqlite",
        server_version="3",
        server_id="sqlite:1",
        database="app",
        connection=connection,
        tool="SQLite 3",
        katax_version="1",
        started_at=started,
        finished_at=started,
        consistency="one moment",
        files=(DumpFile("dump.sqlite.zst", 0, "0" * 64),),
        drills=drills,
    )
    path = folder / "backups" / name
    path.mkdir(parents=True, exist_ok=True)
    write_manifest(path, made)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("main", "other"):
        with closing(sqlite3.connect(tmp_path / f"{name}.db")) as file:
            file.execute("CREATE TABLE t (n int)")
    urls = {name: f"sqlite:///{tmp_path}/{name}.db" for name in ("main", "other")}
    write_profile(tmp_path, urls, extra=f'[backup]\nmax_age = "2d"\n{CALM}')
    return tmp_path


def test_only_a_backup_that_passed_a_drill_counts(folder: Path) -> None:
    check = backup_checker(load_profile("test", cwd=str(folder)))
    where = repr(str(folder / "backups"))

    assert check("main") == Check("backup", "degraded", message=f"no backup in {where}")
    assert check("other") is None

    path = put(folder, 1, timedelta(hours=5))
    assert check("main") == Check("backup", "degraded", message=f"no backup that passed a drill in {where}")
    put(folder, 1, timedelta(hours=5), PASSED)
    assert check("main") == Check("backup", "healthy", message="the newest drilled backup is 5h old")
    put(folder, 2, timedelta(minutes=1), replace(PASSED, passed=False))
    assert check("main") == Check("backup", "healthy", message="the newest drilled backup is 5h old")
    put(folder, 1, timedelta(days=3), PASSED)
    assert check("main") == Check(
        "backup", "degraded", message="the newest drilled backup is 3d old, more than 2d"
    )
    put(folder, 3, timedelta(days=4), PASSED, connection="other")
    assert check("other") == Check(
        "backup", "degraded", message="the newest drilled backup is 4d old, more than 2d"
    )
    put(folder, 1, timedelta(days=-3), PASSED)
    wrong = "the newest drilled backup is from the future: a clock was wrong, its age is unknown"
    assert check("main") == Check("backup", "degraded", message=wrong)
    (path / "manifest.json").write_text("{}")
    assert check("main") == Check("backup", "degraded", message=f"no backup that passed a drill in {where}")


@pytest.mark.parametrize("is_stored", [True, False])
def test_a_child_made_by_fork_reads_anew(tmp_path: Path, is_stored: bool) -> None:
    """Whatever another thread of the parent was about: it holds the lock, or reads and never ends here."""
    put(tmp_path, 1, timedelta(hours=5))
    where, ends = str(tmp_path / "backups"), Event()
    manifests = _StoredManifests(where, ("main",), SYSTEM) if is_stored else _FolderManifests(Path(where))
    if isinstance(manifests, _StoredManifests):
        manifests._running = start("katax-backup-age", ends.wait)
    with manifests._lock:
        child = os.fork()
        if child == 0:
            signal.alarm(int(SECONDS))
            code = 1
            try:
                # A text says that there was no answer in time yet.
                until(lambda: not isinstance(manifests.of("main"), str))
                code = 0 if len(manifests.of("main")) == 1 else 1
            finally:
                os._exit(code)
    ends.set()

    assert os.waitpid(child, 0)[1] == 0


def test_health_and_the_dashboard_show_it(folder: Path) -> None:
    put(folder, 1, timedelta(days=3), PASSED)
    old = "the newest drilled backup is 3d old, more than 2d"

    done = katax("health", "--timeout", "60s", "-f", "json")
    assert (done.code, done.json["connections"]["main"]["status"]) == (1, "degraded")
    assert done.json["connections"]["main"]["errors"] == [old]
    assert done.json["connections"]["other"]["status"] == "healthy"
    shown = katax("dashboard", "--once", "--timeout", "60s", "-f", "json")
    assert shown.json["health"]["connections"]["main"]["errors"] == [old]

    put(folder, 2, timedelta(hours=3), PASSED)
    assert katax("health", "--timeout", "60s").code == 0

    write_profile(folder, {"main": f"sqlite:///{folder}/main.db"}, extra=CALM)
    done = katax("health", "--timeout", "60s", "-f", "json")
    assert "backup" not in [check["name"] for check in done.json["connections"]["main"]["checks"]]
    assert os.path.exists(folder / "backups")


def test_backups_in_a_store_are_looked_at_too(
    folder: Path, bucket: ObjectServer, closed_port: int, deaf_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that is slow to answer, as on a busy machine, is asked until it did."""
    url = bucket.url(f"ages/{uuid4().hex}")
    urls = {name: f"sqlite:///{folder}/{name}.db" for name in ("main", "other")}
    write_profile(folder, urls, extra=f'[backup]\ndirectory = "{url}"\nmax_age = "2d"\n{CALM}')
    unknown = f"the age of the newest drilled backup in {url!r} is unknown: "

    def check(name: str = "main") -> Check | None:
        ask = backup_checker(load_profile("test", cwd=str(folder)))
        # Only the first connection says that nothing answered yet; the answer is for all.
        until(lambda: "no answer within" not in str(getattr(ask("main"), "message", "")))
        return ask(name)

    assert check() == Check("backup", "degraded", message=f"no backup in {url!r}")
    assert check("other") is None
    assert katax("db", "backup", "-c", "main").code == 0
    assert katax("db", "backups", "drill", "--latest", "--embedded").code == 0
    assert katax("db", "backup", "-c", "*").code == 0
    drilled = check()
    assert drilled is not None
    assert (drilled.status, "the newest drilled backup is" in str(drilled.message)) == ("healthy", True)
    assert check("other") == Check("backup", "degraded", message=f"no backup that passed a drill in {url!r}")

    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed_port}")
    refused = check()
    assert refused is not None
    assert (refused.status, str(refused.message).startswith(unknown)) == ("degraded", True)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{deaf_port}")
    silent = backup_checker(load_profile("test", cwd=str(folder)))("main")
    assert silent == Check("backup", "degraded", message=f"{unknown}no answer within 3s")
