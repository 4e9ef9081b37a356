"""What servers say of their load and of slow statements, each engine in its own way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from katax_cli.engines.base import SlowQuery
from katax_cli.engines.mongodb.metrics import summed
from katax_cli.errors import ConfigError, WrongEngine
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.databases.database import Database
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.runtime.runtime import Runtime
from tests.servers.fixtures import MakeFresh, Throwaway
from tests.servers.server import Server
from tests.services.profiles import profile
from tests.waiting import until

SECRET = "hush-hush-word"


class Open:
    """Opens databases of any URL."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.stack = ExitStack()

    def __call__(self, url: str) -> Any:
        made = profile(self._folder, {"main": url})
        return self.stack.enter_context(Runtime(made)).database("main")


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    opener = Open(tmp_path)
    with opener.stack:
        yield opener


def metrics(db: Database) -> dict[str, Any]:
    return dict(db.metrics())


def shapes(found: list[SlowQuery]) -> list[str]:
    return [one.query for one in found]


class TestSql:
    def test_numbers(self, sql_engine: Any, opened: Open) -> None:
        db: SqlDatabase = opened(sql_engine.url)
        db.execute("CREATE TABLE one (a integer)")
        db.execute("CREATE TABLE two (a integer)")
        db.execute("CREATE VIEW three AS SELECT * FROM one")

        found = metrics(db)

        assert list(found) == ["connections", "queries", "size_bytes", "tables"]
        assert found["tables"] == 2
        assert found["size_bytes"] > 0
        assert set(found["connections"]) == {"active", "idle", "total", "max"}
        assert found["connections"]["active"] >= 1
        assert set(found["queries"]) == {"count", "avg_ms"}

    @pytest.mark.parametrize("name", ["postgresql", "mysql"])
    def test_idle_connections_are_counted(self, name: str, fresh: MakeFresh, opened: Open) -> None:
        db: SqlDatabase = opened(fresh(name).url)
        with db.session() as one, db.session() as two:
            one.query("SELECT 1")
            two.query("SELECT 1")
            # A session is idle a moment after its answer has come.
            until(lambda: metrics(db)["connections"]["idle"] >= 2)
            found = metrics(db)["connections"]

        assert found["active"] + found["idle"] <= found["total"] < found["max"]


class TestPostgresql:
    def test_without_the_extension_it_says_how_to_get_it(self, postgresql_url: str, opened: Open) -> None:
        db: SqlDatabase = opened(postgresql_url)

        assert metrics(db)["queries"] == {"count": None, "avg_ms": None}
        with pytest.raises(ConfigError) as error:
            db.slow_queries()
        assert str(error.value) == (
            "'main' keeps no slow queries: the extension pg_stat_statements is not installed in this database; "
            "put pg_stat_statements into shared_preload_libraries, restart the server and run "
            "CREATE EXTENSION pg_stat_statements"
        )

    def test_what_the_extension_has_seen(
        self, postgresql_full: Server, fresh: MakeFresh, opened: Open
    ) -> None:
        db: SqlDatabase = opened(fresh(postgresql_full).url)
        db.execute("CREATE EXTENSION pg_stat_statements")
        for _ in range(2):
            db.query(f"SELECT pg_sleep(0.12), '{SECRET}'")
        db.query("SELECT 1 AS quick")

        found = db.slow_queries(100)

        (slow,) = [one for one in found if one.query == "SELECT pg_sleep(?), ?"]
        assert slow.calls == 2
        assert all(one.avg_ms >= 100 for one in found)
        assert 100 <= slow.avg_ms <= slow.max_ms <= slow.total_ms
        counted = metrics(db)["queries"]
        assert counted["count"] >= 4
        assert counted["avg_ms"] > 0
        assert "SELECT ? AS quick" in shapes(db.slow_queries(0))

    def test_the_password_of_a_new_role_stays_out(
        self, postgresql_full: Server, fresh: MakeFresh, opened: Open
    ) -> None:
        """The extension keeps utility statements as they were written."""
        db: SqlDatabase = opened(fresh(postgresql_full).url)
        db.execute("CREATE EXTENSION pg_stat_statements")
        db.execute(f"CREATE ROLE nobody_{db.pool_stats().total} PASSWORD '{SECRET}'")
        db.execute(f"DROP ROLE nobody_{db.pool_stats().total}")
        (kept,) = db.query("SELECT query FROM pg_stat_statements WHERE query LIKE 'CREATE ROLE%'")[:1]
        assert SECRET in kept["query"]

        assert SECRET not in str(db.slow_queries(0))


