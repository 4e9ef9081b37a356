"""Transactions on three engines: blocks, callables, savepoints, and begin and commit by hand."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from katax_cli.errors import KataxError, QueryError, Refused, WrongEngine
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.databases.statements import Queries
from katax_cli.services.databases.transaction import Transaction
from katax_cli.services.runtime.runtime import Runtime
from tests.servers import Server
from tests.servers.fixtures import MakeFresh, Target
from tests.services.profiles import profile


@pytest.fixture
def db(sql_engine: Target, tmp_path: Path) -> Iterator[SqlDatabase]:
    with Runtime(profile(tmp_path, {"main": sql_engine.url})) as runtime:
        database = cast(SqlDatabase, runtime.database("main"))
        database.execute("create table t (n int primary key)")
        yield database


def numbers(db: Queries) -> list[int]:
    return [row["n"] for row in db.query("select n from t order by n")]


def add(where: Any, *values: int) -> None:
    for value in values:
        where.execute("insert into t values (?)", [value])


def test_a_block_commits(db: SqlDatabase) -> None:
    with db.transaction() as transaction:
        add(transaction, 1, 2)
        assert transaction.query("select count(*) as n from t") == [{"n": 2}]
        assert transaction.open

    assert (numbers(db), transaction.open, db.pool_stats().active) == ([1, 2], False, 0)


def test_an_error_rolls_back(db: SqlDatabase) -> None:
    with pytest.raises(ZeroDivisionError), db.transaction() as transaction:  # noqa: PT012 - the block is what raises
        add(transaction, 1)
        raise ZeroDivisionError

    assert (numbers(db), db.pool_stats().active) == ([], 0)


def test_savepoints_nest(db: SqlDatabase) -> None:
    with db.transaction() as outer:
        add(outer, 1)
        with pytest.raises(ZeroDivisionError), outer.transaction() as inner:  # noqa: PT012 - the block is what raises
            add(inner, 2)
            with inner.transaction() as innermost:
                add(innermost, 3)
            raise ZeroDivisionError
        with outer.transaction() as inner:
            add(inner, 4)

    assert numbers(db) == [1, 4]


def test_a_failed_statement_in_a_savepoint_spoils_nothing_else(db: SqlDatabase) -> None:
    """On PostgreSQL an error ends a transaction, unless a savepoint was there to go back to."""
    with db.transaction() as outer:
        add(outer, 1)
        with pytest.raises(QueryError), outer.transaction() as inner:
            add(inner, 1)
        add(outer, 2)

    assert numbers(db) == [1, 2]


def test_a_failed_statement_that_the_program_passes_over(db: SqlDatabase) -> None:
    """PostgreSQL commits nothing then, which it says by the name of its answer only; the others keep the rest."""

    def work(transaction: Transaction) -> None:
        add(transaction, 1)
        with pytest.raises(QueryError):
            add(transaction, 1)

    def block() -> None:
        with db.transaction() as transaction:
            work(transaction)

    def session() -> None:
        with db.session() as statements:
            statements.execute("begin")
            add(statements, 1)
            with pytest.raises(QueryError):
                add(statements, 1)
            statements.execute("commit")

    for end in (block, lambda: db.transaction(work), session):
        if db.dialect == "postgresql":
            with pytest.raises(QueryError, match="COMMIT was answered with ROLLBACK"):
                end()
            assert (numbers(db), db.pool_stats().active) == ([], 0)
        else:
            end()
            assert numbers(db) == [1]
            db.execute("delete from t")


def test_begin_commit_and_rollback_by_hand(db: SqlDatabase) -> None:
    first = db.begin()
    add(first, 1)
    first.commit()
    second = db.begin()
    add(second, 2)
    second.rollback()

    assert (numbers(db), db.pool_stats().active) == ([1], 0)


def test_a_rollback_inside_a_block_is_the_end_of_it(db: SqlDatabase) -> None:
    with db.transaction() as transaction:
        add(transaction, 1)
        transaction.rollback()

    assert (numbers(db), db.pool_stats().active) == ([], 0)


def test_nothing_is_sent_after_its_end(db: SqlDatabase) -> None:
    """Its connection is the next caller's by then, whose transaction this would be."""
    first = db.begin()
    add(first, 1)
    first.commit()
    second = db.begin()
    add(second, 2)

    first.rollback()
    for call in (first.commit, lambda: add(first, 3), first.transaction, lambda: first.query("select 1")):
        with pytest.raises(KataxError, match="the transaction on 'main' has ended; begin another"):
            call()

    second.commit()
    assert numbers(db) == [1, 2]


