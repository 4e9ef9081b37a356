"""What is restored equals what was backed up, or there is nothing of it."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import psycopg
import pytest

from katax_cli.engines.postgresql.backup import restore as postgresql_restore
from katax_cli.errors import BackupError, Refused
from katax_cli.profiles.load import load_profile
from katax_cli.services.backup.manifest import Manifest, write_manifest
from katax_cli.services.backup.restore.kept import kept_databases, note_kept
from katax_cli.services.backup.restore.run import prepare
from katax_cli.services.backup.work import StoppableWork
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.runtime.runtime import Runtime
from katax_cli.services.tables.scratch import open_settings
from tests.cli.harness import katax, write_profile
from tests.cli.processes import spawn
from tests.servers import Server
from tests.servers.fixtures import MakeFresh, Target
from tests.services.backup.restore.rich import content, fill, mysql_connection
from tests.services.backup.server_of_backups import back_up, profile_for
from tests.waiting import SECONDS, until


def name_of(target: Target) -> str:
    """The name of its database, as `--into` takes it."""
    path = urlsplit(target.url).path
    return path if target.engine == "sqlite" else path[1:]


@pytest.fixture(params=["postgresql", "mariadb", "sqlite"])
def source(request: pytest.FixtureRequest, fresh: MakeFresh, tmp_path: Path) -> Target:
    """A full database that the connection `main` names."""
    where = request.getfixturevalue("mariadb") if request.param == "mariadb" else request.param
    target: Target = fresh(where)
    fill(target)
    profile_for(tmp_path, target)
    return target


@pytest.fixture
def drop(postgresql: Server, mariadb: Server) -> Iterator[Callable[[str], str]]:
    """Remembers names of databases that tests make."""
    names: list[str] = []

    def remember(name: str) -> str:
        names.append(name)
        return name

    yield remember
    with psycopg.connect(postgresql.url, autocommit=True) as connection:
        for name in names:
            quoted = name.replace('"', '""')
            connection.execute(f'DROP DATABASE IF EXISTS "{quoted}" WITH (FORCE)'.encode())
    with mysql_connection(mariadb, mariadb.database) as session:
        for name in names:
            session.cursor().execute(f"DROP DATABASE IF EXISTS `{name}`")


def databases(server: Server) -> set[str]:
    with psycopg.connect(server.url) as connection:
        return {name for (name,) in connection.execute("SELECT datname FROM pg_database").fetchall()}


def test_what_is_restored_equals_what_was_backed_up(
    source: Target, tmp_path: Path, drop: Callable[[str], str]
) -> None:
    before = content(source.server, name_of(source))
    manifest = back_up()
    into = str(tmp_path / "copy.db") if source.engine == "sqlite" else drop(f"{name_of(source)}_copy")

    done = katax("db", "restore", manifest.name, "--into", into, "-y", "-f", "json")

    assert done.code == 0, done.err
    assert done.json["target"] == into
    assert done.json["rows"] == sum(manifest.rows.values()) >= 1000
    assert content(source.server, into) == before
    assert content(source.server, name_of(source)) == before, "the source is as it was"


def test_what_counts_goes_on_in_a_restored_database(
    fresh: MakeFresh, postgresql: Server, tmp_path: Path, drop: Callable[[str], str]
) -> None:
    source = fresh(postgresql)
    fill(source)
    profile_for(tmp_path, source)
    name = name_of(source)
    with psycopg.connect(postgresql.url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET search_path TO app, public".encode())
        connection.execute(f"COMMENT ON DATABASE {name} IS 'it''s; mine'".encode())
    into = drop(f'{name} "copy"')

    assert katax("db", "restore", back_up().name, "--into", into, "-y").code == 0

    with psycopg.connect(postgresql.url, dbname=into, autocommit=True) as connection:

        def one(sql: str) -> object:
            row = connection.execute(sql.encode()).fetchone()
            assert row is not None
            return row[0]

        assert one("INSERT INTO users (name, age) VALUES ('next', 1) RETURNING id") == 501
        assert one("INSERT INTO orders (user_id) VALUES (1) RETURNING id") == 7 + 3 * 500
        assert one("SELECT convert_from(lo_get(4711), 'UTF8')") == "a large object"
        assert one(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
        ) == ("it's; mine")


def refusal(*words: str) -> tuple[int, str]:
    done = katax("db", "restore", *words, "-y")
    assert done.code != 0, done.out
    return done.code, done.err.strip()


def test_what_is_refused_touches_nothing(
    fresh: MakeFresh, postgresql: Server, sqlite_url: str, tmp_path: Path
) -> None:
    source = fresh(postgresql)
    fill(source)
    profile_for(tmp_path, source, file=sqlite_url)
    manifest = back_up()
    folder = tmp_path / "backups" / manifest.name
    other = fresh(postgresql)
    before = databases(postgresql)

    def rewritten(changed: Manifest) -> None:
        write_manifest(folder, changed)

    rewritten(replace(manifest, server_version="99.1"))
    code, message = refusal(manifest.name, "--into", "x")
    assert code == 4
    assert f"older than the server of {manifest.name!r}, 99.1; restore on that version or later" in message

    rewritten(manifest)
    code, message = refusal(manifest.name, "--into", "x", "-c", "file")
    assert (code, message) == (
        2,
        f"katax: {manifest.name!r} is a backup of postgresql, and 'file' is sqlite; "
        "name a connection of that engine with -c",
    )

    with psycopg.connect(other.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE precious (n int)")
    code, message = refusal(manifest.name, "--into", name_of(other))
    assert (code, message) == (
        4,
        f"katax: refused: {name_of(other)!r} on 'main' is not empty, it has 1 object; "
        "restore into another name, or take its place with --swap",
    )
    assert refusal(manifest.name, "--into", "Template1")[0] == 4
    assert refusal(manifest.name, "--into", "x" * 64)[0] == 2

    (folder / "manifest.json").chmod(0o666)
    code, message = refusal(manifest.name, "--into", "x")
    assert (code, "everyone can write it" in message) == (4, True)
    (folder / "manifest.json").chmod(0o600)

    data = next(path for path in (folder / "dump").iterdir() if path.name.startswith("blob"))
    data.chmod(0o666)
    assert refusal(manifest.name, "--into", "x")[0] == 4
    data.unlink()
    code, message = refusal(manifest.name, "--into", "x")
    assert (code, f"dump/{data.name} is missing" in message) == (1, True)
    shutil.rmtree(folder / "dump")
    assert "is no whole backup" in refusal(manifest.name, "--into", "x")[1]
    assert databases(postgresql) == before


def test_what_came_while_a_restore_waited_or_worked_stays(
    source: Target, tmp_path: Path, drop: Callable[[str], str]
) -> None:
    """A target that was free when the operator was asked; the bad twin is `--swap`, which says so."""
    manifest, before = back_up(), databases(source.server) if source.engine == "postgresql" else set()
    into = str(tmp_path / "late.db") if source.engine == "sqlite" else drop(f"{name_of(source)}_late")
    with Runtime(load_profile()) as runtime:
        database = cast("SqlDatabase", runtime.database("main"))
        if source.engine == "mysql":
            database.execute(f"CREATE DATABASE {into}")
        restore = prepare(
            tmp_path / "backups" / manifest.name,
            database,
            into,
            work=StoppableWork("main"),
            tools=str(source.server.tools) if source.server.tools else None,
        )
        if source.engine == "postgresql":
            database.execute(f"CREATE DATABASE {into}")
        with open_settings(replace(database.settings, **place_of(source, into))) as opened:
            late = cast("SqlDatabase", opened)
            late.execute("CREATE TABLE orders (precious int)")
            with pytest.raises(Refused, match="is not empty, it has 1 object"):
                restore.run()
            assert late.run("SELECT precious FROM orders").rows == []
    assert not [name for name in os.listdir(tmp_path) if "katax_" in name]
    if before:
        assert databases(source.server) == before | {into}


def place_of(source: Target, into: str) -> dict[str, Any]:
    return {"path": into} if source.engine == "sqlite" else {"database": into}


def test_a_database_with_prepared_transactions_is_not_replaced(
    fresh: MakeFresh, postgresql: Server, tmp_path: Path
) -> None:
    """No end of a session ends them, so its name could not be given away: that is said before anything is done."""
    source = fresh(postgresql)
    profile_for(tmp_path, source)
    with psycopg.connect(source.url, autocommit=True) as session:
        session.execute("CREATE TABLE t (n int)")
        manifest = back_up()
        session.execute("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'it''s'")
        try:
            code, message = refusal(manifest.name, "--into", name_of(source), "--swap")
        finally:
            session.execute("ROLLBACK PREPARED 'it''s'")
        assert (code, 'has prepared transactions, "it\'s" first' in message) == (4, True), message
        session.execute("SELECT 1")


def test_the_role_prod_types_the_name_of_its_connection(source: Target, tmp_path: Path) -> None:
    manifest = back_up()
    file = tmp_path / "profiles" / "test.toml"
    file.write_text(file.read_text().replace('role = "dev"', 'role = "prod"'))

    code, message = refusal(manifest.name, "--into", "x")

    assert (code, message.endswith("repeat with --confirm test/main")) == (4, True), message
    assert not (tmp_path / "x").exists()


def test_a_swap_keeps_the_old_database_and_ends_its_sessions(
    fresh: MakeFresh, postgresql: Server, tmp_path: Path, drop: Callable[[str], str]
) -> None:
    source = fresh(postgresql)
    fill(source)
    profile_for(tmp_path, source)
    manifest, name = back_up(), name_of(source)
    before = content(postgresql, name)
    with psycopg.connect(source.url, autocommit=True) as session:
        session.execute("DROP TABLE orders CASCADE; CREATE TABLE late (n int)")
        damaged = content(postgresql, name)

        done = katax("db", "restore", manifest.name, "--into", name, "--swap", "-y", "-f", "json")

        assert done.code == 0, done.err
        with pytest.raises(psycopg.errors.AdminShutdown):
            session.execute("SELECT 1")
    kept = drop(done.json["kept"])
    assert kept.startswith(f"{name}_katax_old_")
    assert content(postgresql, name) == before
    assert content(postgresql, kept) == damaged


def test_a_file_takes_the_place_of_one_that_nobody_uses(fresh: MakeFresh, tmp_path: Path) -> None:
    source = fresh("sqlite")
    fill(source)
    profile_for(tmp_path, source)
    manifest, path = back_up(), name_of(source)
    before = content(source.server, path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE orders")
        connection.execute("PRAGMA journal_mode = DELETE")
    damaged = content(source.server, path)
    with spawn_holder(path) as holder:
        code, message = refusal(manifest.name, "--into", path, "--swap")
        holder.kill()
        assert code == 1
        assert f"{os.path.realpath(path)!r} is open in process {holder.pid} (" in message
        assert content(source.server, path) == damaged

    done = katax("db", "restore", manifest.name, "--into", path, "--swap", "-y", "-f", "json")

    assert done.code == 0, done.err
    assert content(source.server, path) == before
    assert content(source.server, done.json["kept"]) == damaged
    assert not [name for name in os.listdir(Path(path).parent) if name.startswith("katax_restore")]


def test_a_file_that_a_link_names_is_replaced_where_it_is(fresh: MakeFresh, tmp_path: Path) -> None:
    """In the place of the link the others would go on with the old one."""
    source = fresh("sqlite")
    fill(source)
    profile_for(tmp_path, source)
    path, link = name_of(source), tmp_path / "link.db"
    link.symlink_to(path)
    manifest, before = back_up(), content(source.server, path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE orders")

    done = katax("db", "restore", manifest.name, "--into", str(link), "--swap", "-y", "-f", "json")

    assert done.code == 0, done.err
    assert (link.is_symlink(), done.json["target"]) == (True, os.path.realpath(path))
    assert content(source.server, path) == before
    link.unlink()
    link.symlink_to(tmp_path / "absent.db")
    assert katax("db", "restore", manifest.name, "--into", str(link), "-y").code == 0
    assert content(source.server, str(tmp_path / "absent.db")) == before


def spawn_holder(path: str) -> subprocess.Popen[bytes]:
    """A process that has the file open and does nothing with it."""
    words = [sys.executable, "-c", f"file = open({path!r}); print(flush=True); input()"]
    holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    return holder


def broken_tools(folder: Path, tools: Path, ending: str) -> Path:
    """pg_restore that restores half of what it should and then ends in some way; everything else is the real one."""
    broken = folder / f"broken-{len(ending)}"
    broken.mkdir()
    (broken / "pg_dump").symlink_to(tools / "pg_dump")
    script = broken / "pg_restore"
    script.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *--exit-on-error*) {tools}/pg_restore --section=pre-data "$@"; {ending};; '
        f'*) exec {tools}/pg_restore "$@";; esac\n'
    )
    script.chmod(0o755)
    return broken


ENDINGS = {
    "echo 'pg_restore: error: no space left on device' >&2; exit 1": "no space left on device",
    "kill -9 $$": "status 137",
    "exit 0": "was not restored as it was backed up: rows of app.a.b: 3 in the backup, 0 restored; rows of app.users",
}


def test_a_restore_that_fails_leaves_nothing(fresh: MakeFresh, postgresql: Server, tmp_path: Path) -> None:
    source = fresh(postgresql)
    fill(source)
    profile_for(tmp_path, source)
    manifest = back_up()
    before, whole = databases(postgresql), content(postgresql, name_of(source))
    assert postgresql.tools is not None

    for (ending, reason), into in zip(ENDINGS.items(), ("absent", name_of(source), "absent"), strict=True):
        profile_with_tools(tmp_path, source, broken_tools(tmp_path, postgresql.tools, ending))
        code, message = refusal(manifest.name, "--into", into, "--swap")
        assert (code, reason in message) == (1, True), message
        assert databases(postgresql) == before

    assert content(postgresql, name_of(source)) == whole


def profile_with_tools(folder: Path, target: Target, tools: Path) -> None:
    extra = f'[backup]\ntools = "{tools}"\n'
    write_profile(folder, {"main": target.url}, extra=extra, connect_timeout=SECONDS)


def test_what_a_killed_restore_left_is_removed_by_the_next(
    fresh: MakeFresh, postgresql: Server, tmp_path: Path, drop: Callable[[str], str]
) -> None:
    source = fresh(postgresql)
    fill(source)
    profile_for(tmp_path, source)
    manifest, into = back_up(), drop(f"{name_of(source)}_copy")
    assert postgresql.tools is not None
    profile_with_tools(tmp_path, source, broken_tools(tmp_path, postgresql.tools, "sleep 300"))
    before = databases(postgresql)

    with spawn("db", "restore", manifest.name, "--into", into, "-y", cwd=tmp_path) as process:
        until(lambda: bool(databases(postgresql) - before))
        [half] = databases(postgresql) - before
        process.send_signal(signal.SIGKILL)

    assert half.startswith("katax_restore_")
    profile_for(tmp_path, source)

    def next_one() -> bool:
        """The server takes a moment to notice that a program is gone."""
        done = katax("db", "restore", manifest.name, "--into", into, "--swap", "-y")
        return done.code == 0 and half not in databases(postgresql)

    until(next_one)
    left = databases(postgresql) - before - {into}
    assert all(drop(name).startswith(f"{into}_katax_old_") for name in left)
    assert content(postgresql, into) == content(postgresql, name_of(source))


def test_a_plain_role_needs_createdb_and_nothing_else(
    fresh: MakeFresh,
    postgresql: Server,
    tmp_path: Path,
    drop: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = fresh(postgresql)
    fill(source)
    name, role = name_of(source), f"plain_{os.getpid()}"
    into = drop(f"{name}_copy")
    with psycopg.connect(source.url, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'plain'".encode())
        owner.execute(f"CREATE ROLE {role}_2".encode())
        try:
            profile_for(tmp_path, source)
            owner.execute(f"ALTER TABLE parts OWNER TO {role}_2; GRANT SELECT ON orders TO {role}_2".encode())
            by_owner = back_up()
            url = source.url.replace(f"{postgresql.user}:{postgresql.password}@", f"{role}:plain@")
            profile_for(tmp_path, url, postgresql)
            code, message = refusal(by_owner.name, "--into", into)
            assert (code, message.endswith("; the role needs CREATEDB")) == (1, True), message

            owner.execute(f"ALTER ROLE {role} CREATEDB".encode())
            done = katax("db", "restore", by_owner.name, "--into", into, "-y")
            assert done.code == 0, done.err
            assert (
                f"owners are not restored: this role may not act for '{postgresql.user}' on 'main'"
                in done.err
            )
            with psycopg.connect(postgresql.url, dbname=into) as restored:
                tables = "SELECT tableowner, has_table_privilege($1, 'orders', 'SELECT') FROM pg_tables "
                row = restored.execute(
                    tables.replace("$1", "%s") + "WHERE tablename = 'parts'", [f"{role}_2"]
                )
                assert row.fetchone() == (role, True), "grants are kept where the role is there"

            done = katax("db", "restore", by_owner.name, "--into", into, "--swap", "-y", "-f", "json")
            assert done.code == 0, done.err
            drop(done.json["kept"])

            # In a language that katax does not know nobody tells a broken dump from a full disk.
            assert postgresql.tools is not None
            broken = broken_tools(
                tmp_path, postgresql.tools, "echo 'Relation »x« existiert nicht' >&2; exit 1"
            )
            profile_for(tmp_path, url, postgresql, tools=broken)
            unsure = "cannot be told, for the server's messages are not in English"
            code, message = refusal(by_owner.name, "--into", f"{into}_2")
            assert (code, unsure in message) == (1, False), message
            monkeypatch.setattr(postgresql_restore, "_ENGLISH", "Division durch Null")
            code, message = refusal(by_owner.name, "--into", f"{into}_2")
            assert (code, unsure in message) == (1, True), message
        finally:
            owner.execute(
                f"ALTER TABLE parts OWNER TO CURRENT_USER; REVOKE ALL ON orders FROM {role}_2".encode()
            )
            for kept in [one for one in databases(postgresql) if one.startswith(into)]:
                owner.execute(f'DROP DATABASE "{kept}" WITH (FORCE)'.encode())
            owner.execute(f"DROP ROLE {role}, {role}_2".encode())


def test_the_old_database_is_noted_before_it_loses_its_name(
    fresh: MakeFresh, postgresql: Server, tmp_path: Path
) -> None:
    """Whatever ends the work between the two, the next prune knows its name; without the note nothing is replaced."""
    folder = tmp_path / "backups"

    def fail(connection: str, kept: str) -> None:
        note_kept(folder, connection, kept)
        raise BackupError(f"ended at {kept}")

    for target in (fresh("sqlite"), fresh(postgresql)):
        profile_for(tmp_path, target)
        assert katax("db", "exec", "CREATE TABLE t (n int)").code == 0
        manifest, before = back_up(), databases(postgresql)
        assert katax("db", "exec", "INSERT INTO t VALUES (1)").code == 0
        with Runtime(load_profile()) as runtime, pytest.raises(BackupError, match=r"ended at .*_katax_old_"):
            prepare(
                folder / manifest.name,
                runtime.database("main"),
                name_of(target),
                work=StoppableWork("main"),
                swap=True,
                tools=str(target.server.tools) if target.server.tools else None,
                note_kept=fail,
            ).run()
        assert katax("db", "query", "SELECT n FROM t", "-f", "json").json == [{"n": 1}]
        assert (databases(postgresql), list(tmp_path.glob("*_katax_*"))) == (before, [])
        [kept] = kept_databases(folder)

        done = katax("db", "backups", "prune", "--keep-last", "9", "-y")
        assert (done.code, f"there is no {kept.name!r} on 'main'" in done.err) == (0, True), done.err
        assert kept_databases(folder) == []
