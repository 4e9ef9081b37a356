"""Backups and drills as jobs of cron: their exit codes are those of the runs."""

from __future__ import annotations

from pathlib import Path

from katax_cli.services.backup.manifest import read_manifest
from tests.cli.harness import katax, write_profile
from tests.servers.fixtures import MakeFresh
from tests.services.backup.restore.rich import fill

JOBS = """
[cron.jobs.backup]
schedule = "0 2 * * *"
katax = ["db", "backup"]

[cron.jobs.drill]
schedule = "0 4 * * *"
katax = ["db", "backups", "drill", "--latest", "--embedded"]
"""


def test_a_backup_and_its_drill_run_as_jobs(fresh: MakeFresh, tmp_path: Path) -> None:
    target = fresh("sqlite")
    fill(target)
    write_profile(tmp_path, {"main": target.url}, extra=JOBS)

    assert katax("cron", "run", "drill").code == 2, "there is nothing to drill yet"
    assert katax("cron", "run", "backup").code == 0
    assert katax("cron", "run", "drill").code == 0

    [folder] = (tmp_path / "backups").glob("main-*")
    assert [drill.passed for drill in read_manifest(folder).drills] == [True]
    history = katax("cron", "history", "-f", "json").json
    assert [(run["job"], run["state"], run["exit_status"]) for run in history] == [
        ("drill", "ran", 0),
        ("backup", "ran", 0),
        ("drill", "failed", 2),
    ]
