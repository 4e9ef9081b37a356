"""Databases that are lent again: as CREATE DATABASE leaves them, whatever a test left behind."""

import subprocess

import psycopg

from tests.servers import Server
from tests.servers.fresh import fresh_database
from tests.servers.postgresql import create_database, drop_database
from tests.servers.rooms import service_account

EMPTIED = [
    "CREATE TABLE t (n serial PRIMARY KEY); CREATE VIEW v AS SELECT * FROM t",
    "CREATE SCHEMA other; CREATE TABLE other.t (n int); CREATE TYPE mood AS ENUM ('a')",
    "CREATE EXTENSION pg_trgm; CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE TEMP TABLE t (n int)",
]
DROPPED = [
    "DROP SCHEMA public",
    "REVOKE USAGE ON SCHEMA public FROM public; GRANT CREATE ON SCHEMA public TO public",
    "SELECT lo_create(0)",
    "CREATE FUNCTION public.e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
    "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION public.e()",
    "CREATE PUBLICATION p FOR ALL TABLES",
    "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO public",
    "DROP EXTENSION plpgsql",
    "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = 64', current_database()); END $$",
    "DO $$ BEGIN EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM public', current_database()); END $$",
    "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT 5', current_database()); END $$",
]


def dump(server: Server, url: str) -> str:
    """The database as pg_dump sees it, its name apart."""
    assert server.tools
    account = service_account()
    done = subprocess.run(
        [server.tools / "pg_dump", "--create", url],
        capture_output=True,
        check=True,
        text=True,
        user=account.uid if account else None,
        cwd="/",
    )
    name = url.rpartition("/")[2]
    return "".join(
        line for line in done.stdout.replace(name, "NAME").splitlines(keepends=True) if "restrict" not in line
    )


def test_what_one_test_leaves_the_next_does_not_see(postgresql: Server) -> None:
    create_database(postgresql.url, "made")
    new = dump(postgresql, postgresql.database_url("made"))
    drop_database(postgresql.url, "made")
    for statements in EMPTIED + DROPPED:
        with fresh_database(postgresql) as url, psycopg.connect(url, autocommit=True) as left_open:
            left_open.execute(statements.encode())
        with fresh_database(postgresql) as url:
            assert dump(postgresql, url) == new, statements
            with psycopg.connect(url) as connection:
                assert connection.execute("SHOW work_mem").fetchone() == ("4MB",)


def test_an_emptied_database_is_lent_under_another_name(postgresql: Server) -> None:
    with fresh_database(postgresql) as first:
        pass
    with fresh_database(postgresql) as second, psycopg.connect(second) as connection:
        assert second != first
        assert connection.execute("SELECT count(*) FROM pg_class WHERE oid >= 16384").fetchone() == (0,)
