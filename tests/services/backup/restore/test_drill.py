"""A drill proves a backup on a throwaway database, and says in its manifest what it found."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from threading import Thread

import psycopg
import pytest

from katax_cli.engines.postgresql.backup import restore as postgresql_restore
from katax_cli.errors import Unavailable
from katax_cli.services.backup.manifest import Manifest, RestoreDrill, read_manifest, write_manifest
from katax_cli.services.backup.restore.drill import drill_backup, stamp
from katax_cli.services.backup.restore.embedded import remove_killed
from katax_cli.services.backup.work import StoppableWork
from katax_cli.services.tables.scratch import new_name, open_settings
from tests.cli.harness import Done, katax, write_profile
from tests.cli.processes import spawn
from tests.engines.connections import settings_for
from tests.promises.test_backup import lying_tool
from tests.servers import Server, pgbouncer
from tests.servers.fixtures import MakeFresh, Target
from tests.servers.fleet import Fleet
from tests.services.backup.restore.rich import fill
from tests.services.backup.restore.test_run import broken_tools, databases
from tests.services.backup.server_of_backups import back_up
from tests.waiting import SECONDS, until

SMOKE = '["SELECT count(*) FROM app.users", "SELECT 1 FROM orders LIMIT 1"]'


def profile(folder: Path, target: Target, smoke: str = "[]", tools: Path | None = None) -> None:
    extra = f'[backup]\nsmoke = {smoke}\ntools = "{tools or target.server.tools}"\n'
    write_profile(folder, {"main": target.url}, extra=extra, connect_timeout=SECONDS)


@pytest.fixture
def manifest(fresh: MakeFresh, postgresql: Server, tmp_path: Path) -> Manifest:
    """Of a backup that says to be from another server than the one that is there."""
    target = fresh(postgresql)
    fill(target)
    profile(tmp_path, target, SMOKE)
    made = replace(back_up(), server_id="postgresql:1")
    write_manifest(tmp_path / "backups" / made.name, made)
    return made


def drill(*words: str) -> Done:
    return katax("db", "backups", "drill", *words, "-f", "json")


def stamped(folder: Path, manifest: Manifest) -> tuple[RestoreDrill, ...]:
    return read_manifest(folder / "backups" / manifest.name).drills


def test_a_statement_that_is_cut_says_nothing_of_the_backup(
    manifest: Manifest, postgresql: Server, tmp_path: Path
) -> None:
    before, work = databases(postgresql), StoppableWork("main")
    sleeps = f"SELECT pg_sleep(600), '{manifest.name}'"

    def cut() -> None:
        with psycopg.connect(postgresql.url, autocommit=True) as connection:
            running = "SELECT FROM pg_stat_activity WHERE state = 'active' AND query = %s"
            until(lambda: connection.execute(running, [sleeps]).rowcount)
        work.cut()

    cutting = Thread(target=cut)
    cutting.start()
    folder, tools = tmp_path / "backups" / manifest.name, str(postgresql.tools)
    with open_settings(settings_for(postgresql)) as database, pytest.raises(Unavailable):
        drill_backup(folder, database, work=work, smoke=[sleeps], tools=tools)
    cutting.join()

    assert stamped(tmp_path, manifest) == ()
    assert databases(postgresql) == before


def test_a_drill_stamps_the_manifest_and_leaves_nothing(
    manifest: Manifest, postgresql: Server, tmp_path: Path
) -> None:
    before = databases(postgresql)

    done = drill("--latest", "--on", "main")

    assert done.code == 0, done.err
    [found] = stamped(tmp_path, manifest)
    assert (found.passed, found.connection, found.problems) == (True, "main", ())
    assert found.server_id.startswith("postgresql:")
    assert found.restore_seconds > 0
    assert done.json == {
        "backup": manifest.name,
        "drilled_at": found.drilled_at,
        "connection": "main",
        "server_id": found.server_id,
        "passed": True,
        "restore_seconds": found.restore_seconds,
        "problems": [],
    }
    assert databases(postgresql) == before
    assert katax("db", "backups", "verify").code == 0


def test_a_pooler_that_the_profile_does_not_name_costs_no_drill(
    manifest: Manifest, postgresql: Server, tmp_path: Path, fleet: Fleet
) -> None:
    """PgBouncer refuses the options by which pg_restore asks for messages in English."""
    bouncer = pgbouncer.launch(postgresql, fleet.room.folder("session-bouncer"), mode="session")
    try:
        profile(tmp_path, Target("postgresql", bouncer.url, postgresql))
        done = drill(manifest.name, "--on", "main")
        assert (done.code, stamped(tmp_path, manifest)[-1].passed) == (0, True), done.err
    finally:
        bouncer.stop()


def test_a_drill_never_subscribes_and_drops_what_a_subscription_keeps(
    fresh: MakeFresh, postgresql: Server, tmp_path: Path
) -> None:
    target, before = fresh(postgresql), databases(postgresql)
    profile(tmp_path, target)
    made = "CREATE SUBSCRIPTION \"a s\" CONNECTION 'host=192.0.2.1' PUBLICATION p WITH (connect = false, slot_name = s)"
    dropped = ('ALTER SUBSCRIPTION "a s" SET (slot_name = NONE)', 'DROP SUBSCRIPTION "a s"')
    with psycopg.connect(target.url, autocommit=True) as connection:
        connection.execute(made.encode())
        try:
            manifest = back_up()
            done = drill(manifest.name, "--on", "main", "--same-server", "-y")
        finally:
            for statement in dropped:
                connection.execute(statement.encode())

    assert (done.code, done.json["problems"]) == (0, []), done.err
    assert databases(postgresql) == before


def test_what_does_not_come_out_as_it_went_in_does_not_pass(
    manifest: Manifest, postgresql: Server, tmp_path: Path
) -> None:
    folder, before = tmp_path / "backups" / manifest.name, databases(postgresql)
    file = tmp_path / "profiles" / "test.toml"
    text = file.read_text()
    smoke = (
        '["SELECT 1 FROM app.users WHERE age > 1000", "SELECT max(id) < 5 FROM app.users", "SELECT nothing"]'
    )

    file.write_text(text.replace(SMOKE, smoke))
    assert drill(manifest.name, "--on", "main").code == 1
    problems = stamped(tmp_path, manifest)[-1].problems
    assert [problem.rpartition(": ")[2] for problem in problems[:2]] == ["no row", "False"]
    assert 'column "nothing" does not exist' in problems[2]

    file.write_text(text)
    rows = {**manifest.rows, "public.orders": 501, "public.gone": 3}
    write_manifest(folder, replace(manifest, rows=rows, schema_hash="0" * 64))
    assert drill(manifest.name, "--on", "main").code == 1
    found = stamped(tmp_path, manifest)[-1]
    assert found.problems == (
        "rows of public.gone: 3 in the backup, 0 restored",
        "rows of public.orders: 501 in the backup, 500 restored",
    )
    write_manifest(folder, replace(manifest, schema_hash="0" * 64))
    assert drill(manifest.name, "--on", "main").code == 1
    assert stamped(tmp_path, manifest)[-1].problems == ("the schema differs from the one that was backed up",)
    assert databases(postgresql) == before


def test_a_server_that_fails_says_nothing_of_the_backup(
    manifest: Manifest, postgresql: Server, tmp_path: Path
) -> None:
    """The bad twin: a tool that fails because of the dump."""
    file, before = tmp_path / "profiles" / "test.toml", databases(postgresql)
    text, tools = file.read_text(), postgresql.tools
    assert tools is not None
    said = "echo 'pg_restore: error: {}' >&2; exit 1"
    full, cut = said.format("could not extend file"), said.format("server closed the connection unexpectedly")
    for ending in (full, cut, "kill -9 $$"):
        file.write_text(text.replace(str(tools), str(broken_tools(tmp_path, tools, ending))))
        done = drill(manifest.name, "--on", "main")
        assert (done.code, "was not drilled, which says nothing of it: pg_restore failed" in done.err) == (
            1,
            True,
        )
        assert stamped(tmp_path, manifest) == ()
    killed = tmp_path / "killed"  # after all is restored, while it is compared
    killed.mkdir()
    (killed / "pg_restore").symlink_to(tools / "pg_restore")
    lying_tool(killed, tools / "pg_dump", "kill -9 $$")
    file.write_text(text.replace(str(tools), str(killed)))
    done = drill(manifest.name, "--on", "main")
    assert (done.code, "was not drilled, which says nothing of it: pg_dump failed" in done.err) == (1, True)
    file.write_text(text.replace(SMOKE, """["DO $$ BEGIN RAISE SQLSTATE '53100'; END $$"]"""))
    assert "was not drilled, which says nothing of it: smoke" in drill(manifest.name, "--on", "main").err
    assert stamped(tmp_path, manifest) == ()
    ending = said.format('relation "x" does not exist')
    file.write_text(text.replace(str(tools), str(broken_tools(tmp_path, tools, ending))))
    assert drill(manifest.name, "--on", "main").code == 1
    assert stamped(tmp_path, manifest)[-1].problems == ('pg_restore failed: relation "x" does not exist',)
    assert databases(postgresql) == before


def test_the_server_of_the_backup_is_refused_unless_it_has_room(
    manifest: Manifest, postgresql: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drill(manifest.name, "--on", "main")
    here = stamped(tmp_path, manifest)[-1].server_id
    write_manifest(tmp_path / "backups" / manifest.name, replace(manifest, server_id=here))
    before = databases(postgresql)

    done = drill(manifest.name, "--on", "main")
    assert (done.code, "or say --same-server" in done.err) == (4, True)

    with monkeypatch.context() as patched:
        patched.setattr(postgresql_restore, "_free_bytes", lambda folder, backend: 1000)
        done = drill(manifest.name, "--on", "main", "--same-server")
        assert (done.code, "'main' has 1,000 bytes free, and the drill needs" in done.err) == (4, True)

        patched.setattr(postgresql_restore, "_free_bytes", lambda folder, backend: None)
        done = drill(manifest.name, "--on", "main", "--same-server")
        assert (done.code, "the free space of 'main' cannot be seen" in done.err) == (4, True)
        assert stamped(tmp_path, manifest) == ()

        assert drill(manifest.name, "--on", "main", "--same-server", "-y").code == 0
    assert drill(manifest.name, "--on", "main", "--same-server", "-y").code == 0
    assert databases(postgresql) == before


def test_the_database_of_a_killed_drill_is_removed_by_the_next(
    manifest: Manifest, postgresql: Server, tmp_path: Path
) -> None:
    assert postgresql.tools is not None
    file = tmp_path / "profiles" / "test.toml"
    text, before = file.read_text(), databases(postgresql)
    slow = broken_tools(tmp_path, postgresql.tools, "sleep 300")
    file.write_text(text.replace(str(postgresql.tools), str(slow)))

    with spawn("db", "backups", "drill", "--latest", "--on", "main", cwd=tmp_path) as process:
        until(lambda: bool(databases(postgresql) - before))
        [half] = databases(postgresql) - before
        process.send_signal(signal.SIGKILL)

    assert half.startswith("katax_drill_")
    file.write_text(text)

    def next_one() -> bool:
        """The server takes a moment to notice that a program is gone."""
        return drill("--latest", "--on", "main").code == 0 and half not in databases(postgresql)

    until(next_one)
    assert databases(postgresql) == before


def test_a_file_is_drilled_on_a_server_of_its_own(
    fresh: MakeFresh, tmp_path: Path, tmpdir_only: Path
) -> None:
    target = fresh("sqlite")
    fill(target)
    write_profile(tmp_path, {"main": target.url}, extra='[backup]\nsmoke = ["SELECT count(*) FROM users"]\n')
    manifest = back_up()

    done = drill(manifest.name, "--embedded")

    assert (done.code, done.json["connection"]) == (0, "embedded"), done.err
    assert stamped(tmp_path, manifest)[-1].passed
    assert os.listdir(tmpdir_only) == []
    assert drill(manifest.name).code == 2
    assert drill(manifest.name, "--latest", "--embedded").code == 2
    assert drill("--latest", "--embedded", "-c", "other").code == 2


def test_drills_that_begin_at_once_remove_what_a_killed_one_left_once(
    tmpdir_only: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them finds it gone that it has seen."""
    with spawn("version") as ended:
        ended.wait()
    gone, left = (new_name("drill").replace(f"_{os.getpid()}_", f"_{ended.pid}_") for _ in "ab")
    (tmpdir_only / left).mkdir()
    monkeypatch.setattr("os.listdir", lambda folder: [gone, left])
    assert remove_killed() == [left]


@pytest.fixture
def tmpdir_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files of the test's own."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_drills_that_end_at_once_all_stay_in_the_manifest(manifest: Manifest, tmp_path: Path) -> None:
    folder = tmp_path / "backups" / manifest.name
    drills = [
        RestoreDrill("2026-11-21T19:00:00+00:00", f"c{n}", "s", passed=True, restore_seconds=1.0)
        for n in range(20)
    ]
    threads = [Thread(target=stamp, args=(folder, drill)) for drill in drills]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {drill.connection for drill in read_manifest(folder).drills} == {
        f"c{number}" for number in range(20)
    }
