"""`katax db` on real servers: values, limits, scripts, confirmation, and many connections at once."""

from pathlib import Path

import psycopg
import pytest

from katax_cli.cli.shell.output import FORMATS
from tests.cli.harness import Done, katax, write_profile
from tests.cli.terminal import at_terminal
from tests.promises.witness import mysql_connection, witness_of
from tests.servers import Server
from tests.servers.fixtures import MakeFresh, Target, Throwaway
from tests.waiting import until

TABLE = "create table t (n int, name varchar(20)); insert into t values (1, 'a'), (2, 'b'), (3, 'c')"


@pytest.fixture
def main(sql_engine: Target, tmp_path: Path) -> Target:
    """Each SQL engine in turn, as the profile's connection `main`, with a table of three rows."""
    write_profile(tmp_path, {"main": sql_engine.url})
    katax("db", "exec", TABLE)
    return sql_engine


def names(*words: str) -> list[str]:
    done = katax("db", "query", *words, "-f", "csv", "--no-header")
    assert done.code == 0, done.err
    return done.out.split()


def count() -> int:
    return int(katax("db", "query", "select count(*) from t", "-f", "csv", "--no-header").out)


@pytest.mark.parametrize(
    "words",
    [
        ("select name from t where n = $1 or name = $2 order by n", "1", "c"),
        ("select name from t where name = $2 or n = $1 order by n", "1", "c"),
        ("select name from t where n = ? or name = ? order by n", "1", "c"),
        ("select name from t where n = :n or name = :name order by n", "--param", "n=1", "--param", "name=c"),
    ],
)
def test_placeholders_in_three_styles(words: tuple[str, ...], main: Target) -> None:
    assert names(*words) == ["a", "c"]


@pytest.mark.parametrize("value", ["'; drop table t; --", "%s", "$1", "?", ":n", "\\", "a=b", "", "漢字"])
def test_a_value_is_never_sql(value: str, main: Target) -> None:
    given = katax("db", "query", "select cast(:v as char(30)) as v", "--param", f"v={value}", "-f", "jsonl")

    assert (given.code, given.err) == (0, "")
    assert given.json["v"].rstrip() == value
    assert count() == 3


def test_json_of_the_server_stays_as_it_is(postgresql_url: str, tmp_path: Path) -> None:
    """Its digits in JSON, and one line for each row in JSON lines."""
    write_profile(tmp_path, {"main": postgresql_url})
    sql = """select '{"a":  1.10, "big": 12345678901234567890.123}'::json as j, '[1,\n2]'::json as k"""
    assert katax("db", "query", sql, "-f", "json").out == (
        '[\n  {"j": {"a":  1.10, "big": 12345678901234567890.123}, "k": [1,\n2]}\n]\n'
    )
    assert katax("db", "query", sql, "-f", "jsonl").out == (
        '{"j": {"a":  1.10, "big": 12345678901234567890.123}, "k": [1, 2]}\n'
    )


def test_too_few_and_too_many_values(main: Target) -> None:
    for words in (("select ?",), ("select ?", "1", "2"), ("select :a", "--param", "b=1")):
        done = katax("db", "query", *words)
        assert (done.code in (1, 2), done.err.count("\n")) == (True, 1), done.err


@pytest.mark.parametrize(
    ("limit", "rows", "noted"), [("2", 2, True), ("3", 3, False), ("4", 3, False), ("0", 0, True)]
)
def test_a_limit_says_that_there_is_more(limit: str, rows: int, noted: bool, main: Target) -> None:
    done = katax("db", "query", "select n from t order by n", "--limit", limit, "-f", "csv")

    assert done.out.split() == ["n", *"123"[:rows]]
    assert done.err == (f"there are more rows than --limit {limit}\n" if noted else "")


