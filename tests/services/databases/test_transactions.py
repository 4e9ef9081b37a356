"""Transactions on real servers: what is run again as a whole, what raises, and how the pool comes out of it."""

from __future__ import annotations

from collections.abc import Callable
from threading import Barrier, Thread

import pytest

from katax_cli.core.clock import SYSTEM
from katax_cli.errors import (
    DeadlineExceeded,
    DeadlockDetected,
    KataxError,
    OutcomeUnknown,
    PoolTimeout,
    QueryError,
    SerializationFailure,
    Unavailable,
)
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.databases.transaction import Transaction
from tests.servers.fixtures import MakeFresh
from tests.services.runtimes import QUICK, OpenRuntime
from tests.waiting import patiently, until

PATIENCE = 60.0


@pytest.fixture(params=["postgresql", "mysql"])
def database(request: pytest.FixtureRequest, fresh: MakeFresh, open_runtime: OpenRuntime) -> SqlDatabase:
    runtime = open_runtime(QUICK + "attempts = 20\n", main=fresh(request.param).url)
    made = runtime.sql(runtime.profile.connection("main"))
    made.execute("CREATE TABLE account (id INT PRIMARY KEY, balance INT)")
    made.execute("INSERT INTO account VALUES (1, 0), (2, 0)")
    return made


def balances(database: SqlDatabase) -> list[int]:
    return [row["balance"] for row in database.query("SELECT balance FROM account ORDER BY id")]


def add(transaction: Transaction, account: int) -> None:
    transaction.execute("UPDATE account SET balance = balance + 1 WHERE id = $1", [account])


class Crossing:
    """Two sessions that lock the same two rows in opposite order; the first time round they deadlock."""

    def __init__(self) -> None:
        self.both_hold_one = Barrier(2)
        self.runs: list[int] = []

    def of(self, first: int, second: int) -> Callable[[Transaction], None]:
        own_runs: list[int] = []

        def work(transaction: Transaction) -> None:
            own_runs.append(first)
            self.runs.append(first)
            add(transaction, first)
            if len(own_runs) == 1:
                self.both_hold_one.wait(PATIENCE)
            add(transaction, second)

        return work


