"""The disaster that docs/backup.md rehearses, command by command."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import psycopg

from tests.cli.harness import katax
from tests.servers import Server
from tests.servers.fixtures import MakeFresh
from tests.services.backup.restore.rich import content, fill
from tests.services.backup.restore.test_run import databases
from tests.services.backup.server_of_backups import back_up, profile_for

DOCS = Path(__file__).parents[4] / "docs" / "backup.md"


def commands() -> list[str]:
    section = DOCS.read_text(encoding="utf-8").partition("## A disaster, in five commands")[2]
    lines = section.partition("```console\n")[2].partition("```")[0].splitlines()
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


def test_five_commands_bring_everything_back(fresh: MakeFresh, postgresql: Server, tmp_path: Path) -> None:
    source = fresh(postgresql)
    fill(source)
    profile_for(tmp_path, source)
    name, manifest = source.url.rpartition("/")[2], back_up()
    before, there = content(postgresql, name), databases(postgresql)
    with psycopg.connect(source.url, autocommit=True) as connection:
        connection.execute("DROP TABLE orders CASCADE; DELETE FROM app.users; SELECT lo_unlink(4711)")

    lines = commands()
    assert len(lines) == 5
    for line in lines:
        line = re.sub(r"main-\d{8}T\d{6}Z-[0-9a-f]{6}", manifest.name, line).replace(
            "--into app_production ", f"--into {name} "
        )
        done = katax(*shlex.split(line)[1:])
        assert done.code == 0, (line, done.err)

    assert content(postgresql, name) == before
    assert databases(postgresql) == there, "the prune dropped the one whose place was taken"


def test_five_commands_bring_a_dropped_database_back(
    fresh: MakeFresh, postgresql: Server, tmp_path: Path
) -> None:
    source = fresh(postgresql)
    fill(source)
    profile_for(tmp_path, source)
    name, manifest = source.url.rpartition("/")[2], back_up()
    before = content(postgresql, name)
    with psycopg.connect(postgresql.url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name}".encode())

    done = katax("db", "restore", manifest.name, "--into", name, "-y")

    assert done.code == 0, done.err
    assert content(postgresql, name) == before
