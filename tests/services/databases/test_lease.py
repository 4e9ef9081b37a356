"""What happens on the server when a deadline passes or the caller is interrupted."""

from __future__ import annotations

import signal
from collections.abc import Callable
from threading import Thread, main_thread

import pytest

from katax_cli.core.pooling.pool import Leased
from katax_cli.errors import DeadlineExceeded, Unavailable
from katax_cli.services.databases import lease
from katax_cli.services.databases.lease import Patience
from katax_cli.services.databases.sql import SqlDatabase
from tests.servers.fixtures import MakeFresh, Target
from tests.services.runtimes import QUICK, OpenRuntime
from tests.waiting import SECONDS, patiently, until

MARK = "/* is under way */"
# MariaDB ends SLEEP by itself when its client is gone; this it counts for hours.
COUNT = (
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) "
    "SELECT count(*) FROM n a, n b, n c, n d"
)
READ = {
    "postgresql": f"SELECT pg_sleep(60) {MARK}",
    "mysql": f"{COUNT} {MARK}",
}
WRITE = {
    "postgresql": f"INSERT INTO written SELECT 1 FROM pg_sleep(60) {MARK}",
    "mysql": f"INSERT INTO written {COUNT} {MARK}",
}
UNDER_WAY = {
    "postgresql": "SELECT count(*) AS n FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%way */'"
    " AND datname = current_database()",
    "mysql": "SELECT count(*) AS n FROM information_schema.processlist WHERE info LIKE '%way */'"
    " AND db = DATABASE()",
}


@pytest.fixture(params=["postgresql", "mysql"])
def target(request: pytest.FixtureRequest, fresh: MakeFresh) -> Target:
    return fresh(request.param)


@pytest.fixture
def database(target: Target, open_runtime: OpenRuntime, monkeypatch: pytest.MonkeyPatch) -> SqlDatabase:
    """One whose server gets the time of a busy machine to cancel what runs."""
    runtime = open_runtime(QUICK, main=target.url)
    made = runtime.sql(runtime.profile.connection("main"))
    made.execute("CREATE TABLE written (id INT)")
    made.leases.patience = Patience(grace=10.0)
    monkeypatch.setattr(lease, "CANCEL_SECONDS", SECONDS)
    return made


def under_way(database: SqlDatabase, target: Target) -> int:
    return int(database.query(UNDER_WAY[target.engine])[0]["n"])


def when_under_way(database: SqlDatabase, target: Target, act: Callable[[], object]) -> Thread:
    def wait() -> None:
        until(lambda: under_way(database, target))
        act()

    thread = Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.parametrize("statements", [READ, WRITE], ids=["read", "write"])
def test_a_statement_that_the_server_does_not_limit_is_cancelled_there(
    database: SqlDatabase, target: Target, statements: dict[str, str]
) -> None:
    """As with MySQL's writes or behind a pooler; here the engine is kept from setting the limit."""
    engine, limited = database.engine, database.engine.execute
    engine.execute = lambda connection, sql, params=None, timeout=None: limited(connection, sql, params, None)  # type: ignore[method-assign]

    def is_cancelled(seconds: float) -> bool:
        with pytest.raises(DeadlineExceeded):
            database.execute(statements[target.engine], timeout=seconds)
        return database.pool.counters()["discarded"] == 1  # none when it was too late to begin

    patiently(is_cancelled, shortest=0.3)
    # The server takes its time to end what was cancelled.
    until(lambda: not under_way(database, target))
    assert database.query("SELECT * FROM written") == []


def test_an_interrupted_call_leaves_nothing_running(database: SqlDatabase, target: Target) -> None:
    database.connect()
    interrupt = when_under_way(
        database, target, lambda: signal.pthread_kill(main_thread().ident or 0, signal.SIGINT)
    )
    with pytest.raises(KeyboardInterrupt):
        database.query(READ[target.engine], timeout=500.0)
    interrupt.join()
    until(lambda: not under_way(database, target))
    assert database.pool_stats().active == 0


def test_what_runs_can_be_cancelled_from_another_thread(database: SqlDatabase, target: Target) -> None:
    cancel = when_under_way(database, target, database.cancel_running)
    with pytest.raises(Unavailable):
        database.query(READ[target.engine], timeout=500.0)
    cancel.join()
    assert database.query("SELECT 1 AS n") == [{"n": 1}]


def test_closing_takes_no_longer_than_it_was_given(database: SqlDatabase) -> None:
    """What cancelling gets is part of it, else a short shutdown could not say in time what it cut off."""
    close, spent = database.pool.close, []

    def closing(timeout: float = 0.0, *, before_cut: Callable[[], float] | None = None) -> tuple[Leased, ...]:
        assert before_cut is not None
        spent.append(timeout + before_cut())
        return close()

    database.pool.close = closing  # type: ignore[method-assign]
    database.close(timeout=SECONDS)
    assert SECONDS / 2 <= spent[0] <= SECONDS