def both(*calls: Callable[[], object]) -> list[object]:
    """Runs them at once; their results, or errors as values."""
    outcomes: list[object] = []

    def run(call: Callable[[], object]) -> None:
        try:
            outcomes.append(call())
        except KataxError as error:
            outcomes.append(error)

    threads = [Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_a_deadlock_is_survived_by_running_the_whole_callable_again(database: SqlDatabase) -> None:
    crossing = Crossing()
    outcomes = both(
        lambda: database.transaction(crossing.of(1, 2), timeout=PATIENCE),
        lambda: database.transaction(crossing.of(2, 1), timeout=PATIENCE),
    )
    assert outcomes == [None, None]
    assert balances(database) == [2, 2]
    # On a busy machine it may take its first row again before the other one is awake, for a second deadlock.
    assert len(crossing.runs) >= 3


def test_a_deadlock_in_a_block_raises_and_is_not_run_again(database: SqlDatabase) -> None:
    crossing = Crossing()

    def block(work: Callable[[Transaction], None]) -> None:
        with database.transaction(timeout=PATIENCE) as transaction:
            work(transaction)

    outcomes = both(lambda: block(crossing.of(1, 2)), lambda: block(crossing.of(2, 1)))
    (error,) = [outcome for outcome in outcomes if outcome is not None]
    assert isinstance(error, DeadlockDetected)
    assert "deadlock" in str(error).lower()
    assert (balances(database), len(crossing.runs)) == ([1, 1], 2)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
class TestSerializationFailure:
    """PostgreSQL's 40001, without a second thread: somebody else changes the row after the snapshot was taken."""

    def overtaken(self, database: SqlDatabase, runs: list[int]) -> Callable[[Transaction], None]:
        def work(transaction: Transaction) -> None:
            runs.append(1)
            transaction.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            transaction.query("SELECT balance FROM account")
            if len(runs) == 1:
                database.execute("UPDATE account SET balance = 10 WHERE id = 1")
            add(transaction, 1)

        return work

    def test_the_callable_is_run_again_as_a_whole(self, database: SqlDatabase) -> None:
        runs: list[int] = []
        database.transaction(self.overtaken(database, runs))
        assert (runs, balances(database)) == ([1, 1], [11, 0])

    def test_a_block_raises(self, database: SqlDatabase) -> None:
        runs: list[int] = []
        with pytest.raises(SerializationFailure) as error, database.transaction() as transaction:
            self.overtaken(database, runs)(transaction)
        assert "(40001)" in str(error.value)
        assert (runs, balances(database)) == ([1], [10, 0])


@pytest.mark.parametrize("database", ["mysql"], indirect=True)
def test_a_row_that_changed_since_the_snapshot(database: SqlDatabase) -> None:
    """MariaDB's innodb_snapshot_isolation: error 1020 ends the transaction, and the callable is run again."""
    if not database.query("SHOW VARIABLES LIKE 'innodb_snapshot_isolation'"):
        return  # MySQL has no such error
    runs: list[int] = []

    def work(transaction: Transaction) -> None:
        runs.append(1)
        transaction.execute("SET innodb_snapshot_isolation = ON")
        transaction.query("SELECT balance FROM account")
        if len(runs) == 1:
            database.execute("UPDATE account SET balance = balance + 5 WHERE id = 1")
        add(transaction, 1)

    with pytest.raises(SerializationFailure) as error, database.transaction() as transaction:
        work(transaction)
    assert "(1020)" in str(error.value)
    runs.clear()
    database.transaction(work)
    assert (runs, balances(database)) == ([1, 1], [11, 0])


def test_a_wrong_call_is_a_usage_error_that_costs_nothing(database: SqlDatabase) -> None:
    breaker = database.guard.breaker
    assert breaker is not None
    with pytest.raises(ValueError, match="1 placeholder"):
        database.execute("UPDATE account SET balance = $1", [])
    with pytest.raises(ValueError, match="1 placeholder"), database.transaction() as transaction:
        transaction.execute("UPDATE account SET balance = $1", [])
    assert (breaker.get_state().failures, database.pool_stats().idle) == (0, 1)


def test_a_timeout_of_the_callers_own_is_no_failure_of_the_server(database: SqlDatabase) -> None:
    def work(_transaction: Transaction) -> None:
        raise TimeoutError("some other service is slow")

    breaker = database.guard.breaker
    assert breaker is not None
    with pytest.raises(TimeoutError, match="some other service"):
        database.transaction(work)
    assert breaker.get_state().failures == 0


@pytest.mark.parametrize("begin", ["transaction", "session"])
def test_the_limit_of_one_statement_is_named_and_not_the_time_since_the_beginning(
    database: SqlDatabase, begin: str
) -> None:
    pause, asleep = (
        ("SELECT pg_sleep(0.3)", "SELECT pg_sleep(60)")
        if database.dialect == "postgresql"
        else ("SELECT sleep(0.3)", "SELECT sleep(60) FROM account")
    )
    with pytest.raises(DeadlineExceeded) as error, getattr(database, begin)(timeout=PATIENCE) as statements:  # noqa: PT012
        statements.query(pause)
        statements.query(asleep, timeout=0.2)
    assert str(error.value) == "'main' is not available: query took longer than 0.2 s"


def test_an_error_of_the_server_rolls_back_and_keeps_the_connection(database: SqlDatabase) -> None:
    with pytest.raises(QueryError), database.transaction() as transaction:  # noqa: PT012
        add(transaction, 1)
        transaction.execute("INSERT INTO account VALUES (1, 0)")
    assert (balances(database), database.pool.counters()["opened"]) == ([0, 0], 1)


class TestPool:
    """One connection, many who want it."""

    @pytest.fixture(params=["postgresql", "mysql"])
    def single(
        self, request: pytest.FixtureRequest, fresh: MakeFresh, open_runtime: OpenRuntime
    ) -> SqlDatabase:
        runtime = open_runtime(
            QUICK, main={"url": fresh(request.param).url, "pool": {"max": 1, "timeout": PATIENCE}}
        )
        return runtime.sql(runtime.profile.connection("main"))

    def queue(self, database: SqlDatabase, work: Callable[[], object]) -> Thread:
        waiting = database.pool_stats().waiting
        thread = Thread(target=work)
        thread.start()
        while database.pool_stats().waiting == waiting:
            SYSTEM.sleep(0.001)
        return thread

    def test_waiters_are_served_in_the_order_in_which_they_came(self, single: SqlDatabase) -> None:
        served: list[int] = []

        def work(number: int) -> Callable[[], object]:
            return lambda: served.append(single.query("SELECT $1 AS n", [number])[0]["n"])

        with single.session():
            threads = [self.queue(single, work(number)) for number in range(5)]
        for thread in threads:
            thread.join()
        assert list(map(int, served)) == [0, 1, 2, 3, 4]

    def test_a_waiter_whose_time_is_over_loses_no_connection(self, single: SqlDatabase) -> None:
        def has_waited(seconds: float) -> bool:
            try:
                single.query("SELECT 1", timeout=seconds)
            except PoolTimeout as error:
                return "1 of 1 in use" in str(error)
            except DeadlineExceeded:
                return False  # a busy machine did not come so far
            raise AssertionError("there was a connection")

        with single.session():
            patiently(has_waited, shortest=0.05)
        assert single.query("SELECT 1 AS n", timeout=PATIENCE) == [{"n": 1}]
        assert (single.pool_stats().total, single.pool.counters()["opened"]) == (1, 1)


@pytest.mark.parametrize("name", ["postgresql", "mysql"])
def test_idle_connections_beyond_the_least_are_closed_and_old_ones_replaced(
    fresh: MakeFresh, open_runtime: OpenRuntime, name: str
) -> None:
    settings = {"min": 1, "max": 4, "idle_timeout": 0.05, "max_lifetime": 0.5}
    runtime = open_runtime(QUICK, main={"url": fresh(name).url, "pool": settings})
    database = runtime.sql(runtime.profile.connection("main"))
    with database.session(), database.session(), database.session():
        assert database.pool_stats().active == 3
    while database.pool_stats().total > 1:
        database.pool.maintain()
    opened = database.pool.counters()["opened"]
    while database.pool.counters()["opened"] == opened:
        database.pool.maintain()
    until(lambda: database.pool_stats().total == 1)
    assert database.query("SELECT 1 AS n") == [{"n": 1}]


@pytest.mark.parametrize("name", ["postgresql", "mysql"])
def test_a_deadline_that_passes_in_a_transaction_is_late_and_rolls_back(
    fresh: MakeFresh, open_runtime: OpenRuntime, name: str
) -> None:
    runtime = open_runtime(QUICK, main=fresh(name).url)
    database = runtime.sql(runtime.profile.connection("main"))
    database.execute("CREATE TABLE written (id INT)")
    asleep = "SELECT pg_sleep(60)" if name == "postgresql" else "SELECT sleep(60) FROM written"
    with pytest.raises(Unavailable) as error, database.transaction(timeout=0.4) as transaction:  # noqa: PT012
        transaction.execute("INSERT INTO written VALUES (1)")
        transaction.execute(asleep)
    assert not isinstance(error.value, OutcomeUnknown)
    assert database.query("SELECT * FROM written") == []
