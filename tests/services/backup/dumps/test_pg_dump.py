"""PostgreSQL's backups: by pg_dump, of one moment, whole or none."""

import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest

from katax_cli.engines.registry import part
from katax_cli.profiles.load import load_profile
from katax_cli.services.backup.dumps import pg_dump
from katax_cli.services.backup.manifest import Omission
from katax_cli.services.runtime.runtime import Runtime
from tests.cli.harness import katax
from tests.servers import Server
from tests.servers.fixtures import MakeFresh, MakeProxy, Target
from tests.services.backup.server_of_backups import back_up, left, profile_for, refused, run_sql
from tests.waiting import until

SCHEMA = (
    "CREATE TABLE t (id serial PRIMARY KEY, text text)",
    "INSERT INTO t (text) SELECT repeat('x', 50) || E'\\n\\\\.\\n' || g FROM generate_series(1, 2000) g",
    'CREATE SCHEMA "S.x"',
    'CREATE TABLE "S.x"."we""ird $1*" (n int)',
    'INSERT INTO "S.x"."we""ird $1*" VALUES (1), (NULL)',
    "CREATE TABLE empty ()",
    "CREATE TABLE parts (n int) PARTITION BY LIST (n)",
    "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1)",
    "INSERT INTO parts VALUES (1), (1)",
    "CREATE VIEW v AS SELECT * FROM t",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "SELECT lo_from_bytea(0, 'large')",
)
ROWS = {"public.t": 2000, 'S.x.we"ird $1*': 2, "public.empty": 0, "public.parts_1": 2}


@pytest.fixture
def target(fresh: MakeFresh, postgresql: Server, tmp_path: Path) -> Target:
    target = fresh(postgresql)
    profile_for(tmp_path, target)
    run_sql(*SCHEMA)
    return target


