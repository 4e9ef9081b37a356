"""How often the servers are really asked, counted at the socket, and how few probes a breaker lets through."""

from __future__ import annotations

from contextlib import suppress
from threading import Barrier, Thread
from urllib.parse import urlsplit, urlunsplit

import pytest

from katax_cli.core.clock import SYSTEM
from katax_cli.errors import AuthenticationFailed, BreakerOpen, Unavailable
from katax_cli.resilience import with_retry
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.databases.database import Database
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.databases.transaction import Transaction
from tests.servers.fixtures import MakeFresh, MakeProxy
from tests.servers.proxy import Proxy
from tests.services.runtimes import OpenRuntime

ENGINES = ("postgresql", "mysql", "redis", "mongodb")
NEEDLE = b"asked_for"
NEVER_OPEN = "\n[breaker]\nfailures = 1000000\n"


def retrying(attempts: int, **others: float) -> str:
    lines = [f"{key} = {value}" for key, value in {"initial": 0.001, "max": 0.002, **others}.items()]
    return "\n".join(["[retry]", f"attempts = {attempts}", *lines, ""])


def read(database: Database) -> object:
    """A read whose bytes hold the needle."""
    match database:
        case SqlDatabase():
            return database.query("SELECT 1 AS asked_for")
        case RedisDatabase():
            return database.redis("GET", "asked_for", safety=Safety.READ)
        case MongoDatabase():
            return database.command({"count": "asked_for"}, safety=Safety.READ)
    raise AssertionError(database)


