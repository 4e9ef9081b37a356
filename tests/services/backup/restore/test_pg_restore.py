"""What pg_restore brings back is the database that was backed up, whatever words the server has for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import psycopg
import pytest

from katax_cli.engines.registry import part
from katax_cli.services.backup.manifest import read_manifest, write_manifest
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.tables.scratch import open_settings
from tests.cli.harness import katax
from tests.engines.connections import settings_for
from tests.servers import Server, pgbouncer
from tests.servers.fixtures import MakeFresh, Target, Throwaway
from tests.servers.fleet import Fleet
from tests.services.backup.restore.rich import content, fill
from tests.services.backup.restore.test_run import databases, drop, name_of, refusal
from tests.services.backup.server_of_backups import back_up, profile_for
from tests.waiting import until

__all__ = ["drop"]

SAID_OTHERWISE = (
    "CREATE TABLE t (n int, state varchar(20) CHECK (state IN ('new', 'old')))",
    "CREATE INDEX ON t (n) WHERE state IN ('new', 'old')",
    "CREATE VIEW v AS SELECT n FROM t WHERE state IN ('new', 'old') OR state LIKE ANY (ARRAY['a%', 'b%'])",
    "CREATE POLICY p ON t USING (state IN ('new', 'old'))",
    "COMMENT ON TABLE t IS E'--\\n-- Name: x; Type: TABLE; Schema: public; Owner: -\\n--'",
    "CREATE DOMAIN d AS varchar(5) CHECK (VALUE IN ('x', 'y'))",
)


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@pytest.fixture
def source(fresh: MakeFresh, postgresql: Server, tmp_path: Path) -> Target:
    target = fresh(postgresql)
    profile_for(tmp_path, target)
    return target


def test_an_expression_that_the_server_says_otherwise_is_the_same(
    source: Target, tmp_path: Path, drop: Callable[[str], str]
) -> None:
    """Of its own words for `state IN ('new', 'old')` it makes others when it reads them, once."""
    run(source.url, *SAID_OTHERWISE)
    manifest, into = back_up(), drop(f"{name_of(source)}_copy")

    done = katax("db", "restore", manifest.name, "--into", into, "-y")

    assert done.code == 0, done.err
    assert content(source.server, into) != content(source.server, name_of(source)), (
        "or there is nothing to test"
    )
    folder = tmp_path / "backups" / manifest.name
    write_manifest(folder, replace(manifest, schema_hash="0" * 64))
    done = katax("db", "backups", "drill", manifest.name, "--on", "main", "--same-server", "-y")
    assert (done.code, "the schema differs from the one that was backed up" in done.out) == (1, True)


def test_rows_are_counted_in_whatever_partition_they_are(source: Target) -> None:
    """The hash of an enum is that of its number, which another database has another of."""
    run(
        source.url,
        "CREATE TYPE e AS ENUM ('x', 'y', 'z')",
        "CREATE TABLE t (v e, n int) PARTITION BY HASH (v)",
        *(f"CREATE TABLE t{n} PARTITION OF t FOR VALUES WITH (MODULUS 9, REMAINDER {n})" for n in range(9)),
        "INSERT INTO t SELECT unnest(enum_range(NULL::e)), g FROM generate_series(1, 20) g",
    )
    done = katax("db", "backups", "drill", back_up().name, "--on", "main", "--same-server", "-y")
    assert done.code == 0, done.out


def test_a_server_of_another_version_may_have_other_words_for_all_of_it(
    source: Target, tmp_path: Path, drop: Callable[[str], str]
) -> None:
    run(source.url, "CREATE TABLE t (n int)")
    manifest = back_up()
    older = replace(manifest, server_version="9.6", schema_hash="0" * 64)
    write_manifest(tmp_path / "backups" / manifest.name, older)

    into = drop(f"{name_of(source)}_copy")
    assert katax("db", "restore", manifest.name, "--into", into, "-y").code == 0


def test_the_database_keeps_its_owner_and_who_may_use_it(
    source: Target, postgresql: Server, drop: Callable[[str], str]
) -> None:
    """The owner of a database may make tables in its schema `public`."""
    name, role = name_of(source), f"owner_{os.getpid()}"
    facts = """SELECT pg_get_userbyid(datdba), ARRAY(SELECT unnest(datacl)::text ORDER BY 1), datconnlimit, setconfig
        FROM pg_database d LEFT JOIN pg_db_role_setting ON setdatabase = d.oid AND setrole <> 0 WHERE datname = %s"""
    with psycopg.connect(postgresql.url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} NOINHERIT".encode())
        try:
            for statement in (
                f"ALTER DATABASE {name} OWNER TO {role}",
                f"ALTER DATABASE {name} CONNECTION LIMIT 9",
                f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC",
                f"ALTER ROLE {role} IN DATABASE {name} SET work_mem = '5MB'",
                f"GRANT CREATE ON DATABASE {name} TO pg_monitor WITH GRANT OPTION",
            ):
                connection.execute(statement.encode())
            before = connection.execute(facts, [name]).fetchone()
            assert before is not None
            assert before[3] == ["work_mem=5MB"]
            done = katax("db", "restore", back_up().name, "--into", name, "--swap", "-y", "-f", "json")
            assert done.code == 0, done.err
            assert connection.execute(facts, [name]).fetchone() == before
        finally:
            for database in [one for one in databases(postgresql) if one.startswith(name)]:
                drop(database)
                connection.execute(f"ALTER DATABASE {database} OWNER TO CURRENT_USER".encode())
            connection.execute(f"DROP ROLE {role}".encode())


def test_a_plain_role_leaves_out_what_only_a_superuser_sets(
    source: Target, postgresql: Server, tmp_path: Path, drop: Callable[[str], str]
) -> None:
    """A parameter of the database, and a grant that was given by another one than the owner."""
    name, roles = name_of(source), [f"{who}_{os.getpid()}" for who in ("plain", "giver", "taker")]
    plain, giver, taker = roles
    run(
        source.url,
        f"CREATE ROLE {plain} LOGIN PASSWORD 'plain' CREATEDB",
        f"CREATE ROLE {giver}",
        f"CREATE ROLE {taker}",
        f"ALTER DATABASE {name} SET log_statement = 'none'",
        f"ALTER DATABASE {name} SET work_mem = '5MB'",
        "CREATE TABLE t AS SELECT 1 AS n",
        f"GRANT SELECT ON t TO {giver} WITH GRANT OPTION; SET ROLE {giver}; GRANT SELECT ON t TO {taker}",
    )
    manifest, into = back_up(), drop(f"{name}_copy")
    try:
        login = f"{postgresql.user}:{postgresql.password}@"
        profile_for(tmp_path, source.url.replace(login, f"{plain}:plain@"), postgresql)
        done = katax("db", "restore", manifest.name, "--into", into, "-y")
        assert done.code == 0, done.err
        assert f"grants are not restored: this role may not act for '{giver}'" in done.err
        assert 'is not restored: permission denied to set parameter "log_statement"' in done.err
        with psycopg.connect(postgresql.url, dbname=into) as restored:
            assert restored.execute("SHOW work_mem").fetchone() == ("5MB",)
    finally:
        run(postgresql.url, *(f'DROP DATABASE IF EXISTS "{one}" WITH (FORCE)' for one in (name, into)))
        run(postgresql.url, *(f"DROP ROLE {role}" for role in roles))


def test_rows_that_a_policy_hides_say_nothing_of_the_backup(
    source: Target, postgresql: Server, tmp_path: Path
) -> None:
    """Their owner may restore a table whose policies hold for him, too, and cannot count it then."""
    run(
        source.url,
        "CREATE TABLE t AS SELECT 1 AS n",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    )
    manifest, before, role = back_up(), databases(postgresql), f"plain_{os.getpid()}"
    run(source.url, f"CREATE ROLE {role} LOGIN PASSWORD 'plain' CREATEDB")
    try:
        login = f"{postgresql.user}:{postgresql.password}@"
        profile_for(tmp_path, source.url.replace(login, f"{role}:plain@"), postgresql)
        done = katax("db", "backups", "drill", manifest.name, "--on", "main", "--same-server", "-y")
        assert (
            done.code,
            "says nothing of it: row-level security may hide rows of public.t" in done.err,
        ) == (
            1,
            True,
        )
        assert read_manifest(tmp_path / "backups" / manifest.name).drills == ()
        code, message = refusal(manifest.name, "--into", "x")
        assert (code, message.endswith("the role needs BYPASSRLS")) == (1, True), message
        assert databases(postgresql) == before
    finally:
        run(postgresql.url, f"DROP ROLE {role}")


def test_a_pooler_that_the_profile_does_not_name_holds_no_database_back(
    source: Target, postgresql: Server, tmp_path: Path, fleet: Fleet, drop: Callable[[str], str]
) -> None:
    """It keeps its sessions with a database when those of katax have ended."""
    fill(source)
    manifest, name = back_up(), name_of(source)
    into = drop(f"{name}_copy")
    bouncer = pgbouncer.launch(postgresql, fleet.room.folder("holding-bouncer"), mode="session")
    try:
        profile_for(tmp_path, bouncer.database_url(name), postgresql)
        for swap in ((), ("--swap",)):
            done = katax("db", "restore", manifest.name, "--into", into, *swap, "-y", "-f", "json")
            assert done.code == 0, done.err
            assert content(postgresql, into) == content(postgresql, name)
        drop(done.json["kept"])
    finally:
        bouncer.stop()


def test_a_plain_role_leaves_autovacuum_to_the_server(throwaway: Throwaway) -> None:
    """The server ends it by itself before it renames a database, and nobody but a superuser may."""
    slow = {
        "autovacuum_naptime": "1s",
        "autovacuum_vacuum_cost_delay": "100ms",
        "autovacuum_vacuum_cost_limit": "1",
    }
    server = throwaway("postgresql", settings=slow)
    name = server.database
    run(server.url, "CREATE ROLE plain LOGIN PASSWORD 'plain'")
    run(server.url, "CREATE TABLE t AS SELECT g FROM generate_series(1, 100000) g", "UPDATE t SET g = g + 1")
    running = "SELECT FROM pg_stat_activity WHERE datname = %s AND backend_type = 'autovacuum worker'"
    with psycopg.connect(server.url, dbname="template1", autocommit=True) as watching:
        until(lambda: watching.execute(running, [name]).rowcount)
        settings = settings_for(server.url.replace(f"{server.user}:{server.password}@", "plain:plain@"))
        with open_settings(replace(settings, database="template1")) as database:
            renames = part(database.engine, "backup.restore")
            ended = cast("SqlDatabase", database).ask(
                lambda connection, _: renames.end_sessions(connection, name),
                safety=Safety.READ,
                doing="ending sessions",
            )
            assert ended == []


def test_what_names_roles_that_are_not_there_is_left_out_and_told(
    source: Target, postgresql: Server, tmp_path: Path, drop: Callable[[str], str]
) -> None:
    name, role, plain = name_of(source), f"gone {os.getpid()}", f"plain_{os.getpid()}"
    run(
        source.url,
        f'CREATE ROLE "{role}"',
        f"CREATE ROLE {plain} LOGIN PASSWORD 'plain' CREATEDB",
        "CREATE TABLE t AS SELECT 1 AS n",
        f'CREATE POLICY "a p" ON t AS RESTRICTIVE FOR SELECT TO pg_monitor, "{role}" USING (n > 0)',
        "COMMENT ON POLICY \"a p\" ON t IS 'why'",
        "CREATE POLICY of_all ON t USING (true)",
        f'ALTER DEFAULT PRIVILEGES FOR ROLE "{role}" GRANT SELECT ON TABLES TO PUBLIC',
        "CREATE FOREIGN DATA WRAPPER w",
        "CREATE SERVER s FOREIGN DATA WRAPPER w",
        f'CREATE USER MAPPING FOR "{role}" SERVER s OPTIONS ("user" \'x\')',
        "CREATE USER MAPPING FOR PUBLIC SERVER s",
        "SELECT lo_create(7)",
        f'GRANT SELECT ON LARGE OBJECT 7 TO "{role}"',
    )
    manifest, into = back_up(), drop(f"{name}_copy")
    gone = f"there is no role '{role}' on 'main'"
    try:
        login = f"{postgresql.user}:{postgresql.password}@"
        profile_for(tmp_path, source.url.replace(login, f"{plain}:plain@"), postgresql)
        code, message = refusal(manifest.name, "--into", into)
        assert (code, message.endswith("; only a superuser restores foreign-data wrappers")) == (1, True), (
            message
        )
        assert f"default privileges are not restored: this role may not act for '{role}'" in message
        profile_for(tmp_path, source)
        done = katax("db", "restore", manifest.name, "--into", into, "-y")
        assert (done.code, "not restored" in done.err) == (0, False), done.err
        assert content(postgresql, into) == content(postgresql, name)

        for database in (name, into):
            run(postgresql.url, f'DROP DATABASE "{database}" WITH (FORCE)')
        run(postgresql.url, f'DROP ROLE "{role}"')
        done = katax("db", "backups", "drill", manifest.name, "--on", "main", "--same-server", "-y")
        assert done.code == 0, done.err
        for what in ("grants", "default privileges", "policies", "user mappings"):
            assert f"{what} are not restored: {gone}" in done.err, done.err
        assert "owners" not in done.err
        done = katax("db", "restore", manifest.name, "--into", into, "-y")
        with psycopg.connect(postgresql.url, dbname=into) as restored:
            assert restored.execute("SELECT FROM pg_policy").rowcount == 0, "half of them may be too much"
    finally:
        run(postgresql.url, *(f'DROP DATABASE IF EXISTS "{one}" WITH (FORCE)' for one in (name, into)))
        run(postgresql.url, f'DROP ROLE IF EXISTS "{role}"', f"DROP ROLE {plain}")
