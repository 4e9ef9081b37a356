"""What a statement would do: never "read" unless that is certain, and destructive with its reason."""

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from katax_cli.core.sql import Dialect, StatementKind, classify

DIALECTS: list[Dialect] = ["postgresql", "mysql", "sqlite"]
PG, MY, LITE = DIALECTS

KINDS: list[tuple[Dialect, str, str, StatementKind]] = [
    (PG, "select 1", "SELECT", "read"),
    (PG, "-- drop table t\n/* delete */ ((select 1) union (select 2));", "SELECT", "read"),
    (PG, "values (1), (2)", "VALUES", "read"),
    (PG, "table t", "TABLE", "read"),
    (PG, "show all", "SHOW", "read"),
    (PG, "with a as (select 1) select * from a", "SELECT", "read"),
    (PG, "with update as (select 1), delete as (select 2) select * from update", "SELECT", "read"),
    (PG, "with a as (insert into t values (1) returning *) select * from a", "SELECT", "write"),
    (PG, "with a as materialized (update t set x=1 where y returning *) select 1", "SELECT", "write"),
    (PG, "with a as (select 1) insert into t select * from a", "INSERT", "write"),
    (PG, "with recursive a(n) as (select 1) delete from t where x in (select n from a)", "DELETE", "write"),
    (PG, "select 1 into t", "SELECT", "write"),
    (PG, "select * from t for update", "SELECT", "write"),
    (PG, "select * from t for no key update", "SELECT", "write"),
    (PG, "with a as (select 1) select * from a for share", "SELECT", "write"),
    (PG, "select substring(a from 1 for 2), 'into' from t", "SELECT", "read"),
    (PG, "insert into t values (1) on conflict (id) do update set a = 1", "INSERT", "write"),
    (PG, "merge into t using u on a = b when matched then delete", "MERGE", "write"),
    (PG, "explain select 1", "EXPLAIN", "read"),
    (PG, "explain delete from t", "EXPLAIN", "read"),
    (PG, "explain (costs off) update t set a = 1", "EXPLAIN", "read"),
    (PG, "explain analyze select 1", "EXPLAIN", "read"),
    (PG, "explain analyze delete from t where a = 1", "EXPLAIN", "write"),
    (PG, "explain (verbose, analyze) (select 1)", "EXPLAIN", "read"),
    (PG, "explain (analyze) with a as (delete from t where b returning *) select * from a", "EXPLAIN", "write"),
    (PG, "explain analyze execute p", "EXPLAIN", "unknown"),
    (PG, "explain analyze nonsense", "EXPLAIN", "unknown"),
    (PG, "copy t to stdout", "COPY TO", "copy"),
    (PG, "copy t from stdin", "COPY FROM", "copy"),
    (PG, "copy (select 1 from t) to stdout", "COPY TO", "copy"),
    (PG, "vacuum full t", "VACUUM", "ddl"),
    (PG, "analyze t", "ANALYZE", "ddl"),
    (PG, "reindex table t", "REINDEX", "ddl"),
    (PG, "create table t as select 1", "CREATE", "ddl"),
    (PG, "begin", "BEGIN", "transaction"),
    (PG, "start transaction read only", "START", "transaction"),
    (PG, "set transaction read only", "SET", "transaction"),
    (PG, "prepare transaction 'x'", "PREPARE", "transaction"),
    (PG, "set search_path = a", "SET", "session"),
    (PG, "prepare p as select 1", "PREPARE", "session"),
    (PG, "load 'lib'", "LOAD", "session"),
    (PG, "call p()", "CALL", "write"),
    (PG, "do $$ begin perform 1; end $$", "DO", "write"),
    (PG, "execute p", "EXECUTE", "unknown"),
    (PG, "frobnicate", "FROBNICATE", "unknown"),
    (PG, "", "", "unknown"),
    (PG, "-- nothing", "", "unknown"),
    (PG, "'drop table t'", "", "unknown"),
    (MY, "select insert('abc', 1, 2, 'x'), concat(insert('a', 1, 1, 'b'))", "SELECT", "read"),
    (MY, "select 1 into outfile '/tmp/x'", "SELECT", "write"),
    (MY, "select 1 into @x", "SELECT", "read"),
    (MY, "select 1 from t lock in share mode", "SELECT", "write"),
    (MY, "/*!50000 insert into t values (1) */", "INSERT", "write"),
    (MY, "select 1 /*!50000 into outfile '/tmp/x' */", "SELECT", "write"),
    (MY, "select 1 /*!80018 ' */ into outfile '/tmp/x' /*!80018 ' */", "SELECT", "write"),
    (MY, "select 1 /*!99999 -- */ into outfile '/tmp/x'", "SELECT", "write"),
    (MY, "select /*!40001 sql_no_cache */ 1 /*!80018 for json */ from t", "SELECT", "read"),
    (MY, "/*!80000 set session x = 0 */", "SET", "session"),
    (MY, "select 1 /* into outfile */ # into outfile", "SELECT", "read"),
    (MY, "select /*+ into */ 1", "SELECT", "read"),
    (MY, "desc t", "DESC", "read"),
    (MY, "describe analyze select 1", "DESCRIBE", "read"),
    (MY, "analyze table t", "ANALYZE", "ddl"),
    (MY, "analyze format=json update t set a = 1 where b", "ANALYZE", "write"),
    (MY, "load data infile 'x' into table t", "LOAD", "write"),
    (MY, "replace into t values (1)", "REPLACE", "write"),
    (MY, "set @x = 1", "SET", "session"),
    (MY, "set global x = 1", "SET", "ddl"),
    (MY, "set @@global.x = 1", "SET", "ddl"),
    (MY, "set password = 'x'", "SET", "ddl"),
    (MY, "start replica", "START", "unknown"),
    (MY, "begin not atomic insert into t values (1); end", "BEGIN", "unknown"),
    (MY, "set statement max_statement_time = 5 for update t set a = 1 where b", "UPDATE", "write"),
    (MY, "set statement sql_mode = '', a = (1) for alter table t add b int", "ALTER", "ddl"),
    (MY, "set statement tx_read_only = 0 for select f()", "SET", "session"),
    (MY, "set statement a = 1", "", "unknown"),
    (LITE, "pragma table_info(t)", "PRAGMA", "read"),
    (LITE, "pragma main.table_info(t)", "PRAGMA", "read"),
    (LITE, "pragma journal_mode", "PRAGMA", "read"),
    (LITE, "pragma journal_mode = wal", "PRAGMA", "session"),
    (LITE, "pragma journal_mode(wal)", "PRAGMA", "session"),
    (LITE, "pragma optimize", "PRAGMA", "session"),
    (LITE, "attach 'x' as y", "ATTACH", "session"),
    (LITE, "explain query plan delete from t", "EXPLAIN", "read"),
    (LITE, "replace into t values (1)", "REPLACE", "write"),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "sql", "verb", "kind"), KINDS)
