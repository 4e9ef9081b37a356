"""The SQL databases as applications use them: rows, streams, sessions and what is given back."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from katax_cli.core.pooling.slots import CHECK_AFTER_IDLE
from katax_cli.errors import DeadlineExceeded, KataxError, PoolClosed, QueryError, Refused, Unavailable
from katax_cli.services.calls.left_behind import start
from katax_cli.services.databases.session import Session
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.runtime.runtime import Runtime
from tests.servers.fixtures import MakeFresh, MakeProxy, Target
from tests.services.profiles import profile
from tests.services.runtimes import QUICK, OpenRuntime
from tests.waiting import SECONDS, patiently, until


@pytest.fixture
def db(sql_engine: Target, tmp_path: Path) -> Iterator[SqlDatabase]:
    """Each SQL engine in turn, with a table of three rows."""
    with Runtime(profile(tmp_path, {"main": sql_engine.url})) as runtime:
        database = cast(SqlDatabase, runtime.database("main"))
        database.execute("create table t (n int primary key, name varchar(20))")
        database.execute_many("insert into t values (?, ?)", [(1, "a"), (2, "b"), (3, "c")])
        yield database


def numbers(db: SqlDatabase) -> list[int]:
    return [row["n"] for row in db.query("select n from t order by n")]


def test_rows_are_dicts(db: SqlDatabase) -> None:
    assert db.query("select n, name from t where n < ? order by n", [3]) == [
        {"n": 1, "name": "a"},
        {"n": 2, "name": "b"},
    ]
    assert db.query("select 1 as a, 2 as a") == [{"a": 1, "a_2": 2}]
    assert db.raw("select n from t where name = :x", {"x": "c"}) == [{"n": 3}]


def test_one_row_and_one_value(db: SqlDatabase) -> None:
    with db.transaction() as transaction:
        for where in (db, transaction) if db.dialect != "sqlite" else (transaction,):
            assert where.one("select n, name from t where n = ?", [2]) == {"n": 2, "name": "b"}
            assert where.one("select n from t where n = 9") is None
            assert where.scalar("select count(*) from t") == 3
            assert (where.scalar("select name from t where n = 9"), where.scalar("select null")) == (
                None,
                None,
            )
            with pytest.raises(ValueError, match=r"one\(\) got 3 rows; add LIMIT 1, or use query\(\)"):
                where.one("select n from t")
            for several, shape in (("select n from t", "3 rows of 1"), ("select 1, 2", "1 rows of 2")):
                with pytest.raises(ValueError, match=rf"scalar\(\) got {shape} columns; select one value"):
                    where.scalar(several)


def test_rows_affected(db: SqlDatabase) -> None:
    assert db.execute("update t set name = 'x' where n > $1", [1]) == 2
    assert db.execute("delete from t where n = 7") == 0
    assert db.execute_many("insert into t values (:n, :name)", [{"n": n, "name": "y"} for n in (4, 5)]) == 2


def test_a_prepared_statement(db: SqlDatabase) -> None:
    statement = db.prepare("select name from t where n = ?")

    assert [statement.execute([n]) for n in (1, 2, 9)] == [[{"name": "a"}], [{"name": "b"}], []]


def test_a_stream_in_batches(db: SqlDatabase) -> None:
    with db.stream("select n from t order by n") as rows:
        assert rows.columns == ("n",)
        assert [row for batch in rows for row in batch] == [(1,), (2,), (3,)]
    assert db.pool_stats().active == 0


SILENT = {
    "postgresql": "select n, pg_sleep(case n when 3 then 600 else 0 end) from t order by n",
    "mysql": "select n, sleep(case n when 3 then 600 else 0 end) from t order by n",
    "sqlite": "with recursive c(n) as (select 1 union all select n + 1 from c) select n from c where n < 0",
}


def test_a_stream_whose_server_sends_nothing_is_ended(db: SqlDatabase) -> None:
    for idle in (0.3, "200ms"):
        with (
            pytest.raises(DeadlineExceeded, match="waiting for rows took longer than 0"),
            db.stream(SILENT[db.dialect], idle=idle) as rows,
        ):
            list(rows)
        assert numbers(db) == [1, 2, 3]
    assert db.pool_stats().active == 0
    if db.dialect == "postgresql":
        running = (
            "select count(*) from pg_stat_activity where state = 'active' and query like '%pg_sleep(case%'"
        )
        until(lambda: db.scalar(f"{running} and pid <> pg_backend_pid()") == 0)


@pytest.mark.parametrize("sql_engine", ["postgresql"], indirect=True)
def test_a_stream_has_time_for_its_reader(sql_engine: Target, open_runtime: OpenRuntime) -> None:
    def is_read(seconds: float) -> bool:
        runtime = open_runtime(main={"url": sql_engine.url, "statement_timeout": seconds})
        slow = runtime.sql(runtime.profile.connection("main"))
        try:
            with slow.stream("select n from generate_series(1, 200000) n") as rows:
                batches = iter(rows)
                count = len(next(batches))
                ends = time.monotonic() + 1.25 * seconds
                until(lambda: time.monotonic() > ends)
                count += sum(map(len, batches))
        except Unavailable:
            return False  # a busy machine took as long for a single batch
        assert count == 200_000
        with (
            pytest.raises(DeadlineExceeded, match=f"took longer than {seconds:g} s"),
            slow.stream("select pg_sleep(600)"),
        ):
            pass
        return True

    patiently(is_read, shortest=2.0)


def test_a_stream_that_is_left_early_gives_its_connection_back(db: SqlDatabase) -> None:
    with db.stream("select a.n from t a, t b, t c, t d, t e, t f, t g, t h, t i") as rows:
        next(iter(rows))

    assert db.pool_stats().active == 0
    assert numbers(db) == [1, 2, 3]


def test_what_has_ended_touches_its_connection_no_more(db: SqlDatabase) -> None:
    """It is another caller's by then, and so are the rows and the transaction on it."""
    with db.stream("select n from t") as rows:
        batches = iter(rows)
    with db.session() as session, session.transaction():
        transaction = session.transaction().__enter__()

    with pytest.raises(KataxError, match="has ended"):
        next(batches)
    for ended in (session, transaction):
        with pytest.raises(KataxError, match="has ended"):
            ended.query("select 1")
    with pytest.raises(KataxError, match="has ended"):
        session.transaction()
    assert numbers(db) == [1, 2, 3]


