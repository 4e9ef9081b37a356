"""Fifty tasks on a server that is killed and restarted: what they are told, and what the server holds after."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from katax_cli.errors import OutcomeUnknown, Unavailable
from katax_cli.services.calls.guard import Safety
from tests.aio.conftest import MakeKatax
from tests.servers.fixtures import Throwaway
from tests.servers.server import Server
from tests.services.databases.test_under_fire import CLIENTS, CROWDED, PATIENT, SECONDS, Told, check


@dataclass(frozen=True)
class Work:
    """A write of a number, and a call that may be repeated."""

    write: Callable[[int], Awaitable[object]]
    read: Callable[[], Awaitable[object]]


async def through_fire(server: Server, work: Work) -> Told:
    """Every task writes and reads before the kill, during the outage and after it; errors of reads surface here."""
    told, over, warm = Told(), asyncio.Event(), [0]

    async def write(number: int) -> None:
        try:
            await work.write(number)
        except OutcomeUnknown:
            told.unknown.append(number)
        except Unavailable:
            told.failed.append(number)
        else:
            told.done.append(number)

    async def client(number: int) -> None:
        writes = iter(range(number, 10**9, CLIENTS))
        await write(next(writes))
        warm[0] += 1
        while not over.is_set():
            await write(next(writes))
            await work.read()
        await write(next(writes))

    clients = [asyncio.create_task(client(number)) for number in range(CLIENTS)]
    while warm[0] < CLIENTS:
        await asyncio.sleep(0.01)
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    over.set()
    await asyncio.gather(*clients)
    return told


@pytest.mark.parametrize("name", ["postgresql", "mysql"])
async def test_sql_survives_a_killed_server(make_katax: MakeKatax, throwaway: Throwaway, name: str) -> None:
    server = throwaway(name)
    readers = {"url": server.url, "pool": CROWDED, "read_only": True}
    async with make_katax(PATIENT, main={"url": server.url, "pool": CROWDED}, readers=readers) as katax:
        main, reading = katax.database("main"), katax.database("readers")
        await main.execute("CREATE TABLE written (id INT)")
        work = Work(
            write=lambda number: main.execute("INSERT INTO written VALUES ($1)", [number], timeout=SECONDS),
            read=lambda: reading.query("SELECT count(*) FROM written", timeout=SECONDS),
        )
        told = await through_fire(server, work)
        check(told, [row["id"] for row in await reading.query("SELECT id FROM written")])


async def test_redis_survives_a_killed_server(make_katax: MakeKatax, throwaway: Throwaway) -> None:
    server = throwaway("redis")
    async with make_katax(PATIENT, cache={"url": server.url, "pool": CROWDED}) as katax:
        redis = katax.redis()
        work = Work(
            write=lambda number: redis.redis("RPUSH", "written", number, timeout=SECONDS),
            read=lambda: redis.redis("LLEN", "written", timeout=SECONDS, safety=Safety.READ),
        )
        told = await through_fire(server, work)
        written = await redis.redis("LRANGE", "written", 0, -1, safety=Safety.READ)
        check(told, [int(each) for each in written])


@pytest.mark.parametrize("name", ["postgresql", "redis"])
async def test_all_are_served_again_at_default_settings(
    make_katax: MakeKatax, throwaway: Throwaway, name: str
) -> None:
    """Breaker, retries and pool as they come: every task gets an answer again, and the ledger agrees."""
    server, told, back, served = throwaway(name), Told(), asyncio.Event(), set[int]()
    async with make_katax(
        main={"url": server.url, "connect_timeout": 2.0, "pool": {"timeout": 5.0}}
    ) as katax:
        db = katax.database("main")
        if name == "postgresql":
            await db.execute("CREATE TABLE written (id INT)")

        async def write(number: int) -> None:
            if name == "postgresql":
                await db.execute("INSERT INTO written VALUES ($1)", [number])
            else:
                await db.redis("RPUSH", "written", number)

        async def client(first: int) -> None:
            for number in range(first, 10**9, CLIENTS):
                is_back = back.is_set()
                try:
                    await write(number)
                except OutcomeUnknown:
                    told.unknown.append(number)
                except Unavailable:
                    told.failed.append(number)
                    await asyncio.sleep(0.01)
                else:
                    told.done.append(number)
                    if is_back:
                        served.add(first)
                if len(served) == CLIENTS:
                    return

        clients = asyncio.gather(*[client(number) for number in range(CLIENTS)])
        while len(told.done) < 2 * CLIENTS:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        back.set()
        async with asyncio.timeout(300):
            await clients
        if name == "postgresql":
            written = [row["id"] for row in await db.query("SELECT id FROM written")]
        else:
            written = [int(each) for each in await db.redis("LRANGE", "written", 0, -1)]
        check(told, written)
