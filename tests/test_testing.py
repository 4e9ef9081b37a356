"""The test databases that katax offers to others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from katax_cli import ConfigError, TestDatabase, TestRedis, create_test_database
from katax_cli.core.engine_names import Dialect
from tests.servers.process import ENDED, state_of
from tests.servers.server import Server
from tests.waiting import until


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def database(request: pytest.FixtureRequest) -> TestDatabase:
    engine: Dialect = request.param
    if engine == "sqlite":
        return create_test_database()
    server: Server = request.getfixturevalue(engine)
    return TestDatabase.create(engine, url=server.url)


def test_it_is_a_real_database_and_gone_afterwards(database: TestDatabase) -> None:
    database.execute("create table users (id integer primary key, name varchar(20))")
    database.execute("insert into users values (1, 'ann')")
    assert database.query("select name from users") == [{"name": "ann"}]

    database.cleanup()

    assert database.closed
    if database.engine.name == "sqlite":
        assert not Path(str(database.settings.path)).parent.exists()


def test_two_do_not_see_each_other() -> None:
    with create_test_database() as one, create_test_database() as other:
        one.execute("create table t (n int)")
        assert other.tables() == []


def test_the_database_is_dropped_on_the_server(postgresql: Server) -> None:
    with TestDatabase.create("postgresql", url=postgresql.url) as database:
        name = database.query("select current_database() as name")[0]["name"]
        with TestDatabase.create("postgresql", url=postgresql.url) as other:
            assert other.query("select 1 as there from pg_database where datname = $1", [name])
    with TestDatabase.create("postgresql", url=postgresql.url) as other:
        assert name.startswith("katax_test_")
        assert not other.query("select 1 as there from pg_database where datname = $1", [name])


def test_migrate_seed_truncate(database: TestDatabase, tmp_path: Path) -> None:
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "001_users.sql").write_text(
        "-- UP\ncreate table users (id integer primary key);\n-- DOWN\ndrop table users;\n"
    )
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "users.sql").write_text("insert into users (id) values (1), (2);\n")
    with database:
        assert len(database.migrate()) == 1
        database.seed()
        assert database.query("select count(*) as n from users") == [{"n": 2}]

        assert set(database.truncate()) == {"users", "katax_seeds"}

        assert database.query("select count(*) as n from users") == [{"n": 0}]
        assert database.migrate() == []
        database.seed()
        assert database.query("select count(*) as n from users") == [{"n": 2}]
        assert database.truncate(["users"]) == ["users"]


def test_a_server_engine_needs_a_server() -> None:
    with pytest.raises(ConfigError) as caught:
        TestDatabase.create("mysql", url="")
    assert "KATAX_TEST_MYSQL_URL" in str(caught.value)


def test_a_redis_of_ones_own() -> None:
    with TestRedis(prefix="app:") as redis:
        folder = Path(str(redis.settings.path))
        redis.cache.set("k", {"a": 1})
        assert redis.cache.get("k") == {"a": 1}
        assert redis.redis("GET", "app:k") == b'{"a":1}'
        pid = int(
            next(line for line in redis.redis("INFO").splitlines() if b"process_id" in line).split(b":")[1]
        )
        assert Path(f"/proc/{pid}").exists()

    assert not folder.parent.exists()
    # It has let go of its lock, and may need a moment more for the rest.
    until(lambda: state_of(pid) in ENDED)


def test_what_nobody_closed_is_gone_with_the_process(tmp_path: Path) -> None:
    code = (
        "from katax_cli import create_test_database\n"
        "made = create_test_database()\n"
        "made.execute('create table t (n int)')\n"
        "print(made.settings.path)"
    )
    root = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": root, "TMPDIR": str(tmp_path), "HOME": str(tmp_path)},
    )

    assert done.stdout.startswith(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