def test_verb_and_kind(dialect: Dialect, sql: str, verb: str, kind: StatementKind) -> None:
    found = classify(sql, dialect)
    assert (found.verb, found.kind, found.destructive) == (verb, kind, False)
    assert classify(sql + " ;", dialect) == found


DESTRUCTIVE: list[tuple[Dialect, str, str]] = [
    (PG, "drop table t", "DROP TABLE"),
    (PG, "/* x */ DROP index concurrently i", "DROP INDEX"),
    (PG, "truncate t", "TRUNCATE"),
    (PG, "delete from t", "DELETE without WHERE"),
    (PG, "delete from t using (select 1 where true) u", "DELETE without WHERE"),
    (PG, "update t set a = (select 1 where true)", "UPDATE without WHERE"),
    (PG, "with a as (select 1 where true) delete from t", "DELETE without WHERE"),
    (PG, "with a as (delete from t returning *) select * from a where b", "DELETE without WHERE"),
    (PG, "with a as (update t set b = 1 returning *) select 1 where true", "UPDATE without WHERE"),
    (PG, "with a as (delete from t returning *), b as (select 1 where c) select 1", "DELETE without WHERE"),
    (PG, "explain analyze delete from t", "DELETE without WHERE"),
    (PG, "copy (delete from t returning *) to stdout", "DELETE without WHERE"),
    (PG, "alter table t drop column a", "ALTER TABLE DROP"),
    (PG, "alter table t drop a", "ALTER TABLE DROP"),
    (PG, "do $$ begin delete from t where a; end $$", "DO block with DELETE"),
    (PG, "do language plpgsql 'begin drop table t; end'", "DO block with DROP"),
    (PG, "select 1; drop table t; select 2", "DROP TABLE"),
    (PG, "begin; delete from t; commit", "DELETE without WHERE"),
    (MY, "/*!50000 drop table t */", "DROP TABLE"),
    (MY, "delete from t /*!99999 limit 1 */", "DELETE without WHERE"),
    (MY, "delete from t /*!80000 where a = 1 */", "DELETE without WHERE"),
    (MY, "delete from t /*M!100300 where a = 1 */", "DELETE without WHERE"),
    (MY, "delete from t # where a", "DELETE without WHERE"),
    (MY, "select 1 /*! ; drop table t */", "DROP TABLE"),
    (MY, "alter table t truncate partition p", "ALTER TABLE TRUNCATE"),
    (MY, "create or replace table t (a int)", "CREATE OR REPLACE TABLE"),
    (MY, "purge binary logs to 'x'", "PURGE"),
    (MY, "set statement max_statement_time = 5 for delete from t", "DELETE without WHERE"),
    (MY, "begin not atomic delete from t; end", "block with DELETE"),
    (MY, "if 1 then delete from t; end if", "block with DELETE"),
    (MY, "for i in 1..2 do select 1; truncate t; end for", "TRUNCATE"),
    (MY, "a: loop delete from t; leave a; end loop", "block with DELETE"),
    (MY, "create or replace database d", "CREATE OR REPLACE DATABASE"),
    (MY, "create or replace sequence s", "CREATE OR REPLACE SEQUENCE"),
    (MY, "alter table t discard tablespace", "ALTER TABLE DISCARD"),
    (PG, "create table u as with d as (delete from t returning *) select * from d", "DELETE without WHERE"),
    (PG, "create table u as ((with d as (delete from t returning *) select * from d))", "DELETE without WHERE"),
    (PG, "create table u with (fillfactor = 9) as (with d as (delete from t) select 1)", "DELETE without WHERE"),
    (LITE, "update t set a = 'where'", "UPDATE without WHERE"),
    (PG, "delete from t where 1=1", "DELETE with a WHERE that holds for every row"),
    (PG, "delete from t where true returning a", "DELETE with a WHERE that holds for every row"),
    (PG, "update t set a = 1 where (b = 2 or 1 = 1)", "UPDATE with a WHERE that holds for every row"),
    (PG, "delete from t where a = 1 or (not false)", "DELETE with a WHERE that holds for every row"),
    (PG, "delete from t where t.a = $1 or $2 = 'x'", "DELETE with a WHERE that holds for every row"),
    (PG, "delete from t where random() < 2::int", "DELETE with a WHERE that holds for every row"),
    (PG, "delete from t where a = a", "DELETE with a WHERE that holds for every row"),
    (PG, "delete from t where exists (select 1)", "DELETE with a WHERE that holds for every row"),
    (PG, "with d as (delete from t where true returning *) select * from d where d.a = 1",
        "DELETE with a WHERE that holds for every row"),
    (MY, "delete from t where 1 limit 5", "DELETE with a WHERE that holds for every row"),
    (MY, "delete from t where a = 1 || 1", "DELETE with a WHERE that holds for every row"),
    (MY, 'delete from t where "a" = "a"', "DELETE with a WHERE that holds for every row"),
    (LITE, "delete from t where cast(1 as integer)", "DELETE with a WHERE that holds for every row"),
    (LITE, "delete from [where]", "DELETE without WHERE"),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "sql", "reason"), DESTRUCTIVE)
