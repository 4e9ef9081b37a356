"""`katax db size|metrics|slow`, `query --watch`, and the log of queries on stderr."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.harness import katax, write_profile
from tests.cli.processes import SECONDS, eventually, spawn
from tests.cli.pseudo_terminal import Terminal
from tests.servers import Server
from tests.servers.fixtures import MakeFresh, MakeProxy, Target

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
    slow = katax("db", "slow", "--over", "100ms", "-f", "json").json
    # What made the extension may have been slow as well.
    (row,) = [each for each in slow if "pg_sleep" in each["query"]]
    assert tuple(row) == ("query", "calls", "avg_ms", "max_ms", "total_ms", "last_seen", "source")
    assert (row["query"], row["calls"], row["source"]) == ("select pg_sleep(?), ?", 1, "server")


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
        urls = {"main": "sqlite:///x.db", "gone": f"postgresql://127.0.0.1:{closed_port}/x"}
        write_profile(tmp_path, urls, extra="[health]\ndegraded_ms = 20000\nunhealthy_ms = 30000\n")
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


@contextmanager
def closing_terminal(*words: str) -> Iterator[Terminal]:
    terminal = Terminal(*words, columns=80)
    try:
        yield terminal
    finally:
        terminal.close()


class TestWatch:
    def test_each_look_is_one_json_value_a_line(self, sql_engine: Target, tmp_path: Path) -> None:
        write_profile(tmp_path, {"main": sql_engine.url})
        katax("db", "exec", "create table t (n int); insert into t values (1)")
        words = ("db", "query", "select n from t order by n", "--watch", "20ms", "-f", "json")
        with spawn(*words) as process:
            assert process.stdout
            first = json.loads(process.stdout.readline())
            katax("db", "insert", "t", "n=2")
            while len(json.loads(process.stdout.readline())) < 2:
                pass
            katax("db", "exec", "drop table t", "-y")
            _, err = process.communicate(timeout=120)

        assert first == [{"n": 1}]
        assert process.returncode == 1, "what the server refuses is no loss of the server"
        assert json.loads(err)["error"]["code"] == "query_error"

    def test_only_what_reads_is_repeated(self, tmp_path: Path) -> None:
        write_profile(tmp_path, {"main": "sqlite:///m.db"})
        katax("db", "exec", "create table t (n int)")
        writes = katax("db", "query", "insert into t values (1)", "--watch", "1s")
        to_a_file = katax("db", "query", "select 1", "--watch", "1s", "-o", "x.json")
        at_once = katax("db", "query", "select 1", "--watch", "0")

        assert (writes.code, to_a_file.code, at_once.code) == (2, 2, 2)
        assert "--watch repeats the statement, and INSERT is not known to read" in writes.err
        assert katax("db", "query", "select count(*) from t", "-f", "csv", "--no-header").out == "0\n"

    def test_a_lost_server_is_shown_and_asked_again(
        self, postgresql_url: str, proxy: MakeProxy, tmp_path: Path
    ) -> None:
        way = proxy(postgresql_url)
        write_profile(tmp_path, {"main": way.url})
        with closing_terminal("db", "query", "select 'here' as x", "--watch", "50ms") as screen:
            screen.read_until(2, b"here")
            way.refuse()
            way.cut()
            screen.read_until(2, b"katax: ")
            way.come_back()
            screen.read_until(2, b"here")
            screen.type(b"\x03")
            assert screen.exit_code() == 130

    def test_a_terminal_gets_what_fits(self, tmp_path: Path) -> None:
        write_profile(tmp_path, {"main": "sqlite:///m.db"})
        endless = (
            "with recursive t (n) as (select 1 union all select n + 1 from t) select 'row' || n as x from t"
        )
        with closing_terminal("db", "query", endless, "--watch", "50ms", "--no-color") as screen:
            screen.read_until(3, b"row7")
            screen.type(b"\x03")
            assert screen.exit_code() == 130
        assert b"row30" not in screen.seen
        assert b"more rows" not in screen.seen
