"""A database and its Redis, looked at together."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from katax_cli.errors import KataxError, WrongEngine
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.program.monitor import Monitor
from katax_cli.services.runtime.runtime import Runtime
from tests.services.profiles import profile


def test_numbers_of_both(sqlite_url: str, redis_url: str, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": sqlite_url, "cache": redis_url})) as runtime:
        db, cache = (
            cast(SqlDatabase, runtime.database("main")),
            cast(RedisDatabase, runtime.database("cache")),
        )
        db.execute("CREATE TABLE one (a integer)")
        cache.redis("SET", "a", "1")
        found = cast(dict[str, Any], Monitor(db, cache).get_metrics())

    assert list(found) == ["sqlite", "redis"]
    assert found["sqlite"]["tables"] == 1
    assert found["redis"]["ops"]["set"] >= 1


def test_this_process_counts_where_the_server_does_not(sqlite_url: str, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": sqlite_url})) as runtime:
        db = cast(SqlDatabase, runtime.database("main"))
        db.query("SELECT 1")
        db.query("SELECT 2")
        found = cast(dict[str, Any], Monitor(db).get_metrics())

    assert found["sqlite"]["queries"]["count"] == 2
    assert found["sqlite"]["queries"]["avg_ms"] > 0


def test_slow_queries_are_the_servers(sqlite_url: str, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": sqlite_url})) as runtime, pytest.raises(WrongEngine) as error:
        Monitor(runtime.database("main")).get_slow_queries(100)

    assert str(error.value) == (
        "sqlite has no list of slow queries; 'db slow' works on postgresql, mysql, mongodb, redis"
    )


def test_errors_of_either_connection_are_heard_until_nobody_listens(closed_port: int, tmp_path: Path) -> None:
    errors: list[KataxError] = []
    urls = {
        "main": f"postgresql://127.0.0.1:{closed_port}/x",
        "cache": f"redis://127.0.0.1:{closed_port}/0",
    }
    with Runtime(profile(tmp_path, urls)) as runtime:
        db, cache = runtime.database("main"), runtime.database("cache")
        leave = Monitor(db, cache).on_connection_error(errors.append)
        for each in (db, cache):
            assert not each.health_check()
        assert [getattr(error, "connection", None) for error in errors] == ["main", "cache"]

        leave()
        assert not db.health_check()

    assert len(errors) == 2