def test_destructive_with_its_reason(dialect: Dialect, sql: str, reason: str) -> None:
    found = classify(sql, dialect)
    assert (found.destructive, found.reason) == (True, reason)
    assert found.kind != "read"


@pytest.mark.parametrize(
    ("dialect", "sql"),
    [
        (PG, "delete from t where a"),
        (PG, "delete from t where 1 = 1 and a = 1"),
        (PG, "delete from t where (a = 1 or b = 2) and true"),
        (PG, "delete from t where a || 'x' = 'yx'"),
        (PG, "delete from t where a = b or lower(a) = 'x'"),
        (PG, "delete from t where (a, b) in (select a, b from u)"),
        (LITE, 'delete from t where "a" = 1'),
        (PG, "(update t set a = 1 where b)"),
        (PG, "alter table t alter a drop not null, alter b drop default"),
        (PG, "alter table t add column dropped int"),
        (PG, "create function f() returns void as $$ drop table t $$ language sql"),
        (PG, "insert into t values ('drop table t')"),
        (PG, 'select "drop" from "truncate"'),
        (MY, "insert into t values (1) on duplicate key update a = 1"),
        (MY, "create procedure p() begin delete from t; end"),
        (LITE, "create trigger t after insert on a begin delete from b; end"),
    ],
)
def test_not_destructive(dialect: Dialect, sql: str) -> None:
    found = classify(sql, dialect)
    assert (found.destructive, found.reason) == (False, None)


