"""The pytest plugin as a user's suite sees it: in a pytest of its own, also with xdist, and unused."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from katax_cli.errors import Unavailable
from katax_cli.integrations.pytest.fault_proxy import FaultProxy
from katax_cli.integrations.pytest.targets import MakeFaultProxy
from katax_cli.testing import TestDatabase, TestRedis
from tests.servers.server import Server

ROOT = Path(__file__).parents[3]
PLUGIN = "katax_cli.integrations.pytest"
SUITE = """
import pytest
from katax_cli.errors import Unavailable

@pytest.mark.parametrize("number", range(4))
def test_a_database_for_each_test(katax_database, number):
    assert katax_database.query("select name from users") == [{"name": "ada"}]
    katax_database.execute("insert into users values (2, 'bob')")

@pytest.mark.parametrize("number", range(2))
def test_a_redis_for_each_test(katax_redis, number):
    assert katax_redis.cache.incr("visits") == 1
    katax_redis.close()

def test_the_wire_breaks(katax_database, katax_fault_proxy, katax_redis):
    proxy = katax_fault_proxy(katax_database)
    katax_database.close()
    assert proxy.url.startswith("postgresql://")
    cache = katax_fault_proxy(katax_redis)
    assert cache.url.startswith("redis://127.0.0.1:")
"""
UNUSED = """
import sys

def test_nothing_is_loaded():
    loaded = {name.partition(".")[0] for name in sys.modules}
    assert not loaded & {"psycopg", "pymysql", "redis", "pymongo", "sqlalchemy", "greenlet"}
    assert [name for name in sys.modules if name.startswith("katax_cli.")] == %s
"""


def run(folder: Path, *words: str, plugin: str = PLUGIN) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", plugin, *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def suite(folder: Path, engine: str) -> None:
    (folder / "pytest.ini").write_text(
        f"[pytest]\nkatax_engine = {engine}\nkatax_migrations = db/migrations\nkatax_seeds = db/seeds\n"
    )
    for kind, name, sql in [
        (
            "migrations",
            "001_users.sql",
            "-- UP\ncreate table users (id int primary key, name varchar(9));\n-- DOWN\n",
        ),
        ("seeds", "users.sql", "insert into users values (1, 'ada');\n"),
    ]:
        (folder / "db" / kind).mkdir(parents=True)
        (folder / "db" / kind / name).write_text(sql)
    (folder / "test_suite.py").write_text(SUITE)


def test_a_suite_on_two_workers(tmp_path: Path, postgresql: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KATAX_TEST_POSTGRESQL_URL", postgresql.url)
    suite(tmp_path, "postgresql")

    done = run(tmp_path, "-p", "xdist", "-n", "2")

    assert "7 passed" in done.stdout, done.stdout + done.stderr
    with TestDatabase.create("postgresql", url=postgresql.url) as database:
        name = database.query("select current_database() as name")[0]["name"]
        left = "select datname from pg_database where datname like 'katax_test_%' and datname <> $1"
        assert database.query(left, [name]) == []


def test_unused_it_loads_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_unused.py").write_text(UNUSED % ["katax_cli.integrations", PLUGIN])

    done = run(tmp_path)

    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_a_wrong_engine_is_said(tmp_path: Path) -> None:
    suite(tmp_path, "postgres")

    done = run(tmp_path, "-k", "a_database")

    assert "no katax_engine named 'postgres'" in done.stdout
    assert "sqlite" in done.stdout


def test_the_entry_point_names_the_plugin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert project["entry-points"]["pytest11"] == {"katax": PLUGIN}


def test_a_database_behind_a_broken_wire(
    katax_fault_proxy: MakeFaultProxy, katax_redis: TestRedis, postgresql: Server
) -> None:
    from katax_cli import Katax

    with Katax("local") as katax, TestDatabase.create("postgresql", url=postgresql.url) as own:
        wire = katax_fault_proxy(own)
        main = katax.database(
            "main",
            type="postgresql",
            connection={"url": wire.url, "connect_timeout": 60, "retry": {"attempts": 1}},
        )
        assert main.scalar("select current_database()") == own.settings.database
        wire.refuse()
        wire.cut()
        with pytest.raises(Unavailable):
            main.query("select 1")
        assert own.query("select 1 as n") == [{"n": 1}], "the database itself is well"

        other = katax.database("cache", type="redis", connection=katax_fault_proxy(katax_redis).url)
        other.redis("SET", "k", "v")
        assert katax_redis.redis("GET", "k") == b"v"


@pytest.mark.parametrize(
    ("url", "engine"),
    [
        ("sqlite:///x.db", "sqlite"),
        ("mongodb://u:s3cret@a:1,b:2/db", "mongodb"),
        ("postgresql:///db?host=/run", "postgresql"),
        ("redis://:s3cret@host:notaport", "redis"),
        ("gopher://host", "gopher"),
        ("", "given"),
    ],
)
def test_what_has_no_wire_is_refused_without_its_password(url: str, engine: str) -> None:
    with pytest.raises(ValueError) as error:
        FaultProxy.for_url(url)
    assert str(error.value) == (f"a fault proxy stands before one host and port; the {engine} URL names none")


def test_misuse(katax_fault_proxy: MakeFaultProxy, katax_database: TestDatabase) -> None:
    with pytest.raises(ValueError) as error:
        katax_fault_proxy(katax_database)
    assert "a fault proxy stands before a server; 'test' is /" in str(error.value)
    proxy = katax_fault_proxy("redis://127.0.0.1")
    assert proxy.target == ("127.0.0.1", 6379)
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError):
            proxy.slow(wrong)
        with pytest.raises(ValueError):
            proxy.slow(bytes_per_second=wrong)
    proxy.close()
    proxy.close()
    proxy.cut()
    assert proxy.open_connections == 0
