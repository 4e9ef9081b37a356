"""Throwaway databases whose makers are gone are told from all others."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing

from katax_cli.services.tables.scratch import is_abandoned, new_name, open_settings, remove_abandoned
from tests.services.connections import open_database
from tests.waiting import until


def test_only_a_process_that_was_here_and_is_gone_proves_it() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mine = new_name("rehearsal")
    gone = mine.replace(f"_{os.getpid()}_", f"_{ended.pid}_")
    world = mine.split("_")[2]

    assert is_abandoned(gone, "rehearsal")
    assert not is_abandoned(gone, "drill")
    assert not is_abandoned(mine, "rehearsal")
    assert not is_abandoned(gone.replace(world, "0" * 8), "rehearsal")
    assert not is_abandoned(f"{gone}x", "rehearsal")
    assert not is_abandoned("katax_rehearsal_notes", "rehearsal")


def test_a_session_on_a_throwaway_database_keeps_it(postgresql_url: str) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    name = new_name("rehearsal").replace(f"_{os.getpid()}_", f"_{ended.pid}_")
    with closing(open_database(postgresql_url)) as database:
        database.execute(f'CREATE DATABASE "{name}"')
        with closing(open_database(postgresql_url, database=name)) as working:
            working.ping()
            assert name not in remove_abandoned(database, open_settings, "rehearsal")
        # A server takes a moment to notice that its client has left.
        until(lambda: name in remove_abandoned(database, open_settings, "rehearsal"))
