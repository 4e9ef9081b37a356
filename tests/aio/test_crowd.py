"""A thousand tasks on ten connections: nobody starves, and cancelling half of them harms nobody."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from katax_cli.aio import AsyncTransaction
from katax_cli.errors import DeadlineExceeded, OutcomeUnknown, PoolTimeout
from tests.aio.conftest import MakeKatax
from tests.aio.tasks import eventually
from tests.aio.test_sql import IN_TRANSACTION
from tests.servers.fixtures import MakeFresh

TASKS = 1000
POOL = {"max": 10, "timeout": 300.0}
PATIENT = {"pool": POOL, "statement_timeout": 300.0, "connect_timeout": 300.0}


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
async def test_half_of_them_are_cancelled(make_katax: MakeKatax, fresh: MakeFresh, engine: str) -> None:
    """Values are unique: a reply that reached the wrong task would show."""
    random = Random(7)
    url = fresh(engine).url
    async with make_katax(main={"url": url, **PATIENT}, other=url) as katax:
        db = katax.database("main")
        await db.execute("create table t (n integer primary key)")

        async def work(n: int) -> int:
            for part in range(3):
                assert await db.query("select $1 as n, $2 as part", [f"{n}", f"{part}"]) == [
                    {"n": f"{n}", "part": f"{part}"}
                ]

            async def write(transaction: AsyncTransaction) -> None:
                await transaction.execute("insert into t values ($1)", [n])

            await db.transaction(write)
            return n

        tasks = [asyncio.create_task(work(n)) for n in range(TASKS)]
        doomed = random.sample(range(TASKS), TASKS // 2)
        for count, n in enumerate(doomed):
            if count % 5 == 0:
                await asyncio.sleep(0.002 * random.random())
            tasks[n].cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)

        cut = (asyncio.CancelledError, OutcomeUnknown)
        assert [end for n, end in enumerate(ended) if end != n and not isinstance(end, cut)] == []
        assert [n for n, end in enumerate(ended) if isinstance(end, cut) and n not in set(doomed)] == []
        written = {row["n"] for row in await db.query("select n from t", timeout=60)}
        assert {n for n, end in enumerate(ended) if end == n} <= written
        cancelled = {n for n, end in enumerate(ended) if isinstance(end, asyncio.CancelledError)}
        assert cancelled & written == set(), "cancelled before the end, and yet applied"
        assert db.pool_stats().active == db.pool_stats().waiting == 0
        if engine == "postgresql":
            other = katax.database("other")

            async def none_is_left() -> bool:
                return bool(await other.query(IN_TRANSACTION) == [{"n": 0}])

            await eventually(none_is_left)


async def test_deadlines_of_those_that_wait(make_katax: MakeKatax, fresh: MakeFresh) -> None:
    """Waiting for a connection is part of the budget, and first come is first served."""
    async with make_katax(
        main={"url": fresh("postgresql").url, "pool": {"max": 1, "timeout": 60.0}}
    ) as katax:
        db = katax.database("main")
        order: list[int] = []

        async def ask(n: int) -> None:
            await db.query("select 1")
            order.append(n)

        async with db.transaction() as transaction:
            await transaction.query("select 1")
            asking = [asyncio.create_task(ask(n)) for n in range(50)]
            while db.pool_stats().waiting < 50:
                await asyncio.sleep(0)
            with pytest.raises((DeadlineExceeded, PoolTimeout)):
                await db.query("select 1", timeout=0.05)
        await asyncio.gather(*asking)
        assert order == sorted(order)
