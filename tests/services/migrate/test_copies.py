"""Copies that killed rehearsals left behind are removed, and no others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.migrate import copies
from katax_cli.services.migrate.migrator import Migrator
from katax_cli.services.migrate.rehearse import open_settings, rehearse
from tests.servers.fixtures import Target
from tests.services.migrate.conftest import Write
from tests.waiting import until

REHEARSE = """
import sys
from katax_cli.services.migrate.migrator import Migrator
from katax_cli.services.migrate.rehearse import open_settings, rehearse
from tests.services.migrate.conftest import open_database
rehearse(Migrator(open_database(sys.argv[1]), sys.argv[2]), open_settings)
"""


def test_the_copy_of_a_killed_rehearsal_is_removed_by_the_next(
    sql_engine: Target,
    open_url: Callable[..., SqlDatabase],
    folder: Path,
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    database = open_url(sql_engine.url)
    migrator = Migrator(database, str(folder))
    killer = write("001_a.py", raw=b"import os, signal\ndef up(db): os.kill(os.getpid(), signal.SIGKILL)\n")
    words = [sys.executable, "-c", REHEARSE, sql_engine.url, str(folder)]
    done = subprocess.run(words, cwd=Path(__file__).parents[3], check=False)
    assert done.returncode == -signal.SIGKILL

    # A server takes a moment to notice that its client was killed.
    until(lambda: copies.abandoned(database, open_settings) != [])
    [left] = copies.abandoned(database, open_settings)
    killer.unlink()
    write("001_a.sql", "CREATE TABLE a (id integer)", "DROP TABLE a")
    assert rehearse(migrator, open_settings).ok

    assert copies.abandoned(open_url(sql_engine.url), open_settings) == []
    assert left.startswith("katax_rehearsal_")
    assert copies.remove_abandoned(open_url(sql_engine.url), open_settings) == []


def test_only_a_process_that_was_here_and_is_gone_proves_it() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mine = copies.new_name()
    gone = mine.replace(f"_{os.getpid()}_", f"_{ended.pid}_")
    world = mine.split("_")[2]

    assert copies.is_abandoned(gone)
    assert not copies.is_abandoned(mine)
    assert not copies.is_abandoned(gone.replace(world, "0" * 8))
    assert not copies.is_abandoned(f"{gone}x")
    assert not copies.is_abandoned("katax_rehearsal_notes")


def test_a_session_on_a_copy_keeps_it(postgresql_url: str, open_url: Callable[..., SqlDatabase]) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    name = copies.new_name().replace(f"_{os.getpid()}_", f"_{ended.pid}_")
    database = open_url(postgresql_url)
    database.execute(f'CREATE DATABASE "{name}"')
    working = open_url(postgresql_url, database=name)
    working.ping()

    assert name not in copies.remove_abandoned(database, open_settings)
    working.close()
    assert name in copies.remove_abandoned(database, open_settings)