def test_sql_from_files_and_standard_input(main: Target, tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_text("\ufeffselect name from t where n = 2")

    assert names("@q.sql") == names("--file", "q.sql") == ["b"]
    assert katax("db", "query", "-", "-f", "csv", stdin=b"select 7 as n").out == "n\n7\n"
    assert katax("db", "query", "--file", "-", "-f", "csv", stdin=b"select 7 as n").out == "n\n7\n"


def test_a_statement_without_rows_says_how_many_it_changed(main: Target) -> None:
    assert katax("db", "query", "update t set n = n + 10 where n > 1", "-f", "json").json == {
        "rows_affected": 2
    }


def test_a_script_stops_at_the_first_error(main: Target) -> None:
    script = "insert into t values (4, 'd');\n\nselekt;\ninsert into t values (5, 'e')"

    done = katax("db", "exec", script)

    assert done.code == 1
    assert done.err.startswith("line 3 failed; 1 of 3 statements succeeded before it\nkatax: 'main' refused")
    assert count() == 4


def test_a_script_in_one_transaction(main: Target) -> None:
    script = "insert into t values (4, 'd'); insert into t values (5, 'e'); selekt"

    failed = katax("db", "exec", "--single-transaction", script)
    assert (failed.code, failed.err.startswith("line 1 failed; all of it was rolled back\n")) == (1, True)
    assert count() == 3
    done = katax("db", "exec", "--single-transaction", script.replace("; selekt", ""), "-f", "json")
    assert done.json == {"statements": 2, "executed": 2, "rows_affected": 2}
    assert count() == 5


def test_a_commit_that_fails_undoes_all_of_a_script(fresh: MakeFresh, tmp_path: Path) -> None:
    for engine in ("postgresql", "sqlite"):
        write_profile(tmp_path, {"main": fresh(engine).url})
        katax(
            *("db", "exec"),
            "create table kept (n int primary key, other int references kept (n) deferrable initially deferred)",
        )
        failed = katax("db", "exec", "--single-transaction", "insert into kept values (1, 9); select 1")
        assert failed.code == 1
        assert failed.err.startswith("COMMIT failed; all of it was rolled back\nkatax: 'main' refused")
        assert katax("db", "query", "select count(*) from kept", "-f", "tsv", "--no-header").out == "0\n"


def test_tables_of_mysql_without_transactions_are_not_said_to_be_rolled_back(
    mysql_url: str, tmp_path: Path
) -> None:
    write_profile(tmp_path, {"main": mysql_url})
    katax("db", "exec", "create table kept (n int) engine = myisam; create table t (n int) engine = innodb")
    for words in (("--single-transaction", ""), ("begin;",)):
        *options, begin = words
        failed = katax(
            "db", "exec", *options, f"{begin} insert into t values (1); insert into kept values (1); selekt"
        )
        assert failed.code == 1
        assert "succeeded before it, and rolling back failed: 'main' refused" in failed.err
        assert "non-transactional changed tables couldn't be rolled back (1196)" in failed.err
    assert katax("db", "query", "select count(*) from kept", "-f", "tsv", "--no-header").out == "2\n"
    assert katax("db", "query", "select count(*) from t", "-f", "tsv", "--no-header").out == "0\n"


def test_mysql_is_not_asked_to_undo_what_it_commits_by_itself(tmp_path: Path, mysql_url: str) -> None:
    write_profile(tmp_path, {"main": mysql_url})
    katax(
        "db",
        "exec",
        "create table t (n int); create procedure p() begin truncate t; insert into t values (7); end",
    )
    for ddl in ("create table u (n int)", "lock tables t write", "flush tables", "alter table t add m int"):
        done = katax("db", "exec", "--single-transaction", f"insert into t values (4);\n{ddl};\nselekt")
        assert done.code == 2
        assert f"line 2: mysql commits by itself at {ddl.split()[0].upper()}" in done.err
    assert count() == 0
    temporary = "create temporary table u (n int); insert into t values (4); drop temporary table u"
    assert katax("db", "exec", "--single-transaction", temporary, "-y").code == 0

    unseen = katax(
        "db", "exec", "--single-transaction", "insert into t values (5);\ncall p();\ninsert into t values (6)"
    )

    assert unseen.code == 1
    assert (
        "line 2 ended the transaction by itself; 2 of 3 statements stay applied, the rest did not run"
        in unseen.err
    )
    assert names("select n from t") == ["7"]


def test_a_scripts_own_transaction_holds(main: Target) -> None:
    """Statement by statement, but on one connection: what was begun is rolled back."""
    assert katax("db", "exec", "begin; insert into t values (4, 'd'); rollback").code == 0
    assert count() == 3
    assert katax("db", "exec", "begin; insert into t values (4, 'd'); commit").code == 0
    assert count() == 4


def test_a_transaction_left_open_is_undone_and_said(main: Target) -> None:
    done = katax("db", "exec", "begin; insert into t values (4, 'd')")

    assert (done.code, done.err) == (
        1,
        "katax: the script left its transaction on 'main' open, so it was rolled back; end it with COMMIT\n",
    )
    assert count() == 3


@pytest.mark.parametrize("verb", ["begin", "commit", "rollback", "start transaction"])
def test_a_single_transaction_is_the_only_one(verb: str, main: Target) -> None:
    done = katax("db", "exec", "--single-transaction", f"insert into t values (4, 'd');\n{verb}")

    assert done.code == 4
    assert "line 2 begins or ends a transaction inside --single-transaction" in done.err
    assert count() == 3


def test_savepoints_are_no_transactions(main: Target) -> None:
    script = "insert into t values (4, 'd'); savepoint s; delete from t where n = 1; rollback to savepoint s"

    assert katax("db", "exec", "--single-transaction", script).code == 0
    assert count() == 4


@pytest.mark.parametrize("more", [(), ("--single-transaction",)])
def test_a_statement_that_changes_too_much_is_undone(more: tuple[str, ...], main: Target) -> None:
    script = "insert into t values (4, 'd');\nupdate t set n = 0 where n > 1"

    done = katax("db", "exec", script, "--max-rows-affected", "2", *more)

    assert done.code == 4
    assert "refused: line 2 changes 3 rows, more than --max-rows-affected 2; undone" in done.err
    assert names("select n from t order by n") == ["1", "2", "3", *([] if more else ["4"])]
    assert katax("db", "exec", script, "--max-rows-affected", "4").code == 0


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_what_is_asked_of_the_catalogue_waits_for_no_locked_table(
    engine: str, tmp_path: Path, fresh: MakeFresh
) -> None:
    target = fresh(engine)
    write_profile(tmp_path, {"main": target.url})
    script = "create table held (id int primary key, note varchar(9) default 'x'); create index notes on held (note)"
    if engine == "postgresql":
        script += "; create table part (id int) partition by range (id); create table leaf partition of part default"
    assert katax("db", "exec", script).code == 0
    holder = psycopg.connect(target.url) if engine == "postgresql" else mysql_connection(target.url)
    with holder, holder.cursor() as cursor:
        cursor.execute("lock table held, leaf" if engine == "postgresql" else "lock tables held write")

        assert "held" in katax("db", "tables").out
        assert "notes" in katax("db", "describe", "held").out
        for words in (
            ("db", "size"),
            ("db", "metrics"),
            ("health", "--verbose"),
            ("db", "truncate", "--dry-run"),
        ):
            assert katax(*words, "--timeout", "20").code in (0, 1)
        assert katax("db", "delete", "held", "--where", "id = x").code == 2


def test_intervals_keep_their_months_in_every_format(postgresql_url: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": postgresql_url})
    query = ("db", "query", "select interval '1 year 2 months 3 days 4:05:06.7' i, interval '-1 mon' j")
    for format in FORMATS:
        out = katax(*query, "-f", format).out
        assert "P1Y2M3DT4H5M6.7S" in out
        assert "P-1M" in out


def test_text_of_sqlite_that_is_not_utf8_is_said_without_showing_it(sqlite_url: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": sqlite_url})
    for format in ("table", "csv"):
        done = katax("db", "query", "select 'ok' n union all select cast(x'ff41' as text)", "-f", format)
        assert (done.code, done.err) == (
            1,
            "katax: 'main' refused the statement: column 'n' holds text that is not UTF-8; cast it to blob\n",
        )


def test_what_a_server_answers_about_a_third_one_is_a_query_error(
    postgresql_url: str, tmp_path: Path
) -> None:
    write_profile(tmp_path, {"main": postgresql_url})
    nowhere = "create subscription s connection 'host=127.0.0.1 port=1 dbname=x' publication p"

    done = katax("db", "exec", nowhere)

    assert (done.code, "refused the statement: could not connect to the publisher" in done.err) == (1, True)


def test_a_write_to_a_standby_is_refused_or_waits_for_the_primary(
    throwaway: Throwaway, tmp_path: Path
) -> None:
    server = throwaway("postgresql")
    write_profile(tmp_path, {"main": server.url})
    assert katax("db", "exec", "create table t (n int)").code == 0
    server.stop()
    (Path(str(server.socket)).parent / "data" / "standby.signal").touch()
    server.start()

    for words in (
        ("db", "insert", "t", "n=1"),
        ("db", "exec", "insert into t values (1)"),
        ("db", "exec", "drop table t", "-y"),
    ):
        alone = katax(*words)
        assert alone.code == 4
        assert (
            "'main' is read-only: the server is a standby, which takes no writes: cannot execute" in alone.err
        )
    assert count() == 0

    place = f"{server.host}:{server.port}"
    write_profile(tmp_path, {"main": server.url.replace(place, f"{place},{place}")})
    several = katax("db", "insert", "t", "n=1")
    assert several.code == 3
    assert "'main' is not available" in several.err
    assert "the server is a standby, which takes no writes" in several.err


DESTRUCTIVE = {
    "delete from t": "DELETE without WHERE",
    "update t set n = 0": "UPDATE without WHERE",
    "drop table t": "DROP TABLE",
    "select 1; delete from t; drop table t": "DELETE without WHERE; DROP TABLE",
}


@pytest.mark.parametrize("sql", DESTRUCTIVE)
def test_what_loses_data_is_asked_about(sql: str, main: Target) -> None:
    what = DESTRUCTIVE[sql]
    refused = katax("db", "exec", sql)

    assert (refused.code, refused.err) == (
        4,
        f"katax: refused: {what} on 'test/main' needs confirmation; repeat with --yes\n",
    )
    assert at_terminal("db", "exec", sql, typed="n").code == 4
    assert count() == 3
    done = at_terminal("db", "exec", sql, typed="y")
    assert (done.code, f"{what} on test/main? [y/N] " in done.err) == (0, True)


def test_a_limit_holds_for_whatever_a_statement_writes(main: Target) -> None:
    for sql in ("insert into t select n + 10, name from t", "update t set n = n + 10"):
        done = katax("db", "query", sql, "--max-rows-affected", "2", "-y")
        assert (done.code, "changes 3 rows, --max-rows-affected is 2; rolled back" in done.err) == (4, True)
    lossy = "truncate table t" if main.engine != "sqlite" else "drop table t"
    assert katax("db", "query", lossy, "--max-rows-affected", "2", "-y").code == 4
    assert names("select n from t order by n") == ["1", "2", "3"]


@pytest.mark.parametrize("command", ["query", "exec"])
def test_a_limit_is_refused_where_nothing_holds_it(command: str, fresh: MakeFresh, tmp_path: Path) -> None:
    target = fresh("mysql")
    write_profile(tmp_path, {"main": target.url})
    assert katax("db", "exec", TABLE.replace("20))", "20)) engine = MyISAM", 1)).code == 0
    assert katax("db", "exec", "create procedure p() update t set n = 0").code == 0
    for sql, why in (
        ("update t set n = 0", "no rollback undoes what is written there; leave --max-rows-affected out"),
        ("insert into t select * from t", "no rollback undoes what is written there"),
        ("call p()", "the server does not count all rows that it changes"),
    ):
        done = katax("db", command, sql, "--max-rows-affected", "1", "-y")
        assert (done.code, why in done.err) == (4, True)
    assert names("select n from t order by n") == ["1", "2", "3"]


def test_rows_that_nobody_counts_are_not_lost_under_a_limit(main: Target) -> None:
    verb = "delete from t where 1 = 1; drop table t" if main.engine == "sqlite" else "truncate table t"
    done = katax("db", "exec", f"select 1; {verb}", "--max-rows-affected", "100", "-y")

    assert done.code == 4
    assert "are not counted, so --max-rows-affected cannot hold" in done.err
    assert count() == 3


UNSEEN = {
    "postgresql": ["call empty_t()", "do $$ begin execute 'del' || 'ete from t'; end $$"],
    "mysql": [
        "call empty_t()",
        "execute immediate concat('del', 'ete from t')",
        "execute immediate 'del' 'ete from t'",
    ],
}


@pytest.mark.parametrize("engine", UNSEEN)
def test_what_cannot_be_read_is_asked_for_on_production(
    engine: str, tmp_path: Path, fresh: MakeFresh
) -> None:
    write_profile(tmp_path, {"main": fresh(engine).url}, role="prod")
    body = "language sql as 'delete from t'" if engine == "postgresql" else "delete from t"
    assert katax("db", "exec", f"{TABLE}; create procedure empty_t() {body}").code == 0
    for sql in UNSEEN[engine]:
        refused = katax("db", "query", sql)
        assert (refused.code, "on 'test/main' needs confirmation; repeat with --yes" in refused.err) == (
            4,
            True,
        )
        assert at_terminal("db", "exec", sql, typed="n").code == 4
        assert count() == 3
    assert katax("db", "query", UNSEEN[engine][0], "-y").code == 0
    assert count() == 0


def test_a_block_of_mariadb_loses_no_data_unasked(mariadb: Server, fresh: MakeFresh, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": fresh(mariadb).url})
    assert katax("db", "exec", TABLE).code == 0
    for sql in ("if 1 then delete from t; end if", "repeat delete from t; until 1 end repeat"):
        refused = katax("db", "query", sql)
        assert (refused.code, "block with DELETE on 'test/main' needs confirmation" in refused.err) == (
            4,
            True,
        )
    assert count() == 3


def test_rights_are_changed_on_production_after_a_question_only(tmp_path: Path, postgresql_url: str) -> None:
    write_profile(tmp_path, {"main": postgresql_url}, role="prod")
    sql = "alter role current_user set work_mem = '5MB'; revoke create on schema public from public"
    refused = katax("db", "exec", sql)
    assert (refused.code, "ALTER; REVOKE on 'test/main' needs confirmation" in refused.err) == (4, True)
    try:
        assert katax("db", "exec", sql, "-y").code == 0
    finally:
        # The role is everybody's on this server.
        with psycopg.connect(postgresql_url, autocommit=True) as connection:
            connection.execute("alter role current_user reset work_mem")
    assert katax("db", "exec", "delete from t where 1=1", "-y").code == 4


@pytest.mark.parametrize("command", ["query", "exec"])
def test_production_wants_its_name(command: str, sqlite_url: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": sqlite_url}, role="prod")
    katax("db", "exec", "create table t (n int); insert into t values (1)")
    words = ("db", command, "delete from t")

    for given in ((), ("-y",), ("--confirm", "main"), ("--confirm", "dev/main")):
        assert katax(*words, *given).code == 4
    assert at_terminal(*words, typed="y").code == 4
    assert count() == 1
    assert katax(*words, "--confirm", "test/main").code == 0
    assert count() == 0


def test_a_dry_run_runs_nothing(main: Target) -> None:
    script = katax("db", "exec", "delete from t; drop table t", "--dry-run", "-f", "json")
    query = katax("db", "query", "delete from t", "--dry-run", "-f", "json")

    assert (script.code, script.json) == (0, {"statements": 2, "executed": 0, "dry_run": True})
    assert (query.code, query.json) == (0, {"connections": ["main"], "executed": False, "dry_run": True})
    assert count() == 3


@pytest.fixture
def shards(fresh: MakeFresh, tmp_path: Path, closed_port: int) -> list[str]:
    """Three engines as shards, and one that is not there."""
    urls = {f"shard_{name}": fresh(name).url for name in ("postgresql", "mysql", "sqlite")}
    write_profile(tmp_path, {**urls, "away": f"postgresql://a:b@127.0.0.1:{closed_port}/x"})
    return list(urls)


def test_a_glob_merges_the_rows_of_all(shards: list[str]) -> None:
    done = katax("db", "query", "-c", "shard_*", "select 1 as a union all select 2 order by 1", "-f", "csv")

    rows = [f"{name},{n}" for name in shards for n in (1, 2)]
    assert (done.code, done.out.splitlines(), done.err) == (0, ["connection,a", *rows], "")
    limited = katax("db", "query", "-c", "shard_*", "select 1 as a union all select 2", "--limit", "1")
    noted = {f"there are more rows of '{name}' than --limit 1" for name in shards}
    assert set(limited.err.splitlines()) == noted


def test_a_glob_of_writes_says_what_each_changed(shards: list[str]) -> None:
    katax("db", "query", "-c", "shard_*", "create table t (n int)")

    done = katax("db", "query", "-c", "shard_*", "insert into t values (1), (2)", "-f", "json")

    assert done.json == [{"connection": name, "rows_affected": 2} for name in shards]


def test_one_that_fails_costs_its_own_rows(shards: list[str]) -> None:
    done = katax("db", "query", "-c", "*", "select 1 as a", "-f", "csv")

    assert done.code == 3
    assert done.out.splitlines() == ["connection,a", *(f"{name},1" for name in shards)]
    assert done.err.startswith("katax: 'away' is not available: ")
    assert done.err.count("\n") == 1
    assert katax("db", "query", "-c", "*", "selekt").code == 3


def test_ping_says_who_answered(shards: list[str]) -> None:
    done = katax("db", "ping", "-c", "*", "-f", "json")

    assert done.code == 3
    assert [row["connection"] for row in done.json] == shards
    assert all(row["latency_ms"] > 0 for row in done.json)
    assert '"exit": 3' in done.err


def test_what_works_on_one_connection_says_so(shards: list[str]) -> None:
    done = katax("db", "describe", "-c", "shard_*", "t")

    assert (done.code, done.err) == (
        2,
        f"katax: 'shard_*' matches {', '.join(shards)}; 'db describe' works on one connection\n",
    )


def test_a_script_runs_on_all_that_match(shards: list[str]) -> None:
    script = "create table t (n int); insert into t values (1), (2); update t set n = 3 where n = 1"

    done = katax("db", "exec", "-c", "shard_*", script, "-f", "json")

    assert (done.code, done.err) == (0, "")
    assert done.json == [
        {"connection": name, "statements": 3, "executed": 3, "rows_affected": 3} for name in shards
    ]
    assert len(names("-c", "shard_*", "select n from t where n > 1")) == 6


def test_a_script_that_fails_on_one_costs_its_own_row(shards: list[str]) -> None:
    katax("db", "exec", "-c", "shard_mysql", "create table t (n int)")

    done = katax("db", "exec", "-c", "*", "create table u (n int);\ncreate table t (n int)", "-f", "csv")

    assert done.code == 3, "somebody who is not there outranks a statement that failed"
    assert done.out.splitlines() == [
        "connection,statements,executed,rows_affected",
        "shard_postgresql,2,2,0",
        "shard_sqlite,2,2,0",
    ]
    assert "line 2 failed on 'shard_mysql'; 1 of 2 statements succeeded before it\n" in done.err
    assert "katax: 'away' is not available: " in done.err
    assert katax("db", "exec", "-c", "shard_*", "create table t (n int)").code == 1


def test_nothing_of_a_script_runs_before_the_last_question(shards: list[str]) -> None:
    katax("db", "exec", "-c", "shard_*", "create table t (n int); insert into t values (1)")
    words = ("db", "exec", "-c", "shard_*", "delete from t")

    dry = katax(*words, "--dry-run", "-f", "json")
    assert dry.json == {"connections": shards, "executed": 0, "dry_run": True}
    half = at_terminal(*words, typed="y")

    assert half.code == 4
    assert [half.err.count(f"test/{name}? [y/N] ") for name in shards] == [1, 1, 0]
    assert len(names("-c", "shard_*", "select n from t")) == 3
    done = at_terminal(*words, typed="y\ny\ny")
    assert (done.code, done.err.count("? [y/N] ")) == (0, 3)
    assert names("-c", "shard_*", "select n from t") == []


@pytest.mark.parametrize("engine", ["postgresql", "mysql", "sqlite", "mongodb"])
def test_tables_and_describe(engine: str, fresh: MakeFresh, tmp_path: Path) -> None:
    witness = witness_of(fresh(engine))
    write_profile(tmp_path, {"main": witness.target.url})

    tables = katax("db", "tables", "-f", "json")
    assert (tables.code, "kept" in [table["name"] for table in tables.json]) == (0, True)
    assert set(tables.json[0]) == {"schema", "name", "kind", "rows_estimate", "size_bytes"}

    described = katax("db", "describe", "kept", "-f", "json")
    assert (described.code, "n" in [column["column"] for column in described.json]) == (0, True)
    missing = katax("db", "describe", "nothing")
    assert missing == Done(1, b"", "no table named 'nothing' on 'main'; see 'katax db tables'\n")


def test_a_default_connection(fresh: MakeFresh, tmp_path: Path) -> None:
    """`main`, else the only one that fits, else exit 2 and the names."""
    one = fresh("sqlite").url
    write_profile(tmp_path, {"anything": one, "cache": fresh("redis").url})
    assert katax("db", "query", "select 1").code == 0

    write_profile(tmp_path, {"one": one, "two": fresh("sqlite").url})
    several = katax("db", "query", "select 1")
    assert (several.code, "choose with -c: one, two" in several.err) == (2, True)

    write_profile(tmp_path, {"main": one, "two": fresh("sqlite").url})
    assert katax("db", "query", "select 1").code == 0


def test_the_deadline_of_the_command_and_of_the_profile(fresh: MakeFresh, tmp_path: Path) -> None:
    """Whichever ends first, unless --timeout says otherwise; the seconds are those that were given."""
    file = write_profile(tmp_path, {"main": fresh("postgresql").url})
    file.write_text(file.read_text() + "statement_timeout = 0.3\n")

    def ended(*words: str) -> tuple[int, str]:
        done = katax("db", "query", "select pg_sleep(600)", *words)
        return done.code, done.err

    told = "katax: 'main' is not available: query took longer than {} s\n"
    # Where the machine stands still, the time may be over before the statement is sent, and is told otherwise.
    until(lambda: ended() == (3, told.format(0.3)))
    until(lambda: ended("--timeout", "400ms") == (3, told.format(0.4)))
    assert katax("db", "query", "select pg_sleep(0.5)", "--timeout", "60s").code == 0
