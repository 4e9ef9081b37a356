"""`katax db size|metrics|slow`, and the log of queries on stderr."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.cli.harness import katax, write_profile
from tests.cli.processes import SECONDS, eventually, spawn
from tests.servers import Server
from tests.servers.fixtures import MakeFresh, Target

SECRET = "hush-hush-word"


def test_size(engine: Target, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": engine.url})

    (row,) = katax("db", "size", "-f", "json").json

    assert tuple(row) == ("connection", "type", "size_bytes", "tables")
    assert (row["connection"], row["type"]) == ("main", engine.engine)
    assert (row["tables"] is None) is (engine.engine == "redis")


def test_metrics_of_one_connection_are_an_object(engine: Target, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": engine.url})

    found = katax("db", "metrics", "-f", "json").json

    if engine.engine == "redis":
        assert tuple(found) == ("memory_bytes", "connections", "ops", "hit_rate")
        assert tuple(found["ops"]) == ("get", "set")
    else:
        assert tuple(found) == ("connections", "queries", "size_bytes", "tables")
        assert tuple(found["connections"]) == ("active", "idle", "total", "max")
        assert tuple(found["queries"]) == ("count", "avg_ms")


def test_metrics_of_several_are_rows(sqlite_url: str, redis_url: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": sqlite_url, "cache": redis_url})

    found = katax("db", "metrics", "-c", "*", "-f", "json").json

    assert [(row["connection"], row["type"]) for row in found] == [("main", "sqlite"), ("cache", "redis")]
    assert found[1]["metrics"]["memory_bytes"] > 0


def test_several_connections_are_all_meant_or_refused(
    closed_port: int, redis_url: str, tmp_path: Path
) -> None:
    """One that is named is never left out in silence."""
    gone = f"postgresql://katax@127.0.0.1:{closed_port}/x"
    write_profile(tmp_path, {"a": "sqlite:///a.db", "b": "sqlite:///b.db", "gone": gone, "cache": redis_url})

    both = katax("db", "query", "select 1 as n", "-c", "b", "-c", "a", "-c", "b", "-f", "json")
    before = katax("-c", "a", "-c", "b", "db", "size", "-f", "json")
    half = katax("db", "query", "select 1 as n", "-c", "a", "-c", "gone", "-f", "json")
    unfit = katax("db", "query", "select 1", "-c", "a", "-c", "cache")
    single = katax("db", "describe", "t", "-c", "a", "-c", "b")
    twice = katax("db", "describe", "t", "-c", "a", "-c", "a")
    beside_url = katax("db", "query", "select 1", "-c", "sqlite:///a.db", "-c", "b")
    job = katax("cron", "add", "j", "@daily", "--sql", "select 1", "-c", "a", "-c", "b")

    assert both.json == [{"connection": "b", "n": 1}, {"connection": "a", "n": 1}]
    assert [row["connection"] for row in before.json] == ["a", "b"]
    assert (half.code, half.json) == (3, [{"connection": "a", "n": 1}])
    assert (unfit.code, unfit.out) == (2, "")
    assert (single.code, single.err) == (
        2,
        "katax: 'a', 'b' match a, b; 'db describe' works on one connection\n",
    )
    assert (twice.code, twice.err) == (1, "no table named 't' on 'a'; see 'katax db tables'\n")
    assert (beside_url.code, beside_url.err) == (
        2,
        "katax: a url after -c stands alone; for several connections write a profile\n",
    )
    assert (job.code, job.err) == (
        2,
        "katax: a job's SQL runs on one connection; name it with -c; see 'katax cron add --help'\n",
    )


def test_slow_statements(postgresql_full: Server, fresh: MakeFresh, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": fresh(postgresql_full).url}, extra="[logging]\nslow_query_ms = 60000\n")
    katax("db", "exec", "create extension pg_stat_statements")
    katax("db", "query", f"select pg_sleep(0.12), '{SECRET}'")

    assert katax("db", "slow", "-f", "json").json == []
    (row,) = katax("db", "slow", "--over", "100ms", "-f", "json").json
    assert tuple(row) == ("query", "calls", "avg_ms", "max_ms", "total_ms", "last_seen")
    assert (row["query"], row["calls"]) == ("select pg_sleep(?), ?", 1)


def test_where_none_are_kept_it_is_said(engine: Target, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": engine.url})

    done = katax("db", "slow")

    if done.code:
        assert (done.code, done.out) == (2, "")
        assert "slow queries" in done.err
    else:
        assert engine.engine in ("redis", "mysql")


class TestLog:
    def run(self, tmp_path: Path, *words: str, extra: str = "", role: str = "dev") -> str:
        write_profile(tmp_path, {"main": "sqlite:///x.db"}, extra=extra, role=role)
        done = katax("db", "query", f"select '{SECRET}' as a, ? as b", SECRET, *words)
        assert done.code == 0, done.err
        return done.err

    @pytest.mark.parametrize("role", ["dev", "prod"])
    def test_a_single_command_tells_nothing_that_nobody_asked_for(self, role: str, tmp_path: Path) -> None:
        assert self.run(tmp_path, role=role) == ""

    def test_at_debug_level_a_dev_profile_tells_every_statement(self, tmp_path: Path) -> None:
        err = self.run(tmp_path, "--log-level", "debug")

        assert "debug katax.query: query on 'main' took " in err
        assert ": select ? as a, ? as b\n" in err
        assert SECRET not in err

    def test_slow_statements_as_the_profile_says(self, tmp_path: Path) -> None:
        err = self.run(tmp_path, extra='[logging]\nqueries = "slow"\nslow_query_ms = 0\n', role="prod")

        assert err.startswith("warning katax.query: slow query on 'main' took ")
        assert SECRET not in err

    def test_json_lines_carry_the_facts(self, tmp_path: Path) -> None:
        err = self.run(tmp_path, "--log-level", "debug", "--log-format", "json")

        for fact in ('"connection": "main"', '"fingerprint": "', '"outcome": "ok"', '"duration_ms": '):
            assert fact in err
        assert SECRET not in err


class TestHistory:
    def test_nothing_was_watched(self, tmp_path: Path) -> None:
        write_profile(tmp_path, {"main": "sqlite:///x.db"})

        assert katax("health", "--history", "-f", "json").json == []
        assert not (tmp_path / ".katax").exists()

    def test_it_has_no_format_of_a_single_check(self, tmp_path: Path) -> None:
        write_profile(tmp_path, {"main": "sqlite:///x.db"})

        done = katax("health", "--history", "-f", "nagios")

        assert done.code == 3  # UNKNOWN
        assert "no format of --history named 'nagios'; expected one of: table, " in done.err

    def test_what_was_watched_is_kept(self, closed_port: int, tmp_path: Path) -> None:
        (tmp_path / "x.db").touch()
        write_profile(tmp_path, {"main": "sqlite:///x.db", "gone": f"postgresql://127.0.0.1:{closed_port}/x"})
        watching = spawn("health", "--watch", "--interval", "100ms", "-f", "json")
        try:
            assert eventually(lambda: len(katax("health", "--history", "-f", "json").json) >= 4)
        finally:
            watching.send_signal(signal.SIGINT)
            watching.communicate(timeout=SECONDS)
        found = katax("health", "--history", "-f", "json").json

        assert tuple(found[0]) == (
            "timestamp",
            "connection",
            "status",
            "latency_ms",
            "connect_ms",
            "message",
        )
        assert [row["timestamp"] for row in found] == sorted(
            (row["timestamp"] for row in found), reverse=True
        )
        assert {row["connection"]: row["status"] for row in found} == {"main": "healthy", "gone": "unhealthy"}
        assert all(str(closed_port) in row["message"] for row in found if row["connection"] == "gone")
        only = katax("health", "gone", "--history", "-f", "json").json
        assert {row["connection"] for row in only} == {"gone"}