def test_what_runs_unseen_statements_is_disruptive() -> None:
    """Of most of it nobody counts the rows, either."""
    for dialect, sql in (
        (PG, "call p('delete')"),
        (PG, "do $$ begin execute 'del' || 'ete from t'; end $$"),
        (PG, "do language plperl $$ spi_exec_query($_[0]) $$"),
        (MY, "call p()"),
        (MY, "set statement max_statement_time = 1 for call p()"),
        (MY, "begin not atomic call p(); end"),
        (MY, "while f() do insert into t values (1); end while"),
        (MY, "frobnicate"),
    ):
        found = classify(sql, dialect)
        assert (found.disruptive, found.uncounted, found.destructive) == (True, True, False), sql
    for sql in (
        "execute immediate concat('del', 'ete from t')",
        "execute immediate 'del' 'ete from t' using @a",
        "prepare s from @a",
        "prepare s from 'no such statement'",
    ):
        assert classify(sql, MY).disruptive, sql
    for sql in (
        "execute s using 1",
        "execute immediate _utf8'select 1' using @a",
        "prepare s from N'select ?'",
        "do f()",
    ):
        found = classify(sql, MY)
        assert (found.disruptive, found.uncounted) == (False, False), sql
    assert not classify("do $$ begin perform f(); end $$", PG).disruptive


def test_what_changes_rights_or_the_server_is_disruptive() -> None:
    for sql in (
        "grant select on t to u",
        "revoke all on t from u",
        "alter role u superuser",
        "create user u",
        "alter system set a = 1",
    ):
        assert classify(f"select 1; {sql}", PG).disruptive
    for sql in (
        "set global x = 1",
        "set password = 'x'",
        "rename user a to b",
        "/*!50000 grant all on *.* to u */",
        "set @@global.read_only = 1",
        "set sql_mode = '', global read_only = 1",
        "create or replace user u",
        "kill 5",
        "shutdown",
        "reset master",
        "stop slave",
        "uninstall plugin p",
        "execute immediate 'grant all on *.* to u'",
        "set @@global . max_connections = 1",
    ):
        assert classify(sql, MY).disruptive, sql
    for sql in (
        "set @a = 1, @b = f(1, global)",
        "set session sort_buffer_size = 1",
        "reset query cache",
        "create or replace view v as select 1",
    ):
        assert not classify(sql, MY).disruptive, sql
    for sql in (
        "alter table grant_t add a int",
        "select 'grant'",
        "set search_path to role",
        "create table role (a int)",
    ):
        assert not classify(sql, PG).disruptive


def test_what_is_prepared_counts_as_what_it_will_do() -> None:
    """An EXECUTE does not show it; that of a text is still unknown to migrations, which could not record it."""
    for dialect, sql, reason, changes_rows in (
        (MY, "execute immediate 'delete from t'", "DELETE without WHERE", True),
        (MY, "execute immediate 'update t set a = 1 where id = 2'", None, True),
        (MY, "execute immediate N'delete from t'", "DELETE without WHERE", True),
        (MY, "execute immediate @text", None, False),
        (MY, "execute plan", None, False),
        (MY, "prepare plan from 'drop table t'", "DROP TABLE", False),
        (PG, "prepare plan (int) as delete from t", "DELETE without WHERE", True),
        (PG, "prepare plan as select 1", None, False),
        (PG, "execute plan('delete from t')", None, False),
        (PG, "prepare transaction 'a'", None, False),
    ):
        effect = classify(sql, dialect)
        assert (effect.reason, effect.destructive, effect.changes_rows) == (
            reason,
            reason is not None,
            changes_rows,
        ), sql
    assert classify("execute immediate 'delete from t'", MY).kind == "unknown"


