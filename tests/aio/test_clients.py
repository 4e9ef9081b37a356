"""MongoDB for tasks: its driver waits in threads, the calls are awaited."""

from __future__ import annotations

import asyncio

from tests.aio.conftest import MakeKatax


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
        await db.update("people", {"age": 7}, {"$set": {"age": 8}})
        assert await db.delete("people", {"age": 8}) == 8
        counts = await asyncio.gather(*[db.count("people", {"age": age}) for age in range(60)])
        assert sum(counts) == len([one for one in people if one["age"] < 60 and one["age"] not in (7, 8)])
