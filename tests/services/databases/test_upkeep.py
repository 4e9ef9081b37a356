"""The thread beside a program's database: what it keeps, what it leaves alone, and where it is."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from katax_cli.errors import KataxError
from katax_cli.services.databases.upkeep import Upkeep
from tests.fake_clock import FakeClock
from tests.servers.fixtures import MakeProxy, Target, Throwaway
from tests.services.runtimes import OpenRuntime
from tests.waiting import until

POOL = {"min": 3, "max": 5, "idle_timeout": 0.3, "max_lifetime": 60.0}


def use(database: Any) -> object:
    if database.settings.type == "redis":
        return database.redis("PING")
    if database.settings.type == "mongodb":
        return database.command({"ping": 1})
    return database.query("select 1")


EARLIER: set[threading.Thread] = set()
"""What tests before this one left running."""


@pytest.fixture(autouse=True)
def earlier() -> None:
    EARLIER.clear()
    EARLIER.update(threading.enumerate())


def upkeeps() -> list[str]:
    """The names of the upkeep threads that began in this test."""
    begun = [thread.name for thread in threading.enumerate() if thread not in EARLIER]
    return [name for name in begun if name.startswith("katax-upkeep")]


def test_from_the_first_use_on_a_pool_is_kept_and_close_leaves_no_thread(
    open_runtime: OpenRuntime, engine: Target
) -> None:
    runtime = open_runtime(main={"url": engine.url, "pool": {"min": 3}})
    database: Any = runtime.database("main")
    use(database)

    assert upkeeps() == ["katax-upkeep-main"]
    if engine.engine != "mongodb":  # pymongo's own monitor looks every ten seconds
        until(lambda: database.pool_stats().total == 3)
    database.close()
    until(lambda: upkeeps() == [])
    with pytest.raises(KataxError):
        use(database)
    assert upkeeps() == []


@pytest.mark.parametrize("served", ["postgresql", "mysql", "redis", "sqlite"])
def test_idle_connections_beyond_the_fewest_are_closed(
    open_runtime: OpenRuntime, fresh: Callable[[str], Target], served: str
) -> None:
    database: Any = open_runtime(main={"url": fresh(served).url, "pool": POOL}).database("main")
    together = threading.Barrier(6)

    def everybody() -> None:
        together.wait()
        together.wait()

    def work() -> None:
        if served == "redis":
            with_connection(database, everybody)
        else:
            with database.session():
                everybody()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    together.wait()
    assert database.pool_stats().total == 5
    together.wait()
    for thread in threads:
        thread.join()

    until(lambda: database.pool_stats().total == 3)
    use(database)


def with_connection(database: Any, everybody: Callable[[], None]) -> None:
    pool = database.get_client().connection_pool
    connection = pool.get_connection()
    everybody()
    pool.release(connection)


def test_a_single_command_has_no_upkeep_and_opens_what_it_uses(
    open_runtime: OpenRuntime, postgresql_url: str
) -> None:
    database: Any = open_runtime(one_shot=True, main={"url": postgresql_url, "pool": POOL}).database("main")
    database.query("select 1")

    assert (database.upkeep, database.pool_stats().total) == (None, 1)
    until(lambda: upkeeps() == [])


def test_a_child_made_by_fork_has_an_upkeep_of_its_own(
    open_runtime: OpenRuntime, postgresql_url: str
) -> None:
    database: Any = open_runtime(main=postgresql_url).database("main")
    database.query("select 1")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            alive = [
                not database.breaker.attended,
                upkeeps() == [],
                database.query("select 1 as one") == [{"one": 1}],
            ]
            until(lambda: database.breaker.attended)
            database.close()
            until(lambda: upkeeps() == [])
            status = 0 if all(alive) else 1
        finally:
            os._exit(status)

    assert os.waitpid(child, 0)[1] == 0
    assert upkeeps() == ["katax-upkeep-main"]
    database.query("select 1")


# The collector may meet the socket before redis-py's connection, which closes it.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_an_abandoned_database_takes_its_thread_along(open_runtime: OpenRuntime, redis_url: str) -> None:
    runtime = open_runtime(main=redis_url)
    runtime.database("main").connect()
    runtime._databases.clear()

    def is_gone() -> bool:
        gc.collect()
        return upkeeps() == []

    until(is_gone)


def test_a_refused_login_is_not_repeated_to_fill_the_pool(
    open_runtime: OpenRuntime, proxy: MakeProxy, throwaway: Throwaway
) -> None:
    server = throwaway("redis")
    direct: Any = open_runtime(main=server.url).database("main")
    wire = proxy(server)
    database: Any = open_runtime(main={"url": wire.url, "pool": {"min": 2}}).database("main")
    database.upkeep.stop()
    clock = FakeClock(at=1e9)
    upkeep = Upkeep(database, clock=clock)
    database.redis("PING")
    upkeep.round()
    assert wire.connections == 2
    direct.redis("CONFIG", "SET", "requirepass", "new")
    wire.cut()
    for _ in range(5):
        clock.at += 100.0
        upkeep.round()
    assert wire.connections == 3

    direct.redis("CONFIG", "SET", "requirepass", server.password or "")
    database.redis("PING")
    upkeep.round()
    assert database.pool_stats().total == 2