class Counted:
    """Cuts the wire at each statement with the needle, before or after the server has seen it."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.asked = 0
        proxy.on_client_bytes(self.cut)

    def cut(self, chunk: bytes) -> None:
        if NEEDLE in chunk:
            self.asked += 1
            self.proxy.cut_after(NEEDLE, forward=False)


@pytest.mark.parametrize("attempts", [1, 4])
@pytest.mark.parametrize("name", ENGINES)
def test_a_read_is_attempted_as_often_as_the_policy_says(
    fresh: MakeFresh, proxy: MakeProxy, open_runtime: OpenRuntime, name: str, attempts: int
) -> None:
    wire = proxy(fresh(name))
    runtime = open_runtime(retrying(attempts) + NEVER_OPEN, main={"url": wire.url, "read_only": True})
    database = runtime.database("main")
    counted = Counted(wire)
    with pytest.raises(Unavailable):
        read(database)
    assert counted.asked == attempts
    if name != "mongodb":  # its driver has a connection of its own to watch the server
        assert wire.connections == attempts


@pytest.mark.parametrize("name", ENGINES)
def test_inside_with_retry_each_round_is_one_attempt(
    fresh: MakeFresh, proxy: MakeProxy, open_runtime: OpenRuntime, name: str
) -> None:
    wire = proxy(fresh(name))
    runtime = open_runtime(retrying(5) + NEVER_OPEN, main={"url": wire.url, "read_only": True})
    database = runtime.database("main")
    counted = Counted(wire)
    with pytest.raises(Unavailable):
        with_retry(lambda: read(database), 3, initial=0.001, max=0.002)
    assert counted.asked == 3


@pytest.mark.parametrize(
    ("extra", "own", "attempts"),
    [
        ("", {}, 1),
        (retrying(3), {}, 3),
        ("", {"retry": {"total": 10.0, "initial": 0.001}}, 1),
        ("", {"retry": {"attempts": 3, "initial": 0.001, "max": 0.002}}, 3),
    ],
    ids=["default", "profile", "connection without attempts", "connection"],
)
def test_a_single_command_makes_one_attempt_unless_attempts_are_configured(
    fresh: MakeFresh,
    proxy: MakeProxy,
    open_runtime: OpenRuntime,
    extra: str,
    own: dict[str, object],
    attempts: int,
) -> None:
    wire = proxy(fresh("postgresql"))
    runtime = open_runtime(extra, one_shot=True, main={"url": wire.url, "read_only": True, **own})
    counted = Counted(wire)
    with pytest.raises(Unavailable):
        read(runtime.database("main"))
    assert counted.asked == attempts


@pytest.mark.parametrize("name", ["postgresql", "mysql", "redis"])
def test_a_wrong_password_is_tried_once(
    fresh: MakeFresh, proxy: MakeProxy, open_runtime: OpenRuntime, name: str
) -> None:
    wire = proxy(fresh(name))
    runtime = open_runtime(retrying(5), main=with_password(wire.url, "wr0ng-s3cr3t"))
    database = runtime.database("main")
    with pytest.raises(AuthenticationFailed) as error:
        read(database)
    assert wire.connections == 1
    assert "wr0ng-s3cr3t" not in str(error.value)
    assert database.guard.breaker is not None
    assert database.guard.breaker.get_state().failures == 0


def with_password(url: str, password: str) -> str:
    parts = urlsplit(url)
    login = f"{parts.username or ''}:{password}"
    return urlunsplit(parts._replace(netloc=f"{login}@{parts.hostname}:{parts.port}"))


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("name", ["postgresql", "mysql", "redis"])
def test_of_a_hundred_threads_at_most_k_reach_a_half_open_server(
    fresh: MakeFresh, proxy: MakeProxy, open_runtime: OpenRuntime, name: str, k: int
) -> None:
    wire = proxy(fresh(name))
    policy = f"[breaker]\nfailures = 1\nreset = 0.01\nhalf_open_calls = {k}\n"
    runtime = open_runtime(retrying(1) + policy, main={"url": wire.url, "connect_timeout": 60.0})
    database = runtime.database("main")
    open_breaker(database, wire)
    wire.stall()
    outcomes = crowd_of_readers(database, until_refused=100 - k, then=wire.resume)
    assert (wire.connections <= k, outcomes.count("answered")) == (True, k)
    assert database.guard.breaker is not None
    assert database.guard.breaker.is_closed()


def test_a_probe_that_hangs_does_not_keep_the_breaker_half_open(
    fresh: MakeFresh, proxy: MakeProxy, open_runtime: OpenRuntime
) -> None:
    wire = proxy(fresh("postgresql"))
    policy = "[breaker]\nfailures = 1\nreset = 0.01\nhalf_open_max = 0.05\n"
    database = open_runtime(retrying(1) + policy, main={"url": wire.url, "connect_timeout": 60.0}).database(
        "main"
    )
    breaker = database.guard.breaker
    assert breaker is not None
    open_breaker(database, wire)
    wire.stall()
    hangs = Thread(target=read, args=(database,))
    hangs.start()
    while breaker.get_state().reason != "a probe did not answer":
        SYSTEM.sleep(0.001)
    wire.resume()
    hangs.join()
    while not breaker.is_closed():
        with suppress(BreakerOpen):
            read(database)


def open_breaker(database: Database, wire: Proxy) -> None:
    breaker = database.guard.breaker
    assert breaker is not None
    wire.refuse()
    with pytest.raises(Unavailable):
        read(database)
    wire.come_back()
    while breaker.get_state().state == "open":
        SYSTEM.sleep(0.001)
    assert breaker.get_state().state == "half_open"


def crowd_of_readers(database: Database, *, until_refused: int, then: object) -> list[str]:
    """A hundred threads that read at once; `then` is called when so many of them were refused."""
    outcomes: list[str] = []
    start = Barrier(100)

    def work() -> None:
        start.wait()
        try:
            read(database)
            outcomes.append("answered")
        except BreakerOpen:
            outcomes.append("refused")

    threads = [Thread(target=work) for _ in range(100)]
    for thread in threads:
        thread.start()
    while outcomes.count("refused") < until_refused:
        SYSTEM.sleep(0.001)
    assert callable(then)
    then()
    for thread in threads:
        thread.join()
    return outcomes


def test_a_query_inside_the_transaction_that_is_the_only_probe_goes_through(
    fresh: MakeFresh, proxy: MakeProxy, open_runtime: OpenRuntime
) -> None:
    wire = proxy(fresh("postgresql"))
    runtime = open_runtime(retrying(1) + "[breaker]\nfailures = 1\nreset = 0.01\n", main=wire.url)
    database = runtime.sql(runtime.profile.connection("main"))
    open_breaker(database, wire)

    def whole(transaction: Transaction) -> object:
        return [transaction.query("SELECT 1 AS inside"), database.query("SELECT 2 AS beside")]

    assert database.transaction(whole) == [[{"inside": 1}], [{"beside": 2}]]


def test_failures_in_blocks_and_in_the_middle_of_streams_count(
    fresh: MakeFresh, proxy: MakeProxy, open_runtime: OpenRuntime
) -> None:
    wire = proxy(fresh("postgresql"))
    runtime = open_runtime("[breaker]\nfailures = 2\nreset = 600\n", main=wire.url)
    database = runtime.sql(runtime.profile.connection("main"))
    breaker = database.guard.breaker
    assert breaker is not None
    with pytest.raises(Unavailable), database.transaction() as transaction:  # noqa: PT012
        wire.cut()
        transaction.execute("SELECT 1")
    assert breaker.get_state().failures == 1
    many = "SELECT repeat('x', 1000) FROM generate_series(1, 20000)"
    with pytest.raises(Unavailable), database.stream(many) as rows:  # noqa: PT012
        for _ in rows:
            wire.cut()
    assert breaker.get_state().failures == 1
    assert breaker.is_closed()
