"""Copies that killed rehearsals left behind are removed, and no others."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from katax_cli.core.resilience.deadline import Deadline
from katax_cli.errors import Unavailable
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


ENDLESS = {
    "postgresql": "SELECT pg_sleep(3600)",
    "mysql": "SELECT sleep(3600)",
    "sqlite": "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c",
}
COPIES = {
    "postgresql": "SELECT datname FROM pg_database WHERE datname LIKE 'katax_rehearsal_%'",
    "mysql": "SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE 'katax_rehearsal_%'",
}


def test_a_rehearsal_ends_with_its_time_and_leaves_no_copy(
    sql_engine: Target,
    open_url: Callable[..., SqlDatabase],
    folder: Path,
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    write("001_a.sql", "CREATE TABLE a (id integer)", ENDLESS[sql_engine.engine])
    migrator = Migrator(open_url(sql_engine.url), str(folder))

    with pytest.raises(Unavailable):
        rehearse(migrator, partial(open_settings, deadline=Deadline(1.0)))

    if sql_engine.engine == "sqlite":
        assert list(tmp_path.glob("katax_rehearsal_*")) == []
    else:
        assert open_url(sql_engine.url).query(COPIES[sql_engine.engine]) == []
