"""MongoDB for tasks: its driver waits in threads, the calls are awaited."""

from __future__ import annotations

import asyncio
import threading

import pytest

from katax_cli.errors import DeadlineExceeded, PoolTimeout, WrongEngine
from tests.aio.conftest import MakeKatax
from tests.servers.fixtures import MakeProxy
from tests.waiting import SECONDS


async def test_documents(make_katax: MakeKatax, mongodb_url: str) -> None:
    async with make_katax(main=mongodb_url) as katax:
        db = katax.database("main", type="mongodb")
        people = [{"_id": n, "age": n % 90} for n in range(300)]
        assert await db.insert("people", people) == list(range(300))
        assert await db.count("people", {"age": 7}) == 4
        async with db.find("people", {"age": {"$lt": 3}}) as found:
            ids = [one["_id"] async for batch in found for one in batch]
        assert sorted(ids) == [start + n for start in (0, 90, 180, 270) for n in range(3)]
        async for batch in db.aggregate("people", [{"$match": {"age": 7}}, {"$count": "n"}]):
            assert batch == [{"n": 4}]
        assert [table.name for table in await db.tables(timeout=SECONDS)] == ["people"]
        described = await db.describe("people", timeout=SECONDS)
        assert described is not None
        assert {column.name for column in described.columns} == {"_id", "age"}
        with pytest.raises(WrongEngine, match="mongodb has no joins in a builder"):
            db.table("people").join("orders", "a = b")
        await db.update("people", {"age": 7}, {"$set": {"age": 8}})
        assert await db.delete("people", {"age": 8}) == 8
        counts = await asyncio.gather(*[db.count("people", {"age": age}) for age in range(60)])
        assert sum(counts) == len([one for one in people if one["age"] < 60 and one["age"] not in (7, 8)])


async def test_a_cancelled_query_on_documents_ends_as_asyncio_says(
    make_katax: MakeKatax, mongodb_url: str, proxy: MakeProxy
) -> None:
    """Its thread waits for the server still, and closes the cursor when it is answered."""
    wire = proxy(mongodb_url)
    async with make_katax(main={"url": wire.url, "pool": {"max": 2}}) as katax:
        db = katax.database("main", type="mongodb")
        await db.insert("people", [{"_id": n} for n in range(3000)])
        for number in (0, 1):
            stalled = asyncio.Event()

            async def read(number: int, stalled: asyncio.Event) -> None:
                def stall_at(batches: int) -> None:
                    if batches == number:
                        wire.stall()
                        stalled.set()

                stall_at(0)
                async with db.find("people") as found:
                    batches = 0
                    async for _ in found:
                        stall_at(batches := batches + 1)

            task = asyncio.create_task(read(number, stalled))
            await stalled.wait()
            while db.pool_stats().active == 0:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            wire.resume()
            assert await db.count("people", {}, timeout=SECONDS) == 3000


async def test_waiting_for_a_connection_takes_no_thread(
    make_katax: MakeKatax, mongodb_url: str, proxy: MakeProxy
) -> None:
    """Nor does what was cancelled meanwhile run when its turn would have come."""
    wire = proxy(mongodb_url)
    async with make_katax(main={"url": wire.url, "pool": {"max": 2, "timeout": SECONDS}}) as katax:
        db = katax.database("main", type="mongodb")

        async def has_begun(calls: int) -> None:
            while (now := db.pool_stats()).active + now.waiting < calls:
                await asyncio.sleep(0.01)

        await db.insert("people", [{"_id": 0}])
        before = set(threading.enumerate())
        wire.stall()
        running = [asyncio.create_task(db.count("people", {}, timeout=SECONDS)) for _ in range(2)]
        await has_begun(2)
        waiting = [asyncio.create_task(db.insert("people", [{"_id": n}])) for n in range(1, 101)]
        await has_begun(102)
        with pytest.raises((PoolTimeout, DeadlineExceeded)):
            await db.count("people", {}, timeout=0.01)
        made = [thread.name for thread in set(threading.enumerate()) - before]
        assert len([name for name in made if name.startswith("katax-main-")]) <= 2
        for task in waiting[1:]:
            task.cancel()
        ended = await asyncio.gather(*waiting[1:], return_exceptions=True)
        assert {type(end) for end in ended} == {asyncio.CancelledError}, "none of them was sent"
        wire.resume()
        assert await waiting[0] == [1]
        await asyncio.gather(*running)
        assert await db.count("people", {}, timeout=SECONDS) == 2
        assert db.pool_stats().waiting == 0
