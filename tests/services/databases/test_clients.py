"""Redis and MongoDB through their drivers' own pools: made once, shared by threads, gone when closed."""

import sys
import threading
from pathlib import Path
from typing import cast

import pytest
import redis

from katax_cli.errors import OutcomeUnknown, PoolClosed, QueryError, Refused, Unavailable
from katax_cli.services.databases.client_database import ClientDatabase
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.runtime.runtime import Runtime
from tests.cli.processes import eventually
from tests.servers.fixtures import MakeFresh, MakeProxy
from tests.services.profiles import profile
from tests.waiting import until

BOTH = pytest.mark.parametrize("name", ["redis", "mongodb"])


def client(runtime: Runtime) -> ClientDatabase:
    return cast(ClientDatabase, runtime.database("main"))


@BOTH
def test_threads_share_one_client(name: str, fresh: MakeFresh, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": fresh(name).url})) as runtime:
        database = client(runtime)
        seen: list[object] = []
        threads = [threading.Thread(target=lambda: seen.append(database.get_client())) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(seen) == 8
        assert len(set(map(id, seen))) == 1
        database.release(seen[0])
        assert database.is_connected


@BOTH
def test_nothing_connects_before_it_must(name: str, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": f"{name}://127.0.0.1:1/0"})) as runtime:
        stats = client(runtime).pool_stats()

    assert (stats.max, stats.total, stats.active, stats.idle, stats.waiting) == (20, 0, 0, 0, 0)


def test_a_call_whose_client_is_closed_is_unknown_and_told_until_it_opens_again(
    fresh: MakeFresh, tmp_path: Path
) -> None:
    url, errors = fresh("redis").url, list[BaseException]()

    def block() -> None:
        try:
            database.redis("BLPOP", "never", 0, timeout=600)
        except Exception as error:  # noqa: BLE001 - which one it is, is the subject
            errors.append(error)

    with Runtime(profile(tmp_path, {"main": url})) as runtime, redis.from_url(url) as other:
        database = cast(RedisDatabase, client(runtime))
        mine = other.client_info()["db"]
        blocked = threading.Thread(target=block)
        blocked.start()
        until(lambda: [one for one in other.client_list() if (one["cmd"], one["db"]) == ("blpop", str(mine))])
        assert database.close(timeout=0.01) == database.left_open() != ()
        blocked.join()
        assert [type(error) for error in errors] == [OutcomeUnknown]
        # This program cut it off: the server did nothing wrong.
        assert database.breaker is not None
        assert database.breaker.get_state().failures == 0
        database.connect()
        assert database.left_open() == ()


@BOTH
def test_closed_is_closed(name: str, fresh: MakeFresh, proxy: MakeProxy, tmp_path: Path) -> None:
    door = proxy(fresh(name))
    with Runtime(profile(tmp_path, {"main": door.url})) as runtime:
        database = client(runtime)
        database.ping()
        assert door.open_connections > 0

    assert eventually(lambda: door.open_connections == 0)
    with pytest.raises(PoolClosed) as error:
        database.ping()
    assert str(error.value) == "the pool of 'main' is closed"


def test_a_command_of_redis(fresh: MakeFresh, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": fresh("redis").url})) as runtime:
        database = cast(RedisDatabase, runtime.database("main"))

        assert database.redis("SET", "k", b"\x00\xff") is not None
        assert database.redis("GET", "k") == b"\x00\xff"
        assert database.redis("INCRBY", "n", 5) == 5
        assert database.redis("GET", "missing") is None
        with pytest.raises(QueryError) as error:
            database.redis("LPUSH", "n", 1)
        assert "WRONGTYPE" in str(error.value)


def test_a_command_of_mongodb(fresh: MakeFresh, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": fresh("mongodb").url})) as runtime:
        database = cast(MongoDatabase, runtime.database("main"))

        assert database.command({"insert": "t", "documents": [{"_id": 1}]})["n"] == 1
        assert database.command({"count": "t"})["n"] == 1
        assert [table.name for table in database.tables()] == ["t"]
        assert database.get_client().get_default_database().name == database.settings.database
        described = database.describe("t")
        assert described is not None
        assert [column.name for column in described.columns] == ["_id"]
        assert database.describe("missing") is None


@BOTH
def test_a_read_only_client_is_not_handed_out(name: str, fresh: MakeFresh, tmp_path: Path) -> None:
    frozen = profile(tmp_path, {"main": fresh(name).url}, role="frozen")
    with Runtime(frozen) as runtime, pytest.raises(Refused) as error:
        client(runtime).get_client()

    assert str(error.value) == "refused: 'main' is read-only, so its driver's client is not handed out"


def test_a_server_that_refused_at_once_is_asked_again(
    fresh: MakeFresh, proxy: MakeProxy, tmp_path: Path
) -> None:
    wire = proxy(fresh("redis"))
    made = profile(tmp_path, {"main": wire.url})
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads overtake each other at every step
    try:
        for _ in range(60):
            with Runtime(made, one_shot=True) as runtime:
                wire.refuse()
                with pytest.raises(Unavailable):
                    runtime.database("main").connect()
                wire.come_back()
                runtime.database("main").connect()
    finally:
        sys.setswitchinterval(interval)
