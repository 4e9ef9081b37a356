"""`katax db exec`: what the statements of a script answer."""

import csv
import json
import signal
from pathlib import Path

import pytest

from tests.cli.harness import katax, write_profile
from tests.cli.processes import spawn
from tests.servers.fixtures import MakeFresh, Target
from tests.waiting import until

SCRIPT = "select 1 as a; create table t (n int); insert into t values (7), (8); select n from t order by n"


def test_results_are_printed_in_order(sql_engine: Target, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": sql_engine.url})

    done = katax("db", "exec", SCRIPT, "-f", "json")
    table = katax("db", "exec", "select 1 as a; select 'x' as b, 2 as c")
    lines = katax("db", "exec", "select 1 as a; select 2 as b", "-f", "jsonl")
    cells = katax("db", "exec", "select 1 as a; select 'x' as b", "-f", "csv")

    assert done.json == {
        "results": [[{"a": 1}], [{"n": 7}, {"n": 8}]],
        "statements": 4,
        "executed": 4,
        "rows_affected": 2,
    }, "rows that were only read are not affected"
    assert done.err == ""
    assert table.out.replace(" ", "") == "a\n-\n1\n\nbc\n--\nx2\n"
    assert table.err == "2 statements done, 0 rows affected\n"
    assert [json.loads(line) for line in lines.out.splitlines()] == [{"a": 1}, {"b": 2}]
    assert list(csv.reader(cells.out.splitlines())) == [["a"], ["1"], [], ["b"], ["x"]]


def test_only_what_changes_rows_counts_against_a_limit(sql_engine: Target, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": sql_engine.url})
    script = (
        "create table t (n int); insert into t values (1), (2); select n from t union all select n from t"
    )

    done = katax("db", "exec", script, "--max-rows-affected", "2", "-f", "json")

    assert (done.code, done.json["rows_affected"], len(done.json["results"][0])) == (0, 2, 4)


def test_what_was_written_with_returning_counts_and_is_shown(sql_engine: Target, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": sql_engine.url})

    script = "create table t (n int); insert into t values (1), (2) returning n"
    done = katax(
        "db", "exec", script, "--single-transaction" if sql_engine.engine != "mysql" else "-q", "-f", "json"
    )

    assert (done.json["results"], done.json["rows_affected"]) == ([[{"n": 1}, {"n": 2}]], 2)


def test_a_script_that_fails_leaves_the_results_before_it(sql_engine: Target, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": sql_engine.url})

    done = katax("db", "exec", "select 1 as a; select * from nosuch; select 2 as b")

    assert (done.code, done.out) == (1, "a\n-\n1\n")
    assert "line 1 failed; 1 of 3 statements succeeded before it" in done.err


def test_results_of_several_connections_stand_beside_their_names(tmp_path: Path) -> None:
    write_profile(tmp_path, {"one": "sqlite:///1.db", "two": "sqlite:///2.db"})

    rows = katax(
        "db", "exec", "create table if not exists t (n); select 1 as a", "-c", "*", "-f", "json"
    ).json
    plain = katax("db", "exec", "insert into t values (1)", "-c", "*", "-f", "json").json

    assert [(row["connection"], row["results"]) for row in rows] == [
        ("one", [[{"a": 1}]]),
        ("two", [[{"a": 1}]]),
    ]
    assert [tuple(row) for row in plain] == [("connection", "statements", "executed", "rows_affected")] * 2


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
@pytest.mark.parametrize(
    ("head", "options", "told"),
    [
        ("insert into t values (1);", (), "interrupted: 2 of 4 statements applied\n"),
        ("insert into t values (1);", ("--single-transaction",), "interrupted: rolled back\n"),
        (
            "insert into t values (1); begin;",
            (),
            "interrupted: 2 of 5 statements applied, the open transaction rolled back\n",
        ),
    ],
    ids=["each for itself", "all or nothing", "a transaction of its own"],
)
def test_an_interrupt_says_what_lasts(
    engine: str, head: str, options: tuple[str, ...], told: str, fresh: MakeFresh, tmp_path: Path
) -> None:
    target = fresh(engine)
    write_profile(tmp_path, {"main": target.url})
    katax("db", "exec", "create table t (n int)")
    sleep = "select pg_sleep(600)" if engine == "postgresql" else "select sleep(600)"
    script = f"select 1; {head} {sleep}; insert into t values (2)"
    running = (
        "pg_stat_activity where state = 'active'"
        if engine == "postgresql"
        else "information_schema.processlist"
    )
    asked = f"select {'query' if engine == 'postgresql' else 'info'} from {running}"

    with spawn("db", "exec", script, *options) as process:
        until(
            lambda: any(sleep in row for row in katax("db", "query", asked, "-f", "csv").out.splitlines()[1:])
        )
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)

    rows = katax("db", "query", "select n from t", "-f", "json").json
    assert (process.returncode, err.decode()) == (130, told)
    assert rows == ([] if options else [{"n": 1}])
    until(
        lambda: not any(sleep in row for row in katax("db", "query", asked, "-f", "csv").out.splitlines()[1:])
    )
