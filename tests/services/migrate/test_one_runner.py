"""One runner at a time: others wait, know for whom, and run nothing twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from katax_cli.core.sql import AnySql
from katax_cli.engines.base import Params, Result
from katax_cli.errors import KataxError, LockHeld, LockLost, QueryError
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.locks.migration_lock import Holder
from katax_cli.services.locks.runner_identity import this_runner
from katax_cli.services.migrate.connection import MigrationConnection
from katax_cli.services.migrate.migrator import Migrator
from tests.fake_clock import FakeClock
from tests.servers.fixtures import MakeFresh, Target, Throwaway
from tests.services.crowd import crowd
from tests.services.migrate.conftest import Write
from tests.services.migrate.killable import CROWD, PATIENCE
from tests.waiting import until

OpenUrl = Callable[..., SqlDatabase]
RUNNERS, FILES = 8, 5


def test_two_paths_to_a_sqlite_file_are_one_lock(
    tmp_path: Path, open_url: OpenUrl, folder: Path, write: Write
) -> None:
    write("001_a.sql", "CREATE TABLE a (id integer)")
    (tmp_path / "elsewhere").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "other.db").symlink_to("one.db")
    one = Migrator(open_url(f"sqlite:///{tmp_path}/one.db"), str(folder), lock_timeout=0)

    with one.locked():
        for path in ("other.db", "elsewhere/one.db", "elsewhere/other.db"):
            other = Migrator(open_url(f"sqlite:///{tmp_path}/{path}"), str(folder), lock_timeout=0)
            with pytest.raises(LockHeld):
                other.up()


def test_eight_runners_apply_each_file_exactly_once(
    sql_engine: Target, open_url: OpenUrl, folder: Path, write: Write
) -> None:
    write("000_log.sql", "CREATE TABLE log (id integer)")
    for number in range(1, FILES + 1):
        write(f"{number:03}_x.sql", f"INSERT INTO log VALUES ({number})")

    crowd(CROWD, sql_engine.url, str(folder), processes=RUNNERS)

    rows = open_url(sql_engine.url).query("SELECT id FROM log ORDER BY id")
    assert [row["id"] for row in rows] == list(range(1, FILES + 1))


def test_a_ledger_that_another_runner_makes_meanwhile_is_read(
    sql_engine: Target, open_url: OpenUrl, folder: Path
) -> None:
    first, second = (Migrator(open_url(sql_engine.url), str(folder)) for _ in range(2))

    class Late(MigrationConnection):
        """Answers a first look just before the other runner commits its table."""

        def run(self, sql: AnySql, params: Params = None, **more: Any) -> Result:
            try:
                return super().run(sql, params, **more)
            except QueryError:
                with first.locked():
                    raise

    with Late(second.sql) as session:
        assert second.ledger.entries(session) == []


def test_a_waiter_is_told_who_holds_the_lock_and_at_which_file(
    sql_engine: Target, open_url: OpenUrl, folder: Path, write: Write
) -> None:
    gate = folder / "gate"
    (folder / "001_slow.py").write_text(
        "import os, time\ndef up(db):\n"
        f"    open({str(gate)!r}, 'w').close()\n"
        f"    while os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
    )
    first = Migrator(open_url(sql_engine.url), str(folder))
    thread = threading.Thread(target=first.up)
    thread.start()
    try:
        until(gate.exists)
        second = Migrator(open_url(sql_engine.url), str(folder), lock_timeout=0.1)
        with pytest.raises(LockHeld) as error:
            second.up()
        holder = second.holder()
    finally:
        gate.unlink()
        thread.join()

    assert holder is not None
    assert (holder.pid, holder.file) == (os.getpid(), "001_slow.py")
    assert holder.host is not None
    assert holder.since is not None
    assert holder.user
    assert str(error.value) == f"lock 'katax_migrations' is held by {holder}"
    assert second.holder() is None


def test_statements_that_are_sent_together_name_their_file_to_who_waits(
    fresh: MakeFresh, open_url: OpenUrl, folder: Path, write: Write
) -> None:
    target = fresh("postgresql")
    write("001_slow.sql", "SELECT pg_sleep(60)")
    first, second = (Migrator(open_url(target.url), str(folder)) for _ in range(2))
    # The first file of a run is announced by itself; what follows carries its name.
    write("000_a.sql", "CREATE TABLE a (id integer)")
    thread = threading.Thread(target=lambda: suppressed(first.up))
    thread.start()
    found: list[Holder] = []

    def at_the_slow_file() -> bool:
        found.extend(one for one in [second.holder()] if one is not None and one.file == "001_slow.sql")
        return bool(found)

    try:
        until(at_the_slow_file)
    finally:
        for holder in found[:1]:
            second.sql.query("SELECT pg_terminate_backend($1::int)", [int(holder.session)])
        thread.join()

    assert (found[0].pid, found[0].user) == (os.getpid(), found[0].user)
    assert [one.state for one in second.status()] == ["applied", "pending"]


def suppressed(call: Callable[[], object]) -> None:
    with suppress(KataxError):
        call()


def test_a_waiter_says_for_whom_it_waits_and_then_goes_on(
    sql_engine: Target, open_url: OpenUrl, folder: Path, write: Write
) -> None:
    write("001_a.sql", "CREATE TABLE a (id integer)")
    notes: list[str] = []
    told = threading.Event()

    def note(text: str) -> None:
        notes.append(text)
        told.set()

    first = Migrator(open_url(sql_engine.url), str(folder))
    second = Migrator(open_url(sql_engine.url), str(folder), lock_timeout=PATIENCE, on_note=note)
    with first.locked():
        thread = threading.Thread(target=second.up)
        thread.start()
        assert told.wait(60)
    thread.join()

    assert notes[0].startswith("waiting for katax_migrations: held by ")
    assert [one.state for one in second.status()] == ["applied"]


@pytest.mark.parametrize("engine", ["postgresql", "mysql", "sqlite"])
def test_a_lock_that_is_lost_stops_before_the_next_migration(
    engine: str, fresh: MakeFresh, open_url: OpenUrl, folder: Path, write: Write
) -> None:
    release = {
        "postgresql": "SELECT pg_advisory_unlock_all()",
        "mysql": "DO RELEASE_ALL_LOCKS()",
        "sqlite": "SELECT 1",
    }[engine]
    target = fresh(engine)
    write("001_a.sql", release)
    write("002_b.sql", "CREATE TABLE b (id integer)")
    migrator = Migrator(open_url(target.url), str(folder))
    if engine == "sqlite":
        lock = Path(f"{target.url.removeprefix('sqlite:///')}.katax_migrations.lock")
        migrator._on_done = lambda _: lock.unlink()

    with pytest.raises(LockLost) as error:
        migrator.up()

    assert "before 002_b.sql; nothing more was run" in str(error.value)
    assert [one.state for one in migrator.status()] == ["applied", "pending"]


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_a_session_that_is_ended_runs_no_further_statement(
    engine: str, fresh: MakeFresh, open_url: OpenUrl, folder: Path, write: Write
) -> None:
    write("001_log.sql", "CREATE TABLE log (id integer)")
    own_end = {
        "postgresql": "SELECT pg_terminate_backend(pg_backend_pid())",
        "mysql": "KILL CONNECTION_ID()",
    }[engine]
    write("002_end.sql", f"INSERT INTO log VALUES (1);\n{own_end};\nINSERT INTO log VALUES (2)")
    write("003_c.sql", "INSERT INTO log VALUES (3)")
    database = open_url(fresh(engine).url)

    with pytest.raises(KataxError):
        Migrator(database, str(folder)).up()

    rows = {row["id"] for row in database.query("SELECT id FROM log")}
    assert rows <= {1}


def test_an_index_that_is_built_concurrently_does_not_wait_for_those_who_wait_for_the_lock(
    fresh: MakeFresh, open_url: OpenUrl, folder: Path, write: Write
) -> None:
    target = fresh("postgresql")
    write("001_a.sql", "CREATE TABLE a (id integer)")
    Migrator(open_url(target.url), str(folder)).up()
    write("002_i.sql", "-- katax: no-transaction\nCREATE INDEX CONCURRENTLY i ON a (id)")
    waiters = [Migrator(open_url(target.url), str(folder), lock_timeout=PATIENCE) for _ in range(3)]
    told = [threading.Event() for _ in waiters]
    for migrator, event in zip(waiters, told, strict=True):
        migrator._on_note = lambda _, event=event: event.set()  # type: ignore[misc]
    threads = [threading.Thread(target=migrator.up) for migrator in waiters]

    first = Migrator(open_url(target.url), str(folder))
    with first.locked() as runner:
        for thread in threads:
            thread.start()
        assert all(event.wait(60) for event in told)
        runner.run(first.pending_job("002_i.sql"))
    for thread in threads:
        thread.join()

    assert [one.state for one in first.status()] == ["applied", "applied"]


def test_unlock_of_a_living_holder_is_refused(
    sql_engine: Target, open_url: OpenUrl, folder: Path, write: Write
) -> None:
    write("001_a.sql", "CREATE TABLE a (id integer)")
    first, second = (Migrator(open_url(sql_engine.url), str(folder)) for _ in range(2))
    with first.locked() as runner:
        runner._lock.announce("001_a.sql")
        with pytest.raises(LockHeld) as error:
            second.unlock()
    assert "may still run" in str(error.value)
    assert second.unlock() is None


def test_a_holder_is_gone_only_when_its_process_was_in_this_namespace_and_is_not() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    here = this_runner("1")
    gone = here._replace(pid=ended.pid)

    assert gone.is_gone
    assert not here.is_gone
    # The same host name and the same number in another container, and after another boot.
    assert not gone._replace(pid_namespace="pid:[1]").is_gone
    assert not gone._replace(boot_id="0").is_gone
    assert not gone._replace(host=here.host[:20] + "-of-another").is_gone
    assert not gone._replace(pid_namespace=None).is_gone
    assert not Holder("1", here.host, ended.pid).is_gone
    assert Holder("1", identity=gone).is_gone


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_a_living_runner_of_another_container_is_ended_only_with_force(
    engine: str, fresh: MakeFresh, open_url: OpenUrl, folder: Path, write: Write
) -> None:
    target = fresh(engine)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    first, second = (Migrator(open_url(target.url), str(folder)) for _ in range(2))
    with first.locked() as runner:
        known = first.ledger.runner(runner.session)
        assert known is not None
        assert known.pid == os.getpid()
        # In its container it has a number that no process here has.
        elsewhere = known._replace(pid=ended.pid, pid_namespace="pid:[1]")
        first.ledger.register(runner.session, elsewhere)
        with pytest.raises(LockHeld, match="it may still run"):
            second.unlock()
        # What another runner left, whose session had the same number, says nothing of this one.
        first.ledger.register(runner.session, known._replace(id="0" * 32, pid=ended.pid))
        holder = second.holder()
        assert holder is not None
        assert not holder.is_gone
        with pytest.raises(LockHeld):
            second.unlock(force=holder._replace(session="1"))
        assert second.unlock(force=holder) == holder
        with pytest.raises(KataxError):
            runner.session.run("SELECT 1")
    assert second.holder() is None


def test_a_session_that_does_not_end_is_not_said_to_have_ended(
    throwaway: Throwaway, open_url: OpenUrl, folder: Path
) -> None:
    server = throwaway("postgresql")
    first = Migrator(open_url(server.url), str(folder))
    second = Migrator(open_url(server.url), str(folder), clock=FakeClock())
    with first.locked() as runner:
        backend = runner.session.run("SELECT pg_backend_pid()").rows[0][0]
        holder = second.holder()
        os.kill(backend, signal.SIGSTOP)
        try:
            with pytest.raises(LockHeld, match="its session does not end"):
                second.unlock(force=holder)
        finally:
            os.kill(backend, signal.SIGCONT)
        until(lambda: second.holder() is None)


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_the_orphaned_session_of_a_runner_that_was_killed_is_ended(
    engine: str, fresh: MakeFresh, open_url: OpenUrl, folder: Path, write: Write
) -> None:
    target = fresh(engine)
    sleep = "pg_sleep(600)" if engine == "postgresql" else "sleep(600)"
    write("001_a.sql", f"SELECT {sleep}")
    words = [sys.executable, "-m", "tests.services.migrate.killable", target.url, str(folder), "0", "up"]
    migrator = Migrator(open_url(target.url), str(folder))
    running = {
        "postgresql": "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%SELECT pg_sl%' AND state = 'active' "
        "AND datname = current_database()",
        "mysql": "SELECT 1 FROM information_schema.processlist WHERE info LIKE 'SELECT sl%' AND db = DATABASE()",
    }[engine]
    with subprocess.Popen(words, cwd=Path(__file__).parents[3]) as process:
        until(lambda: len(migrator.sql.query(running)) > (engine == "postgresql"))
        process.kill()

    holder = migrator.unlock()

    assert holder is not None
    assert (holder.pid, holder.is_gone) == (process.pid, True)
    until(lambda: migrator.holder() is None)