def test_gravest_of_several_statements_counts() -> None:
    found = classify("create table t(a int); delete from t; select 1", "postgresql")
    assert (found.verb, found.kind, found.destructive) == ("DELETE", "ddl", True)
    assert classify("set a = 1; select 1", "postgresql").kind == "session"
    assert classify("select 1; select 2", "postgresql").kind == "read"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_bulk_insert_is_a_write_and_hides_nothing(dialect: Dialect) -> None:
    bulk = "insert into t values " + ", ".join(["(1, 'delete; drop')"] * 2000)
    assert (classify(bulk, dialect).kind, classify(bulk, dialect).destructive) == ("write", False)
    assert classify(bulk + "; drop table t", dialect).reason == "DROP TABLE"
    assert classify(bulk + " /*! ; drop table t */", dialect).destructive == (dialect == "mysql")
    hidden = f"insert into t select '{'x' * 20_000}' from (delete from u returning *) v"
    assert classify(hidden, dialect).reason == "DELETE without WHERE"


def test_a_long_list_of_values_hides_nothing_and_is_not_held() -> None:
    values = ", ".join(["'a', 12345"] * 50_000)
    tracemalloc.start()
    chosen = classify(f"DELETE FROM t WHERE (a IN ({values}))", "postgresql")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (chosen.kind, chosen.destructive) == ("write", False)
    assert peak < 10_000_000
    for sql in (f"a IN ({values}) OR 1=1", f"(1=1 OR a IN ({values}))", f"NOT (a NOT IN ({values}) AND 1=2)"):
        assert classify(f"DELETE FROM t WHERE {sql}", "mysql").destructive, sql[-20:]
    assert classify(f"WITH v AS (VALUES ({values})) DELETE FROM t", "postgresql").destructive


def test_copy_program_is_flagged() -> None:
    assert classify("copy t from program 'curl x'", "postgresql").reason == "COPY PROGRAM"
    assert classify("copy (select program from t) to stdout", "postgresql").reason is None


WORDS = ["select", "with", "explain", "analyze", "(", ")", ";", ",", "as", "delete", "update",
         "where", "into", "drop", "/*!", "*/", "'x'"]  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=20)
@given(words=st.lists(st.sampled_from(WORDS), max_size=12))
def test_any_sequence_of_words_is_classified(dialect: Dialect, words: list[str]) -> None:
    found = classify(" ".join(words), dialect)
    assert found.destructive <= (found.reason is not None)
    if words and words[0] in ("delete", "update", "drop"):
        assert found.kind != "read"


def test_changes_of_rows_that_are_there() -> None:
    changing = [
        "update t set n = 1 where n = 2",
        "merge into t using s on t.n = s.n when matched then delete",
        "with x as (select 1) delete from t where n = 1",
    ]
    uncounted = [
        "with gone as (delete from t where n = 1 returning *) select * from gone",
        "with gone as (delete from t where n = 1 returning *) update t set n = 2 where n = 3",
        "explain analyze delete from t where n = 1",
        "select 1; with gone as (delete from t where n = 1 returning *) select * from gone",
    ]
    none = [
        "select * from t for update",
        "insert into t values (1) on conflict (n) do update set n = 2",
        "insert into t select 'delete from t where n = 1'",
        "explain delete from t where n = 1",
        "create function f() returns int language sql as 'delete from t where n = 1'",
    ]
    effects = [classify(sql, "postgresql") for sql in (*changing, *uncounted, *none)]

    assert [effect.changes_rows for effect in effects] == [True] * 7 + [False] * 5
    assert [effect.uncounted for effect in effects] == [False] * 3 + [True] * 4 + [False] * 5