def test_the_isolation_of_one_transaction(db: SqlDatabase) -> None:
    """It is the server's, and the next transaction on the connection has its own again."""
    rows = iter(range(100))

    def sees_others(transaction: Transaction) -> bool:
        before = numbers(transaction)
        if db.dialect != "sqlite":
            add(db, next(rows))
        return numbers(transaction) != before

    by_itself = db.transaction(sees_others)
    for _ in range(2):
        assert db.transaction(sees_others, isolation="repeatable read") is False
        with db.transaction(isolation="serializable") as transaction:
            numbers(transaction)
        with db.transaction(isolation="read committed") as transaction:
            assert sees_others(transaction) is (db.dialect != "sqlite")
        assert db.transaction(sees_others) is by_itself
    assert by_itself is (db.dialect == "postgresql")
    with pytest.raises(ValueError, match="no isolation level named 'snapshot'"):
        db.transaction(isolation="snapshot")  # type: ignore[call-overload]


def test_a_transaction_that_only_reads(db: SqlDatabase) -> None:
    add(db, 1)
    for isolation in (None, "repeatable read"):
        with db.transaction(read_only=True, isolation=isolation) as transaction:
            assert numbers(transaction) == [1]
            with pytest.raises(
                Refused, match="this transaction on 'main' is read-only; INSERT is not known to read"
            ):
                add(transaction, 2)
            with transaction.transaction() as inner:
                assert numbers(inner) == [1]
        with db.transaction() as transaction:
            add(transaction, 3)
            transaction.execute("delete from t where n = 3")
    if db.dialect == "postgresql":
        with db.transaction(isolation="serializable", read_only=True, deferrable=True) as transaction:
            assert transaction.scalar("select current_setting('transaction_deferrable')") == "on"
            assert transaction.scalar("select current_setting('transaction_isolation')") == "serializable"
    else:
        with pytest.raises(WrongEngine, match="has no deferrable transactions"):
            db.transaction(isolation="serializable", read_only=True, deferrable=True)
    with pytest.raises(ValueError, match='deferrable=True needs isolation="serializable" and read_only=True'):
        db.begin(deferrable=True)
    assert (numbers(db), db.pool_stats().active) == ([1], 0)


@pytest.mark.parametrize("name", ["postgresql", "mysql"])
def test_one_snapshot_on_a_read_only_connection(name: str, fresh: MakeFresh, tmp_path: Path) -> None:
    target = fresh(name)
    with Runtime(profile(tmp_path, {"main": target.url})) as runtime:
        writer = cast(SqlDatabase, runtime.database("main"))
        writer.execute("create table t (n int primary key)")
        with Runtime(profile(tmp_path, {"main": target.url}, role="frozen", name="frozen")) as frozen:
            reader = cast(SqlDatabase, frozen.database("main"))
            with reader.transaction(isolation="repeatable read") as transaction:
                assert numbers(transaction) == []
                add(writer, 1)
                assert numbers(transaction) == []
            assert numbers(reader) == [1]


def test_a_callable_returns_what_it_returns(db: SqlDatabase) -> None:
    def work(transaction: Transaction) -> str:
        add(transaction, 1)
        return "done"

    assert db.transaction(work) == "done"
    assert numbers(db) == [1]


def test_a_stream_in_a_transaction(db: SqlDatabase) -> None:
    with db.transaction() as transaction:
        add(transaction, 1, 2)
        with transaction.stream("select n from t order by n") as rows:
            assert [row for batch in rows for row in batch] == [(1,), (2,)]
        assert transaction.execute_many("insert into t values (?)", [(3,), (4,)]) == 2

    assert numbers(db) == [1, 2, 3, 4]


def test_a_server_ends_a_transaction_that_idles(
    postgresql_url: str, mariadb: Server, fresh: MakeFresh, tmp_path: Path
) -> None:
    """For that transaction alone, and never later than the server would."""
    ask = "select current_setting('idle_in_transaction_session_timeout')"
    with Runtime(profile(tmp_path, {"main": postgresql_url, "other": fresh(mariadb).url})) as runtime:
        database = runtime.sql(runtime.profile.connection("main"))
        with database.session() as session:
            with session.transaction() as transaction:
                transaction.limit_idling(30)
                assert transaction.run(ask).rows == [("30s",)]
            assert session.run(ask).rows == [("0",)]
            session.run("set idle_in_transaction_session_timeout = '5s'")
            with session.transaction() as transaction:
                transaction.limit_idling(30)
                assert transaction.run(ask).rows == [("5s",)]
        other = runtime.sql(runtime.profile.connection("other"))
        with other.transaction() as transaction:
            transaction.limit_idling(30)
            assert transaction.run("select @@idle_transaction_timeout").rows == [(30,)]
        assert other.run("select @@idle_transaction_timeout").rows == [(0,)]