class TestMysql:
    def test_a_server_that_keeps_none_says_how_it_would(self, throwaway: Throwaway, opened: Open) -> None:
        db: SqlDatabase = opened(
            throwaway("mysql", settings={"performance_schema": "OFF", "slow_query_log": "OFF"}).url
        )

        assert metrics(db)["queries"]["count"] > 0
        assert metrics(db)["queries"]["avg_ms"] is None
        with pytest.raises(ConfigError) as error:
            db.slow_queries()
        assert str(error.value) == (
            "'main' keeps no slow queries: performance_schema is off and the slow query log is no table; start the "
            "server with performance_schema=ON, or run SET GLOBAL slow_query_log=1, GLOBAL log_output='TABLE'"
        )

    @pytest.mark.parametrize(
        "settings",
        [
            {"performance_schema": "ON"},
            {
                "performance_schema": "OFF",
                "slow_query_log": "ON",
                "log_output": "TABLE",
                "long_query_time": "0.05",
            },
        ],
        ids=["performance_schema", "slow_log"],
    )
    def test_what_the_server_remembers(
        self, settings: dict[str, str], throwaway: Throwaway, opened: Open
    ) -> None:
        db: SqlDatabase = opened(throwaway("mysql", settings=settings).url)
        for _ in range(2):
            db.query(f"SELECT sleep(0.12), '{SECRET}'")

        found = db.slow_queries(100)

        (slow,) = [one for one in found if "sleep" in one.query.lower()]
        assert slow.calls == 2
        assert 100 <= slow.avg_ms <= slow.max_ms <= slow.total_ms
        assert slow.last_seen is not None
        assert slow.last_seen.tzinfo is not None
        assert SECRET not in str(found)
        assert db.slow_queries(60_000) == []
        has_schema = settings["performance_schema"] == "ON"
        assert (metrics(db)["queries"]["avg_ms"] is not None) is has_schema


class TestRedis:
    def test_numbers(self, throwaway: Throwaway, opened: Open) -> None:
        db: RedisDatabase = opened(throwaway("redis").url)
        assert metrics(db)["hit_rate"] is None
        db.redis("SET", "a", "1")
        for _ in range(3):
            db.redis("GET", "a")
        db.redis("GET", "missing")

        found = metrics(db)

        assert found["ops"] == {"get": 4, "set": 1}
        assert found["hit_rate"] == 0.75
        assert found["memory_bytes"] > 0
        assert found["connections"] >= 1

    def test_slow_commands_without_keys_and_values(self, throwaway: Throwaway, opened: Open) -> None:
        db: RedisDatabase = opened(throwaway("redis").url)
        db.redis("CONFIG", "SET", "slowlog-log-slower-than", "0")
        for _ in range(2):
            db.redis("SET", f"user:{SECRET}", SECRET)

        found = db.slow_queries(0)

        assert [one.calls for one in found if one.query == "SET ?"] == [2]
        assert [one.max_ms for one in found] == sorted((one.max_ms for one in found), reverse=True)
        assert SECRET not in str(found)
        assert all(one.last_seen and one.last_seen.tzinfo for one in found)
        assert db.slow_queries(60_000) == []


class TestMongodb:
    def test_numbers(self, mongodb_url: str, opened: Open) -> None:
        db: MongoDatabase = opened(mongodb_url)
        db.command({"insert": "kept", "documents": [{"a": 1}]})

        found = metrics(db)

        assert list(found) == ["connections", "queries", "size_bytes", "tables"]
        assert found["tables"] == 1
        assert set(found["connections"]) == {"active", "idle", "total", "max"}

    def test_a_profiler_that_is_off_is_said(self, mongodb_url: str, opened: Open) -> None:
        with pytest.raises(ConfigError) as error:
            opened(mongodb_url).slow_queries()

        assert """its profiler is off; run 'katax db command {"profile": 1, "slowms": 100}'""" in str(
            error.value
        )

    def test_recorded_operations_are_summed_by_shape(self) -> None:
        """The server of the tests has no profiler; these are entries as the manual shows them."""
        entry = {
            "op": "query",
            "ns": "app.users",
            "command": {"find": "users", "filter": {"name": SECRET}, "lsid": {"id": 1}, "$db": "app"},
        }
        moments = [datetime(2026, 1, day, tzinfo=UTC) for day in (3, 1, 2)]
        entries = [
            {**entry, "millis": millis, "ts": at} for millis, at in zip((240, 120, 60), moments, strict=True)
        ]
        other = {"op": "remove", "ns": "app.users", "command": {"q": {}, "limit": 0}, "millis": 7}

        assert summed([*entries, {**other, "ts": moments[1]}]) == [
            SlowQuery("query app.users {filter}", 3, 140.0, 240.0, 420.0, moments[0]),
            SlowQuery("remove app.users {limit}", 1, 7.0, 7.0, 7.0, moments[1]),
        ]

    @pytest.mark.needs_mongod
    def test_what_the_profiler_recorded(self, mongodb_url: str, opened: Open) -> None:
        db: MongoDatabase = opened(mongodb_url)
        db.command({"profile": 2})
        db.command({"find": "users", "filter": {"name": SECRET}})
        db.command({"profile": 0})

        found = db.slow_queries(0)

        assert any(one.query.endswith("users {filter}") for one in found)
        assert SECRET not in str(found)


def test_sqlite_has_no_list(sqlite_url: str, opened: Open) -> None:
    with pytest.raises(WrongEngine) as error:
        cast(SqlDatabase, opened(sqlite_url)).slow_queries()

    assert str(error.value) == (
        "sqlite has no list of slow queries; 'db slow' works on postgresql, mysql, mongodb, redis"
    )
