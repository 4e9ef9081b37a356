"""Promise 14: a backup's name appears only for a complete file whose end was proven.

Pruning never removes the last one that passed a drill.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from katax_cli.services.backup.manifest import Manifest, RestoreDrill
from katax_cli.services.backup.retention import Retention, judge
from tests.cli.harness import katax
from tests.servers import Server
from tests.servers.fixtures import MakeFresh
from tests.services.backup.server_of_backups import back_up, left, profile_for, refused, run_sql
from tests.services.backup.test_manifest import WHOLE
from tests.waiting import until

ROWS = ("CREATE TABLE t (n int, a text)", "INSERT INTO t VALUES (1, 'x'), (2, 'y'), (3, 'z')")
LYING = """#!/bin/sh
case "$1" in --version) exec {real} --version;; esac
{then}
exit 0
"""
# What of its output is lost although the tool says that all went well.
LOSSES_OF_PG_DUMP = (
    'echo truncated > "$dump"/toc.dat',
    'rm "$dump"/toc.dat',
    'for file in "$dump"/[0-9]*.dat; do : > "$file"; done',
    'for file in "$dump"/[0-9]*.dat; do rm "$file"; done',
    'for file in "$dump"/[0-9]*.dat; do head -c 6 "$file" > "$file".cut; mv "$file".cut "$file"; done',
    'rm -r "$dump"',
)
LOSSES_OF_MARIADB_DUMP = (
    "head -c 0",
    "head -c 500",
    "sed '$d'",
    "grep -v 'Dump completed'",
    "(cat; echo more)",
)


def lying_tool(folder: Path, real: Path, then: str) -> None:
    (folder / real.name).unlink(missing_ok=True)
    (folder / real.name).write_text(LYING.format(real=real, then=then))
    (folder / real.name).chmod(0o755)


def program(server: Server, name: str) -> Path:
    return (server.tools / name) if server.tools else Path(str(shutil.which(name)))


def test_a_tool_that_says_done_is_not_believed(
    fresh: MakeFresh, postgresql: Server, mysql: Server, tmp_path: Path
) -> None:
    """The bad twin: the same tool, which loses nothing, makes a backup."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "pg_restore").symlink_to(program(postgresql, "pg_restore"))
    pg_dump = program(postgresql, "pg_dump")
    profile_for(tmp_path, fresh(postgresql), tools=tools)
    run_sql(*ROWS)
    find = 'for word in "$@"; do case "$word" in --file=*) dump=${word#--file=};; esac; done\n'
    find += f'{pg_dump} "$@" || exit 1\n'
    for loss in LOSSES_OF_PG_DUMP:
        lying_tool(tools, pg_dump, find + loss)
        code, message = refused()
        assert (code, left(tmp_path)) == (1, []), (loss, message)
    lying_tool(tools, pg_dump, find)
    name = back_up().name
    assert left(tmp_path) == [name]

    dump = program(mysql, "mariadb-dump" if mysql.flavour == "mariadb" else "mysqldump")
    profile_for(tmp_path, fresh(mysql), tools=tools)
    run_sql(*ROWS)
    before = left(tmp_path)
    for loss in LOSSES_OF_MARIADB_DUMP:
        lying_tool(tools, dump, f'{dump} "$@" | {loss}')
        assert (refused()[0], left(tmp_path)) == (1, before), loss
    lying_tool(tools, dump, f'{dump} "$@" | cat')
    assert back_up().rows == {"t": 3}


def test_a_killed_katax_leaves_no_name_and_no_tool(
    fresh: MakeFresh, postgresql: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tool is held until katax is dead. The bad twin: let go, and waited for, it ends in a backup."""
    tools, held, go = tmp_path / "tools", tmp_path / "held", tmp_path / "go"
    tools.mkdir()
    (tools / "pg_restore").symlink_to(program(postgresql, "pg_restore"))
    pg_dump = program(postgresql, "pg_dump")
    lying_tool(
        tools,
        pg_dump,
        f'{pg_dump} "$@" || exit 1\necho $$ > {held}.new; mv {held}.new {held}\n'
        f"while [ ! -e {go} ]; do sleep 0.05; done",
    )
    profile_for(tmp_path, fresh(postgresql), tools=tools)
    run_sql(*ROWS)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    words = [sys.executable, "-m", "katax_cli", "db", "backup", "-f", "json"]
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        until(held.exists)
        tool = int(held.read_text())
        process.send_signal(number)
        process.communicate()
        held.unlink()
        until(partial(_is_gone, tool))
        assert process.returncode not in (0, 1)
        assert [name for name in left(tmp_path) if not name.startswith(".partial-")] == []
    go.touch()
    done = katax("db", "backup", "-f", "json")
    assert left(tmp_path) == [Path(done.json["path"]).name], "what the killed one left is gone"
    assert list((tmp_path / "temporary").glob("katax-secrets-*")) == [], "its password file, too"


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


NOW = datetime(2026, 11, 22, tzinfo=UTC)


def history(chance: random.Random) -> list[Manifest]:
    """Backups of a few servers, drilled or not, some failed, some at the same moment."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    drill = RestoreDrill("2026-11-22T00:00:00+00:00", "scratch", "s", passed=True, restore_seconds=1.0)
    drills = ((), (drill,), (replace(drill, passed=False),), (drill, replace(drill, passed=False)))
    return [
        replace(
            WHOLE,
            name=f"b{number}",
            server_id=chance.choice("ab"),
            database=chance.choice("xy"),
            started_at=(start + timedelta(hours=chance.randrange(2000))).isoformat(),
            drills=chance.choice(drills),
        )
        for number in range(chance.randrange(1, 25))
    ]


def broken(manifests: list[Manifest], removed: set[str]) -> list[str]:
    """The databases that lose their last drilled backup, or one while their newest is not drilled."""
    wrong = []
    for group in {(one.server_id, one.database) for one in manifests}:
        own = [one for one in manifests if (one.server_id, one.database) == group]
        newest_at = max(one.started_at for one in own)
        drilled = [one for one in own if one.is_drilled]
        if drilled and {one.name for one in drilled} <= removed:
            wrong.append(f"{group} has no drilled one")
        if not any(one.is_drilled for one in own if one.started_at == newest_at) and removed & {
            o.name for o in own
        }:
            wrong.append(f"{group} loses one while its newest is not drilled")
    return wrong


def test_pruning_never_removes_the_last_one_that_passed_a_drill() -> None:
    chance = random.Random(14)
    pruned = 0
    for _ in range(2000):
        manifests = history(chance)
        rules = {name: chance.choice((0, 0, 1, 2, 5)) for name in ("last", "daily", "weekly", "monthly")}
        if not any(rules.values()):
            continue
        removed = {
            verdict.manifest.name
            for verdict in judge(manifests, Retention(**rules), now=NOW)
            if not verdict.is_kept
        }
        assert broken(manifests, removed) == [], (rules, manifests)
        pruned += len(removed)
    assert pruned > 1000


def test_a_retention_by_age_alone_would_be_caught() -> None:
    """The bad twin: keep the newest ones, drilled or not."""
    chance = random.Random(14)
    caught = 0
    for _ in range(200):
        manifests = history(chance)
        by_age = sorted(manifests, key=lambda one: one.started_at, reverse=True)
        caught += bool(broken(manifests, {one.name for one in by_age[2:]}))
    assert caught > 100