def test_many_rows_are_all_or_none(db: SqlDatabase) -> None:
    with pytest.raises(QueryError):
        db.execute_many("insert into t values (?, ?)", [(4, "d"), (1, "again")])

    assert numbers(db) == [1, 2, 3]


def is_open(session: Session) -> bool:
    return session.in_transaction


def test_a_session_keeps_what_its_statements_set(db: SqlDatabase) -> None:
    """Temporary tables and transactions live in one connection; outside a session each call may get another."""
    with db.session() as session:
        session.execute("create temporary table mine (n int)")
        session.execute("insert into mine values (7)")
        assert session.query("select n from mine") == [{"n": 7}]
        assert not is_open(session)
        session.execute("begin")
        assert is_open(session)
        session.execute("delete from t where n = 1")
        session.execute("rollback")
        assert not is_open(session)

    assert numbers(db) == [1, 2, 3]


def test_what_a_session_leaves_open_is_rolled_back(db: SqlDatabase) -> None:
    with db.session() as session:
        session.execute("begin")
        session.execute("delete from t where n = 1")

    assert numbers(db) == [1, 2, 3]
    assert db.pool_stats().active == 0


def test_a_transaction_inside_a_sessions_own_is_a_savepoint(db: SqlDatabase) -> None:
    with db.session() as session:
        session.execute("begin")
        with pytest.raises(ZeroDivisionError), session.transaction() as inner:  # noqa: PT012 - the block is what raises
            inner.execute("delete from t where n = 1")
            raise ZeroDivisionError
        assert session.in_transaction
        with session.transaction() as inner:
            inner.execute("delete from t where n = 2")
        session.execute("commit")

    assert numbers(db) == [1, 3]


def test_the_time_of_a_call(fresh: MakeFresh, tmp_path: Path) -> None:
    """What the caller says, else the connection's; the connection is usable afterwards."""
    with Runtime(profile(tmp_path, {"main": fresh("postgresql").url})) as runtime:
        db = cast(SqlDatabase, runtime.database("main"))
        db.connect()
        with pytest.raises(DeadlineExceeded) as error:
            db.query("select pg_sleep(60)", timeout=0.2)

        assert str(error.value) == "'main' is not available: query took longer than 0.2 s"
        assert db.query("select 1 as a") == [{"a": 1}]


