"""A write that was sent and not answered: unknown, made once, and exit 6 on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from katax_cli.core.resilience.deadline import Deadline
from katax_cli.errors import DeadlineExceeded, OutcomeUnknown, Unavailable
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.databases.transaction import Transaction
from tests.cli.harness import katax
from tests.fake_clock import FakeClock
from tests.servers.fixtures import MakeFresh, MakeProxy, Target
from tests.servers.proxy import Proxy
from tests.services.runtimes import QUICK, OpenRuntime, write_profile

INSERT = "INSERT INTO written VALUES (7)"
UNKNOWN = 6


class Behind:
    """One database twice: by way of a proxy, and directly to see what it holds."""

    def __init__(self, target: Target, proxy: Proxy, open_runtime: OpenRuntime) -> None:
        runtime = open_runtime(QUICK, main=proxy.url, direct=target.url)
        self.proxy = proxy
        self.main: SqlDatabase = runtime.sql(runtime.profile.connection("main"))
        self.direct: SqlDatabase = runtime.sql(runtime.profile.connection("direct"))
        self.direct.execute("CREATE TABLE written (id INT)")

    def written(self) -> int:
        return int(self.direct.query("SELECT count(*) AS n FROM written")[0]["n"])


@pytest.fixture(params=["postgresql", "mysql"])
def behind(
    request: pytest.FixtureRequest, fresh: MakeFresh, proxy: MakeProxy, open_runtime: OpenRuntime
) -> Behind:
    target = fresh(request.param)
    return Behind(target, proxy(target), open_runtime)


def test_a_block_whose_commit_is_not_answered(behind: Behind) -> None:
    behind.proxy.cut_after(b"COMMIT", forward=True)
    with pytest.raises(OutcomeUnknown), behind.main.transaction() as transaction:
        transaction.execute(INSERT)
    assert (behind.written(), behind.proxy.connections) == (1, 1)


def test_a_callable_whose_commit_is_not_answered_runs_once(behind: Behind) -> None:
    behind.proxy.cut_after(b"COMMIT", forward=True)
    runs: list[int] = []

    def work(transaction: Transaction) -> None:
        runs.append(transaction.execute(INSERT))

    with pytest.raises(OutcomeUnknown):
        behind.main.transaction(work)
    assert (runs, behind.written(), behind.proxy.connections) == ([1], 1, 1)


def test_a_callable_that_is_cut_before_its_commit_is_not_applied_and_says_so(behind: Behind) -> None:
    """What is lost before COMMIT went out was rolled back, so the whole may be repeated."""
    behind.proxy.cut_after(b"INSERT", forward=True)
    runs: list[int] = []

    def work(transaction: Transaction) -> None:
        runs.append(1)
        transaction.execute(INSERT)

    behind.main.transaction(work)
    assert (runs, behind.written(), behind.proxy.connections) == ([1, 1], 1, 2)


def test_a_block_that_is_cut_before_its_commit_raises_and_is_not_applied(behind: Behind) -> None:
    behind.proxy.cut_after(b"INSERT", forward=True)
    with pytest.raises(Unavailable), behind.main.transaction() as transaction:
        transaction.execute(INSERT)
    assert (behind.written(), behind.proxy.connections) == (0, 1)


@pytest.mark.parametrize(
    "write",
    [
        lambda database: database.execute(INSERT),
        lambda database: database.execute_many("INSERT INTO written VALUES ($1)", [[7], [8]]),
    ],
    ids=["execute", "execute_many"],
)
def test_an_autocommit_write_that_is_not_answered(
    behind: Behind, write: Callable[[SqlDatabase], object]
) -> None:
    behind.proxy.cut_after(b"INSERT", forward=True)
    with pytest.raises(OutcomeUnknown):
        write(behind.main)
    assert behind.proxy.connections == 1


@pytest.mark.parametrize(
    ("sql", "error"), [(INSERT, OutcomeUnknown), ("SELECT count(*) FROM written", DeadlineExceeded)]
)
def test_a_silent_wire_is_left_at_the_deadline(behind: Behind, sql: str, error: type[Exception]) -> None:
    """The deadline does not pass before the wire is silent, however busy the machine is."""
    clock = FakeClock()

    def stall(chunk: bytes) -> None:
        if b"written" in chunk:
            behind.proxy.stall()
            clock.at = 60.0

    behind.main.connect()
    behind.main._deadline = lambda _seconds: Deadline(0.5, clock=clock)
    behind.proxy.on_client_bytes(stall)
    with pytest.raises(error):
        behind.main.execute(sql)
    assert behind.main.pool_stats().total == 0


def test_a_mongodb_write_that_is_not_answered(
    fresh: MakeFresh, proxy: MakeProxy, open_runtime: OpenRuntime
) -> None:
    target = fresh("mongodb")
    wire = proxy(target)
    runtime = open_runtime(QUICK, main=wire.url, direct=target.url)
    sent: list[bytes] = []

    def note(chunk: bytes) -> None:
        if b"written" in chunk:
            sent.append(chunk)

    wire.on_client_bytes(note)
    wire.cut_after(lambda chunk: b"written" in chunk, forward=True)
    with pytest.raises(OutcomeUnknown):
        mongodb(runtime.database("main")).command({"insert": "written", "documents": [{"n": 7}]})
    counted = mongodb(runtime.database("direct")).command({"count": "written"})
    assert (counted["n"], len(sent)) == (1, 1)


def mongodb(database: Any) -> MongoDatabase:
    assert isinstance(database, MongoDatabase)
    return database


@pytest.mark.parametrize(
    ("words", "cut_at"),
    [
        (("db", "exec", INSERT, "--single-transaction"), b"COMMIT"),
        (("db", "exec", INSERT), b"INSERT"),
        (("db", "query", INSERT), b"INSERT"),
    ],
    ids=["commit", "exec", "query"],
)
def test_the_command_line_says_6(
    behind: Behind, tmp_path: Path, words: tuple[str, ...], cut_at: bytes
) -> None:
    write_profile(tmp_path, main=behind.proxy.url)
    behind.proxy.cut_after(cut_at, forward=True)
    done = katax(*words)
    assert (done.code, done.out) == (UNKNOWN, "")
    assert "may or may not have been applied" in done.err
    assert (behind.written(), behind.proxy.connections) == (1, 1)


def test_the_command_line_says_6_for_the_cache(fresh: MakeFresh, proxy: MakeProxy, tmp_path: Path) -> None:
    wire = proxy(fresh("redis"))
    write_profile(tmp_path, cache=wire.url)
    wire.cut_after(b"some-value", forward=True)
    assert katax("cache", "set", "key", "some-value").code == UNKNOWN
    assert katax("cache", "get", "key").out == "some-value\n"