def test_a_backup_says_what_is_in_it(target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = back_up()

    assert dict(manifest.rows) == ROWS
    assert manifest.objects["large object"] == 1
    assert (manifest.objects["view"], manifest.objects["function"]) == (1, 1)
    assert (manifest.left_out, manifest.consistency) == ((), "all tables at one moment")
    assert {one.what for one in manifest.not_held} >= {"roles and their passwords", "tablespaces"}
    assert left(tmp_path) == [manifest.name]
    dump = tmp_path / "backups" / manifest.name / "dump"
    assert not [path for path in dump.glob("*.dat") if path.name != "toc.dat"], "compressed, every one"
    restore = target.server.tools / "pg_restore" if target.server.tools else Path("pg_restore")
    listed = subprocess.run([restore, "--list", dump], capture_output=True, check=True, text=True).stdout
    assert re.search(r"Compression: (1|gzip|zstd)\n", listed), listed
    monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    again = back_up("--jobs", "1")
    assert again.rows == manifest.rows, "zlib does it, too"
    assert (again.server_id, again.schema_hash) == (manifest.server_id, manifest.schema_hash)
    run_sql("CREATE INDEX i ON t (text)")
    assert back_up().schema_hash != manifest.schema_hash


def test_tables_are_held_still_from_before_the_snapshot(target: Target, tmp_path: Path) -> None:
    """A table that is truncated between snapshot and lock would look empty. Afterwards, the bad twin, all works."""
    changes = ("TRUNCATE parts", "ALTER TABLE t ADD COLUMN more int", "DROP TABLE empty")
    with Runtime(load_profile()) as runtime, psycopg.connect(target.url, autocommit=True) as other:
        engine = runtime.database("main").engine
        connection = engine.connect(60.0)
        try:
            with part(engine, "backup.dump").held(connection, 60.0) as inventory:
                other.execute("SET lock_timeout = '50ms'")
                for change in changes:
                    with pytest.raises(psycopg.errors.LockNotAvailable):
                        other.execute(change)
                other.execute("CREATE TABLE late (n int); INSERT INTO t (text) VALUES ('late')")
                with psycopg.connect(target.url) as dumping:
                    dumping.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
                    dumping.execute(f"SET TRANSACTION SNAPSHOT '{inventory.snapshot}'")
                    assert dumping.execute("SELECT count(*) FROM t").fetchall() == [(2000,)]
                    assert dumping.execute("SELECT to_regclass('late')::oid::int").fetchall() != [(None,)]
        finally:
            engine.close(connection)
        # The server takes a moment to notice that the session has ended.
        other.execute("SET lock_timeout = 0")
        for change in changes:
            other.execute(change)
    assert set(inventory.relations.values()) >= ROWS.keys()


def test_pg_dump_lets_a_change_that_waits_go_first(target: Target, tmp_path: Path) -> None:
    """It waits for katax's session, and pg_dump would wait behind it for ever."""
    tools = Path(tmp_path / "tools")
    tools.mkdir()
    real = target.server.tools or Path(str(shutil.which("pg_dump"))).parent
    (tools / "pg_restore").symlink_to(real / "pg_restore")
    (tools / "pg_dump").write_text(
        f"#!/bin/sh\ncase $1 in --version) exec {real}/pg_dump --version;; esac\n"
        f"touch {tmp_path}/started\nwhile [ ! -e {tmp_path}/queued ]; do sleep 0.02; done\n"
        f'exec {real}/pg_dump "$@"\n'
    )
    (tools / "pg_dump").chmod(0o755)
    profile_for(tmp_path, target, tools=tools)

    def truncate() -> None:
        until(lambda: (tmp_path / "started").exists())
        with psycopg.connect(target.url, autocommit=True) as connection:
            connection.execute("TRUNCATE parts")

    with psycopg.connect(target.url, autocommit=True) as watching:
        thread = threading.Thread(target=truncate)
        thread.start()

        def queue() -> None:
            waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'parts'::regclass"
            until(lambda: watching.execute(waits).fetchall())
            (tmp_path / "queued").touch()

        noticing = threading.Thread(target=queue)
        noticing.start()
        manifest = back_up()
        thread.join()
        noticing.join()

    assert manifest.rows["public.parts_1"] == 0, "it was truncated before the backup's moment"
    assert manifest.rows["public.t"] == 2000


def test_what_a_plain_role_may_not_read_is_named(target: Target, tmp_path: Path) -> None:
    with psycopg.connect(target.url, autocommit=True) as owner:
        role = f"reader_{os.getpid()}"
        owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'plain'")
        try:
            owner.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
            owner.execute("CREATE TABLE secret (n int)")
            owner.execute("CREATE TABLE filtered (n int)")
            owner.execute("ALTER TABLE filtered ENABLE ROW LEVEL SECURITY")
            owner.execute(f"GRANT SELECT ON filtered TO {role}")
            url = target.url.replace(f"{target.server.user}:{target.server.password}@", f"{role}:plain@")
            profile_for(tmp_path, url, target.server)

            code, message = refused()
            assert code == 1
            assert '"S.x"."we""ird $1*": no right to use its schema; grant usage on schema S.x' in message
            assert "public.filtered: row-level security hides rows of it" in message
            assert "public.secret: no right to read it; grant select on it" in message
            assert "public.t_id_seq: no right to read it; grant select on it" in message
            assert refused("--allow-missing") == (1, message), "a sequence cannot be left out"
            [(number,)] = owner.execute("SELECT oid FROM pg_largeobject_metadata").fetchall()
            assert f"large object {number}: no right to read it; grant select on it" in message
            owner.execute(
                f"GRANT SELECT ON t_id_seq TO {role}; GRANT SELECT ON LARGE OBJECT {number} TO {role}"
            )
            assert refused()[1].endswith("or leave it out with --allow-missing")
            assert left(tmp_path) == []

            manifest = back_up("--allow-missing")
            assert dict(manifest.rows) == {name: n for name, n in ROWS.items() if "S.x" not in name}
            assert Omission("public.secret", "no right to read it; grant select on it") in manifest.left_out
            assert len(manifest.left_out) == 3

            owner.execute(
                f'GRANT USAGE ON SCHEMA "S.x" TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA "S.x" TO {role}'
            )
            owner.execute(f"GRANT SELECT ON secret TO {role}; DROP TABLE filtered")
            assert dict(back_up().rows) == ROWS | {"public.secret": 0}, "no superuser is needed"

            owner.execute(
                "CREATE SUBSCRIPTION s CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false)"
            )
            owner.execute("ALTER SUBSCRIPTION s SET (slot_name = NONE)")
            owner.execute("CREATE FOREIGN DATA WRAPPER w; CREATE SERVER there FOREIGN DATA WRAPPER w")
            owner.execute("CREATE USER MAPPING FOR public SERVER there OPTIONS (password 'hush')")
            why = "only a superuser sees it; back up as one"
            code, message = refused()
            assert (code, f"options of the user mapping for public on there: {why}" in message) == (1, True)
            assert f"subscription s: {why}" in message, "pg_dump warns of it and says that all went well"
            assert len(back_up("--allow-missing").left_out) == 2
        finally:
            owner.execute("DROP SUBSCRIPTION IF EXISTS s")
            owner.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_cut_wire_leaves_no_backup(target: Target, proxy: MakeProxy, tmp_path: Path) -> None:
    """Of katax's session, of pg_dump's, of one of its workers. The bad twin: the same wire, not cut."""
    whole = back_up()
    for words, forward in ((b"pg_export", False), (b"SET TRANSACTION SNAPSHOT", True), (b"COPY ", True)):
        wire = proxy(target)
        profile_for(tmp_path, wire.url, target.server)
        wire.cut_after(words, forward=forward)
        done = katax("db", "backup", "-f", "json")
        assert done.code in (1, 3), done.out
        assert left(tmp_path) == [whole.name], done.err
    assert back_up().rows == whole.rows
    wire.stall()
    assert katax("db", "backup", "--timeout", "1s", "-f", "json").code == 3
    assert len(left(tmp_path)) == 2


def test_a_missing_or_older_tool_is_a_matter_of_configuration(target: Target, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    profile_for(tmp_path, target, tools=tools)

    code, message = refused()
    assert code == 2
    assert (
        f"there is no pg_dump in '{tools}', which [backup] tools names; install postgresql-client" in message
    )

    for name in ("pg_dump", "pg_restore"):
        (tools / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) 9.6.1'\n")
        (tools / name).chmod(0o755)
    code, message = refused()
    assert code == 2
    assert message.startswith(f"pg_dump 9.6.1 ({tools}/pg_dump) is older than the server, ")
    assert left(tmp_path) == []


def test_two_schemas_differ_by_their_things_and_not_by_order_or_casts() -> None:
    """What differs is named, and nothing of it is repeated: it may be a secret."""
    one = b"""-- Name: t; Type: TABLE; Schema: public; Owner: -
CREATE TABLE public.t (
    s character varying(9) CHECK (((s)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))
);
-- Name: t k; Type: FK CONSTRAINT; Schema: public; Owner: -
    ADD CONSTRAINT k FOREIGN KEY (s) REFERENCES public.u(s);
-- Name: USER MAPPING x SERVER y; Type: USER MAPPING; Schema: -; Owner: -
    password 'secret'""".splitlines()
    again = [
        *one[4:6],
        b"\\restrict aBc",
        *one[:2],
        one[2].replace(
            b"((ARRAY['a'::character varying, 'b'::character varying])::text[])",
            b"(ARRAY[('a'::character varying)::text, ('b'::character varying)::text])",
        ),
        one[3],
        *one[6:],
    ]

    assert (pg_dump.schema_hash(one) == pg_dump.schema_hash(again), pg_dump.differing(one, again)) == (
        False,
        [],
    )
    assert pg_dump.differing(one, [line.replace(b"'b'", b"'c'") for line in again]) == [
        "t; Type: TABLE; Schema: public"
    ]
    assert pg_dump.differing(one, [*again[:-1], b"    password 'other'"]) == [
        "USER MAPPING x SERVER y; Type: USER MAPPING; Schema: -"
    ]
    assert pg_dump.differing(one, again[2:]) == ["t k; Type: FK CONSTRAINT; Schema: public"]