def test_cancel_ends_what_runs(fresh: MakeFresh, tmp_path: Path) -> None:
    """From another thread, as Ctrl-C does for all that a command has under way."""
    with Runtime(profile(tmp_path, {"main": fresh("postgresql").url})) as runtime:
        db = cast(SqlDatabase, runtime.database("main"))
        errors: list[BaseException] = []

        def sleep() -> None:
            try:
                db.query("select pg_sleep(60) as forever")
            except BaseException as error:  # noqa: BLE001 - handed to the test
                errors.append(error)

        thread = threading.Thread(target=sleep)
        thread.start()
        asking = (
            "select count(*) as n from pg_stat_activity where query like '%forever%' and state = 'active'"
        )
        until(lambda: db.query(f"{asking} and pid <> pg_backend_pid()") == [{"n": 1}])

        def ended() -> bool:
            db.cancel_running()
            thread.join(0.1)
            return not thread.is_alive()

        until(ended)

    assert len(errors) == 1


def test_the_drivers_connection_is_lent(db: SqlDatabase) -> None:
    client = db.get_client()
    assert db.pool_stats().active == 1
    db.release(client)

    assert db.pool_stats().active == 0
    assert db.is_connected


def test_a_closed_database_says_so(db: SqlDatabase) -> None:
    db.close()

    with pytest.raises(PoolClosed) as error:
        db.query("select 1")
    assert str(error.value) == "the pool of 'main' is closed"


def test_nothing_connects_before_it_must(sql_engine: Target, proxy: MakeProxy, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": "postgresql://a:b@127.0.0.1:1/x"})) as runtime:
        db = runtime.database("main")

        assert (db.is_connected, db.pool_stats().total) == (False, 0)
        assert repr(db) == "<SqlDatabase 'main' postgresql at 127.0.0.1:1>"


def test_a_read_only_transaction_reads(sql_engine: Target, tmp_path: Path) -> None:
    """Several statements see one snapshot; savepoints inside need nothing; a write is refused before it is sent."""
    with Runtime(profile(tmp_path, {"main": sql_engine.url})) as runtime:
        cast(SqlDatabase, runtime.database("main")).execute("create table t (n int)")
    with Runtime(profile(tmp_path, {"main": sql_engine.url}, role="frozen")) as runtime:
        db = cast(SqlDatabase, runtime.database("main"))
        with db.transaction() as transaction:
            assert transaction.query("select n from t") == []
            with transaction.transaction() as inner:
                assert inner.query("select 1 as a") == [{"a": 1}]
            with pytest.raises(Refused) as error:
                transaction.execute("insert into t values (1)")
            assert str(error.value) == "refused: 'main' is read-only; INSERT is not known to read"
            assert transaction.query("select n from t") == []
        assert db.pool_stats().active == 0


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_a_server_that_fell_silent_while_nobody_asked_costs_its_time_and_no_more(
    engine: str, request: pytest.FixtureRequest, proxy: MakeProxy, open_runtime: OpenRuntime
) -> None:
    """The pool asks a connection that lay idle for a second whether it still lives: that, too, has an end."""
    wire = proxy(str(request.getfixturevalue(f"{engine}_url")))
    runtime = open_runtime(QUICK, main={"url": wire.url, "connect_timeout": 1.0})
    database = cast(SqlDatabase, runtime.database("main"))
    until(database.health_check)
    time.sleep(CHECK_AFTER_IDLE + 0.1)
    wire.stall()

    call = start("asks", lambda: database.query("select 1", timeout=1.0))

    assert call.ended(SECONDS)
    assert isinstance(call.outcome, KataxError)
    wire.resume()
    until(database.health_check)
    assert database.query("select 1 as a") == [{"a": 1}]


def test_a_removed_or_replaced_sqlite_file_is_not_written_to(fresh: MakeFresh, tmp_path: Path) -> None:
    """What is said to be done is in the file that has the name, or the caller hears that its table is gone."""
    target = fresh("sqlite")
    file = Path(target.url.removeprefix("sqlite:///"))
    with Runtime(profile(tmp_path, {"x": target.url})) as runtime:
        database = cast(SqlDatabase, runtime.database("x"))
        database.execute("create table t (n int)")
        file.unlink()
        with pytest.raises(QueryError, match="no such table"):
            database.execute("insert into t values (1)")
        other = tmp_path / "other.db"
        with closing(sqlite3.connect(other)) as made:
            made.execute("create table t (n int)")
        other.replace(file)
        for suffix in ("-wal", "-shm"):
            Path(f"{file}{suffix}").unlink(missing_ok=True)
        database.execute("insert into t values (1)")

    with closing(sqlite3.connect(file)) as made:
        assert made.execute("select n from t").fetchall() == [(1,)]
