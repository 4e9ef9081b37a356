"""Fifty clients on a server that is killed and restarted: what they are told, and what the server holds after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Barrier, Event, Thread

import pytest

from katax_cli.errors import OutcomeUnknown, Unavailable
from katax_cli.services.calls.guard import Safety
from katax_cli.services.runtime.runtime import Runtime
from tests.servers.fixtures import Throwaway
from tests.servers.server import Server
from tests.services.runtimes import OpenRuntime

CLIENTS = 50
SECONDS = 120.0
# So patient that only the deadline ends a call: the breaker would rightly keep the crowd off a server that is down.
PATIENT = """
[retry]
attempts = 10000
initial = 0.05
max = 0.2
total = 150.0
[breaker]
failures = 1000000
"""
CROWDED = {"max": 10, "timeout": SECONDS}


@dataclass
class Told:
    """What the clients were told of their writes, by the number of the write."""

    done: list[int] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)

    def write(self, number: int, write: Callable[[int], object]) -> None:
        try:
            write(number)
        except OutcomeUnknown:
            self.unknown.append(number)
        except Unavailable:
            self.failed.append(number)
        else:
            self.done.append(number)


@dataclass(frozen=True)
class Work:
    """Three kinds of calls: a write of a number, and two that may be repeated."""

    write: Callable[[int], object]
    read: Callable[[], object]
    repeatable: Callable[[int], object]
    written: Callable[[], list[int]]


def through_fire(server: Server, work: Work) -> Told:
    """Every client writes and reads before the kill, during the outage and after it; errors of reads surface here."""
    told, surfaced = Told(), list[BaseException]()
    warm, over = Barrier(CLIENTS + 1), Event()

    def client(number: int) -> None:
        writes = iter(range(number, 10**9, CLIENTS))
        try:
            told.write(next(writes), work.write)
            warm.wait()
            while not over.is_set():
                told.write(next(writes), work.write)
                work.read()
                work.repeatable(number)
            told.write(next(writes), work.write)
            work.read()
        except BaseException as error:  # noqa: BLE001 - asserted below, on the test's thread
            surfaced.append(error)

    threads = [Thread(target=client, args=(number,), name=f"client-{number}") for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    warm.wait()
    server.kill()
    server.start()
    over.set()
    for thread in threads:
        thread.join()
    assert surfaced == []
    return told


def check(told: Told, written: list[int]) -> None:
    counts = Counter(written)
    assert [number for number, count in counts.items() if count > 1] == [], "applied twice"
    assert set(told.done) - counts.keys() == set(), "confirmed and lost"
    assert set(told.failed) & counts.keys() == set(), "said not to be applied, but was"
    assert counts.keys() - set(told.done) - set(told.unknown) == set()
    assert len(told.done) >= 2 * CLIENTS


@pytest.mark.parametrize("name", ["postgresql", "mysql"])
def test_sql_survives_a_killed_server(open_runtime: OpenRuntime, throwaway: Throwaway, name: str) -> None:
    server = throwaway(name)
    runtime = open_runtime(
        PATIENT,
        main={"url": server.url, "pool": CROWDED},
        readers={"url": server.url, "pool": CROWDED, "read_only": True},
    )
    work = sql_work(runtime)
    check(through_fire(server, work), work.written())


def sql_work(runtime: Runtime) -> Work:
    main = runtime.sql(runtime.profile.connection("main"))
    readers = runtime.sql(runtime.profile.connection("readers"))
    main.execute("CREATE TABLE written (id INT)")
    main.execute("CREATE TABLE last_seen (client INT PRIMARY KEY, seen INT)")
    for client in range(CLIENTS):
        main.execute("INSERT INTO last_seen VALUES ($1, 0)", [client])
    return Work(
        write=lambda number: main.execute("INSERT INTO written VALUES ($1)", [number], timeout=SECONDS),
        read=lambda: readers.query("SELECT count(*) FROM written", timeout=SECONDS),
        repeatable=lambda client: main.execute(
            "UPDATE last_seen SET seen = 1 WHERE client = $1", [client], timeout=SECONDS, idempotent=True
        ),
        written=lambda: [row["id"] for row in readers.query("SELECT id FROM written")],
    )


def test_redis_survives_a_killed_server(open_runtime: OpenRuntime, throwaway: Throwaway) -> None:
    server = throwaway("redis")
    runtime = open_runtime(PATIENT, cache={"url": server.url, "pool": CROWDED})
    redis = runtime.redis(runtime.profile.connection("cache"))
    work = Work(
        write=lambda number: redis.redis("RPUSH", "written", number, timeout=SECONDS),
        read=lambda: redis.redis("LLEN", "written", timeout=SECONDS, safety=Safety.READ),
        repeatable=lambda client: redis.redis(
            "SET", f"seen:{client}", 1, timeout=SECONDS, safety=Safety.IDEMPOTENT
        ),
        written=lambda: [int(each) for each in redis.redis("LRANGE", "written", 0, -1, safety=Safety.READ)],
    )
    check(through_fire(server, work), work.written())
