"""Promise 20: what one caller sets on a pooled connection never reaches the next one.

Each way of leaving a connection is taken with each kind of state. The bad twin is the same with the reset off:
there every state is seen by the next caller, so what is asked here would notice it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import psycopg
import pymysql
import pytest

from katax_cli.core.sql import statement_of
from katax_cli.core.sql.lexer import keywords
from katax_cli.errors import ConfigError, KataxError
from katax_cli.profiles.load import load_profile
from katax_cli.services.databases.session import Session
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.databases.transaction import Transaction
from katax_cli.services.program.container import Katax
from katax_cli.services.runtime.runtime import Runtime
from tests.servers.fixtures import MakeFresh, Target
from tests.services.runtimes import patient, write_profile

STATES: dict[str, list[str | tuple[str, ...]]] = {
    "postgresql": [
        "set app.tenant = 'acme'",
        "select set_config('app.tenant', 'acme', false)",
        "select set_tenant()",
        "do $$ begin perform set_config('app.tenant', 'acme', false); end $$",
        "call set_tenant_too()",
        "set role other_role",
        "set session authorization other_role",
        "set time zone 'Asia/Tokyo'",
        "set search_path = pg_catalog",
        "set session characteristics as transaction isolation level serializable",
        "set default_transaction_read_only = on",
        "set lock_timeout = '123ms'",
        "set idle_in_transaction_session_timeout = '123s'",
        "set client_min_messages = error",
        "set client_encoding = latin1",
        "set bytea_output = escape",
        "set datestyle = 'German'",
        "set enable_seqscan = off",
        "/* harmless */ set work_mem = '1MB'",
        "create temp table scratch (n int)",
        "create temporary view peek as select 1 as n",
        "create table pg_temp.scratch (n int)",
        "select 1 as n into temp scratch",
        "explain analyze create temp table scratch as select 1 as n",
        "listen news",
        "declare held cursor with hold for select 1",
        "prepare plan as select 1",
        "select pg_advisory_lock(42)",
        "select pg_try_advisory_lock_shared(1, 2)",
        "with locked as (select pg_advisory_lock(43)) select * from locked",
        ("begin", "set local app.tenant = 'acme'"),
        ("begin", "insert into t values (99)"),
        ("begin", "set app.tenant = 'acme'", "commit"),
        ("begin", "declare held cursor with hold for select 1", "commit"),
        ("begin", "lock table t"),
        "select setseed(0.5)",
        "set seed = 0.5",
    ],
    "mysql": [
        "set @tenant = 'acme'",
        "select 'acme' into @tenant",
        "select @tenant := 'acme'",
        "/*!50000 set @tenant = 'acme' */",
        "call set_tenant()",
        "select set_tenant_too()",
        "use {other}",
        "set role other_role",
        "set names latin1",
        "set character_set_results = latin1",
        "set time_zone = '+09:00'",
        "set sql_mode = ''",
        "set sql_safe_updates = 1",
        "set foreign_key_checks = 0",
        "set unique_checks = 0",
        "set autocommit = 0",
        "set session transaction isolation level serializable",
        "set session transaction read only",
        "set lock_wait_timeout = 7",
        "set wait_timeout = 77",
        "set group_concat_max_len = 5",
        "set session sql_select_limit = 1",
        "set lc_time_names = 'de_DE'",
        "set session auto_increment_increment = 10",
        "create temporary table scratch (n int)",
        "create temporary table t (wrong int)",
        "prepare plan from 'select 1'",
        "select get_lock('katax-lock', 0)",
        "do get_lock('katax-lock', 0)",
        "lock tables t read",
        "handler t open as h",
        ("begin", "insert into t values (99)"),
        ("start transaction", "set @tenant = 'acme'", "commit"),
        "xa start 'x'",
    ],
    "sqlite": [
        "create temp table scratch (n int)",
        "create table temp.scratch (n int)",
        "create temporary view peek as select 1 as n",
        "create temp trigger watch after insert on t begin delete from t where n = 5; end",
        "attach ':memory:' as aside",
        *(
            f"pragma {name}"
            for name in (
                "foreign_keys = off",
                "foreign_keys(0)",
                "query_only = on",
                "synchronous = off",
                "cache_size = 7",
                "temp_store = memory",
                "recursive_triggers = on",
                "case_sensitive_like = on",
                "locking_mode = exclusive",
                "reverse_unordered_selects = on",
                "busy_timeout = 7",
                "ignore_check_constraints = on",
                "automatic_index = off",
                "cell_size_check = on",
                "checkpoint_fullfsync = on",
                "fullfsync = on",
                "journal_size_limit = 77",
                "max_page_count = 7777",
                "mmap_size = 65536",
                "read_uncommitted = on",
                "analysis_limit = 77",
                "writable_schema = on",
                "wal_autocheckpoint = 7",
                "trusted_schema = off",
            )
        ),
        ("begin", "insert into t values (99)"),
        ("begin immediate", "insert into t values (99)"),
    ],
}
_PRAGMAS = keywords(
    """foreign_keys query_only synchronous cache_size temp_store recursive_triggers locking_mode
    reverse_unordered_selects busy_timeout ignore_check_constraints automatic_index
    cell_size_check checkpoint_fullfsync fullfsync journal_size_limit max_page_count mmap_size read_uncommitted
    analysis_limit writable_schema wal_autocheckpoint trusted_schema"""
)
QUESTIONS = {
    "postgresql": [
        "select current_user, session_user, nullif(current_setting('app.tenant', true), '')",
        """select name, setting from pg_settings where source = 'session'
            and name not in ('statement_timeout', 'transaction_read_only', 'client_encoding') order by name""",
        "select current_setting('client_encoding'), current_setting('search_path'), current_setting('TimeZone')",
        "select relname from pg_class where relpersistence = 't' or relnamespace = pg_my_temp_schema() order by 1",
        "select name from pg_prepared_statements where from_sql",
        "select name from pg_cursors",
        "select classid, objid from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()",
        "select * from pg_listening_channels()",
        "select random() = {seeded}",
        "select mode from pg_locks where pid = pg_backend_pid() and relation = 't'::regclass order by 1",
    ],
    "mysql": [
        "select database(), current_role(), @tenant, is_used_lock('katax-lock') is null",
        """select variable_name, variable_value from information_schema.session_variables where variable_name not in
            ('TIMESTAMP', 'RAND_SEED1', 'RAND_SEED2', 'LAST_INSERT_ID', 'IDENTITY', 'INSERT_ID', 'ERROR_COUNT',
             'WARNING_COUNT', 'PSEUDO_THREAD_ID', 'MAX_STATEMENT_TIME', 'LAST_GTID', 'GTID_SEQ_NO',
             'NET_WRITE_TIMEOUT', 'GTID_BINLOG_POS', 'GTID_CURRENT_POS', 'GTID_SLAVE_POS')
            and variable_name not like 'GTID%' and variable_name not like 'INNODB%' order by 1""",
        "select n from {here}.scratch",
        "select n from {here}.t where n > 90",
        "select count(*) from {here}.other_t",
        "execute plan",
        "handler h read first",
        "select count(*) from information_schema.innodb_trx where trx_mysql_thread_id = connection_id()",
        "xa start '{fresh}'",
    ],
    "sqlite": [
        "select name, type from sqlite_temp_master order by 1",
        "select name from pragma_database_list where name not in ('main', 'temp')",
        "select 'a' like 'A'",
        "select n from t where n > 90",
        *(f"pragma {name}" for name in sorted(_PRAGMAS)),
    ],
}
PREPARATIONS = {
    "postgresql": [
        "drop role if exists other_role",
        "create role other_role",
        """create function set_tenant() returns void language plpgsql as
            $$ begin perform set_config('app.tenant', 'acme', false); end $$""",
        """create procedure set_tenant_too() language plpgsql as
            $$ begin perform set_config('app.tenant', 'acme', false); end $$""",
    ],
    "mysql": [
        "create role if not exists other_role",
        "grant other_role to current_user()",
        "create procedure set_tenant() set @tenant = 'acme'",
        "create function set_tenant_too() returns int begin set @tenant = 'acme'; return 1; end",
        "create table other_t (n int)",
    ],
    "sqlite": [],
}


class Pooled:
    """A database whose pool has one connection, and what its next caller sees."""

    def __init__(self, runtime: Runtime, engine: str, other: str) -> None:
        self.db = cast(SqlDatabase, runtime.database("main"))
        self.engine = engine
        self._names = {"here": self.db.settings.database or "", "other": other}
        for statement in ["create table t (n int)", *PREPARATIONS[engine]]:
            self.db.execute(statement)
        if engine == "postgresql":
            with self.db.session() as session:
                session.query("select setseed(0.5)")
                self._names["seeded"] = str(session.query("select random() as n")[0]["n"])

    def states(self) -> list[list[str]]:
        known = STATES[self.engine]
        return [
            [
                text.format(**self._names) if "{" in text else text
                for text in ([each] if isinstance(each, str) else each)
            ]
            for each in known
        ]

    def seen_by_the_next(self) -> list[object]:
        # The server learns of a closed connection when it comes to it, and keeps the name of its transaction so long.
        names = self._names | {"fresh": uuid4().hex}
        return [self._answer(question.format(**names)) for question in QUESTIONS[self.engine]]

    def _answer(self, question: str) -> object:
        try:
            return self.db.run(question).rows
        except KataxError as error:
            return type(error).__name__

    def start_over(self) -> None:
        """Closes the connection of the pool, whatever is wrong with it."""
        connection = self.db.pool.acquire()
        self.db.pool.release(connection, broken=True)


CONFIGURED = {
    "postgresql": ("set app.tenant = '7'", "select current_setting('app.tenant')"),
    "mysql": ("set group_concat_max_len = 7", "select cast(@@group_concat_max_len as char)"),
    "sqlite": ("pragma cache_size = 7", "select cast(cache_size as text) from pragma_cache_size"),
}


@pytest.fixture
def katax(tmp_path: Path) -> Iterator[Katax]:
    write_profile(tmp_path, main="sqlite:///main.db")
    with Katax(load_profile("test", cwd=str(tmp_path))) as container:
        yield container


@pytest.fixture
def pooled(sql_engine: Target, fresh: MakeFresh, tmp_path: Path) -> Iterator[Pooled]:
    other = "" if sql_engine.engine == "sqlite" else fresh(sql_engine.engine).url.rpartition("/")[2]
    connection = {"url": sql_engine.url, "pool": {"max": 1}}
    write_profile(tmp_path, main=patient(connection))
    with Runtime(load_profile("test", cwd=str(tmp_path))) as runtime:
        yield Pooled(runtime, sql_engine.engine, other)


def run_all(on: Session | Transaction | SqlDatabase, statements: list[str]) -> None:
    for statement in statements:
        on.execute(statement)


def without_transactions(statements: list[str]) -> list[str]:
    """For ways that bring a transaction of their own, or none: a row that is committed is no state of a session."""
    return [text for text in statements if not text.startswith(("begin", "start", "commit", "insert"))]


def by_session(db: SqlDatabase, statements: list[str]) -> None:
    with db.session() as session:
        run_all(session, statements)


def by_session_that_fails(db: SqlDatabase, statements: list[str]) -> None:
    with suppress(ZeroDivisionError), db.session() as session:
        run_all(session, statements)
        raise ZeroDivisionError


def by_transaction(db: SqlDatabase, statements: list[str]) -> None:
    with suppress(KataxError), db.transaction() as transaction:
        run_all(transaction, without_transactions(statements))


def by_callable(db: SqlDatabase, statements: list[str]) -> None:
    with suppress(KataxError):
        db.transaction(lambda transaction: run_all(transaction, without_transactions(statements)))


def by_begin(db: SqlDatabase, statements: list[str]) -> None:
    transaction = db.begin()
    try:
        with suppress(KataxError):
            run_all(transaction, statements)
    finally:
        transaction.rollback()


def by_single_calls(db: SqlDatabase, statements: list[str]) -> None:
    for statement in without_transactions(statements) or statements[:1]:
        with suppress(KataxError):
            db.execute(statement)


def by_stream(db: SqlDatabase, statements: list[str]) -> None:
    for statement in without_transactions(statements) or statements[:1]:
        with suppress(KataxError), db.stream(statement) as rows:
            next(iter(rows), None)


def by_client(db: SqlDatabase, statements: list[str]) -> None:
    client: Any = db.get_client()
    try:
        cursor = client.cursor()
        for statement in statements:
            cursor.execute(statement)
        cursor.close()
    finally:
        db.release(client)


def by_session_past_its_time(db: SqlDatabase, statements: list[str]) -> None:
    endless = {
        "postgresql": "select pg_sleep(60)",
        "mysql": "select sleep(60)",
        "sqlite": "with recursive c(n) as (select 1 union all select n + 1 from c) select count(*) from c",
    }[db.settings.type]
    with suppress(KataxError), db.session(timeout=0.3) as session:
        run_all(session, statements)
        session.query(endless)


WAYS: list[Callable[[SqlDatabase, list[str]], None]] = [
    by_session,
    by_session_that_fails,
    by_transaction,
    by_callable,
    by_begin,
    by_single_calls,
    by_stream,
    by_client,
]


@pytest.mark.parametrize("leave", WAYS)
def test_the_next_caller_meets_a_new_session(
    pooled: Pooled, leave: Callable[[SqlDatabase, list[str]], None]
) -> None:
    fresh = pooled.seen_by_the_next()
    crossed = {}
    for statements in pooled.states():
        leave(pooled.db, statements)
        if (seen := pooled.seen_by_the_next()) != fresh:
            crossed[tuple(statements)] = differences(seen, fresh)
            pooled.start_over()

    assert crossed == {}


def differences(seen: list[object], fresh: list[object]) -> list[tuple[object, object]]:
    return [pair for pair in zip(seen, fresh, strict=True) if pair[0] != pair[1]]


def test_after_a_time_out(pooled: Pooled) -> None:
    fresh = pooled.seen_by_the_next()

    by_session_past_its_time(pooled.db, pooled.states()[0])

    assert pooled.seen_by_the_next() == fresh


def test_without_the_reset_it_would_be_met(pooled: Pooled, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = pooled.seen_by_the_next()
    monkeypatch.setattr(pooled.db.engine, "needs_reset", lambda _connection: False)
    unseen = []
    for statements in pooled.states():
        by_session(pooled.db, statements)
        if pooled.seen_by_the_next() == fresh:
            unseen.append(statements)
        pooled.start_over()

    assert unseen == []


def test_plain_calls_cost_no_reset(pooled: Pooled, monkeypatch: pytest.MonkeyPatch) -> None:
    db = pooled.db
    monkeypatch.setattr(db.engine, "reset", lambda _connection: pytest.fail("a plain call was reset"))

    db.execute("insert into t values (?)", [1])
    db.execute("update t set n = n + 1 where n in (1, 2)")
    db.execute_many("insert into t (n) values (?)", [[2], [3]])
    assert db.query("select count(*) as n, coalesce(max(n), 0) as m from t where n in (2, 3)") == [
        {"n": 3, "m": 3}
    ]
    with db.transaction() as transaction:
        transaction.execute("delete from t where n = ?", [3])
        with transaction.transaction() as inner:
            inner.query("select * from t")
    with db.stream("select n from t") as rows:
        assert [row for batch in rows for row in batch] == [(2,), (2,)]
    db.table("t").where("n", "=", 2).all()
    db.execute("create table other (id int primary key, name varchar(10))")
    if db.dialect == "postgresql":
        with db.transaction() as transaction:
            transaction.query("select set_config('app.tenant', $1, true)", ["acme"])
            transaction.execute("set local app.tenant = 'acme'")
            transaction.query("select pg_advisory_xact_lock(1)")


def test_a_reset_session_is_still_read_only(sql_engine: Target, tmp_path: Path) -> None:
    with closing(sqlite3.connect("there.db")) as file:
        file.execute("create table t (n int)")
    url = "sqlite:///there.db" if sql_engine.engine == "sqlite" else sql_engine.url
    write_profile(tmp_path, main=patient({"url": url, "read_only": True, "pool": {"max": 1}}))
    with Runtime(load_profile("test", cwd=str(tmp_path))) as runtime:
        db = cast(SqlDatabase, runtime.database("main"))
        with db.session() as session:
            session.query("select 1")
        connection = db.pool.acquire()
        try:
            with pytest.raises((psycopg.Error, pymysql.Error, sqlite3.Error)):
                connection.cursor().execute("create table forbidden (n int)")
            assert db.pool.counters()["opened"] == 1
        finally:
            db.pool.release(connection)


def test_a_program_configures_connections(sql_engine: Target, katax: Katax) -> None:
    told: list[str] = []

    def configure(connection: Any) -> None:
        told.append("configure")
        cursor = connection.cursor()
        cursor.execute(CONFIGURED[sql_engine.engine][0])
        cursor.close()

    pool = {"max": 1, "configure": configure, "reset": lambda _connection: told.append("reset")}
    db = katax.database("own", connection=sql_engine.url, pool=pool)
    seen = CONFIGURED[sql_engine.engine][1]
    assert db.run(seen).rows == [("7",)]
    with db.session() as session:
        session.execute(CONFIGURED[sql_engine.engine][0].replace("7", "8"))
        assert session.run(seen).rows == [("8",)]
    assert db.run(seen).rows == [("7",)]
    assert told == ["configure", "reset", "configure", "reset", "reset"]


def test_a_callback_that_fails_costs_the_connection(sql_engine: Target, katax: Katax) -> None:
    db = katax.database("own", connection=sql_engine.url, pool={"reset": lambda _connection: 1 / 0})

    assert db.run("select 1").rows == [(1,)]

    assert db.pool_stats().total == 0


def test_callbacks_need_a_pool_of_ours(katax: Katax, redis_url: str) -> None:
    with pytest.raises(ConfigError, match="a redis connection, whose driver has a pool of its own"):
        katax.database("cache", connection=redis_url, pool={"configure": print})
    with pytest.raises(ConfigError, match=r"pool\.reset is a str, expected a callable"):
        katax.database("own", connection="sqlite:///x.db", pool={"reset": "discard all"})


def test_every_state_counts_as_left_behind() -> None:
    for dialect, states in STATES.items():
        for state in states:
            texts = [state] if isinstance(state, str) else state
            if len(texts) == 1 and not texts[0].startswith("begin"):
                assert statement_of(texts[0], dialect).residue, texts[0]  # type: ignore[arg-type]
