"""Copies that killed rehearsals left behind are removed, and no others."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.migrate.migrator import Migrator
from katax_cli.services.migrate.rehearse import rehearse
from katax_cli.services.tables.scratch import abandoned, open_settings, remove_abandoned
from tests.servers.fixtures import Target
from tests.services.migrate.conftest import Write
from tests.waiting import until

REHEARSE = """
import sys
from katax_cli.services.migrate.migrator import Migrator
from katax_cli.services.migrate.rehearse import rehearse
from katax_cli.services.tables.scratch import open_settings
from tests.services.connections import open_database
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
    until(lambda: abandoned(database, open_settings, "rehearsal") != [])
    [left] = abandoned(database, open_settings, "rehearsal")
    killer.unlink()
    write("001_a.sql", "CREATE TABLE a (id integer)", "DROP TABLE a")
    assert rehearse(migrator, open_settings).ok

    assert abandoned(open_url(sql_engine.url), open_settings, "rehearsal") == []
    assert left.startswith("katax_rehearsal_")
    assert remove_abandoned(open_url(sql_engine.url), open_settings, "rehearsal") == []
