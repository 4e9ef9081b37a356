"""Statements of a transaction that are cancelled while the transaction goes on, and calls that are begun in others."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

from katax_cli.aio import AsyncKatax, AsyncStream, AsyncTransaction
from katax_cli.errors import KataxError
from katax_cli.services.databases.sql import SqlDatabase
from tests.aio.conftest import MakeKatax
from tests.servers.fixtures import MakeFresh, Target
from tests.waiting import SECONDS, until

SLOW = {
    "postgresql": "insert into t select 2 from pg_sleep(300)",
    "mysql": "insert into t select 2 + sleep(300)",
    "sqlite": """insert into t with recursive c(x) as (select 1 union all select x + 1 from c)
        select x from c where x < 0""",
}
QUICK = "insert into t values (2)"


async def passed_over(statement: Coroutine[Any, Any, int]) -> None:
    """Cancels it at its first wait, and goes on as a program does that gave it a time of its own."""
    task = asyncio.create_task(statement)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("sql", ["slow", "quick"])
async def test_nothing_is_committed_after_a_cancelled_statement(
    sql_engine: Target, make_katax: MakeKatax, sql: str
) -> None:
    """It may have been done, or have taken the transaction with it, after which each statement would commit itself."""
    statement = SLOW[sql_engine.engine] if sql == "slow" else QUICK
    async with make_katax(main={"url": sql_engine.url, "pool": {"max": 1}}) as katax:
        db = katax.database("main")
        await db.execute("create table t (n integer)")

        async def work(transaction: AsyncTransaction) -> None:
            await transaction.execute("insert into t values (1)")
            await passed_over(transaction.execute(statement))
            for call in (transaction.execute, transaction.query):
                with pytest.raises(KataxError):
                    await call("insert into t values (3)")

        async def block() -> None:
            async with db.transaction(timeout=SECONDS) as transaction:
                await work(transaction)

        async def by_hand() -> None:
            transaction = await db.begin(timeout=SECONDS)
            await work(transaction)
            await transaction.commit()

        for end in (block, by_hand, lambda: db.transaction(work, timeout=SECONDS)):
            with pytest.raises(KataxError):
                await end()
            assert await db.query("select n from t") == []
        assert db.pool_stats().active == 0


@pytest.mark.parametrize("sql", ["slow", "quick"])
async def test_a_savepoint_takes_a_cancelled_statement_back(
    make_katax: MakeKatax, fresh: MakeFresh, sql: str
) -> None:
    """The transaction around it goes on, unless the connection had to be closed."""
    async with make_katax(main=fresh("postgresql").url) as katax:
        db = katax.database("main")
        await db.execute("create table t (n integer)")

        async def work(transaction: AsyncTransaction) -> None:
            await transaction.execute("insert into t values (1)")
            with pytest.raises(KataxError):
                async with transaction.transaction() as savepoint:
                    await passed_over(savepoint.execute(SLOW["postgresql"] if sql == "slow" else QUICK))
            await transaction.execute("insert into t values (3)")

        try:
            await db.transaction(work, timeout=SECONDS)
        except KataxError:
            assert await db.query("select n from t") == []
        else:
            assert await db.query("select n from t order by n") == [{"n": 1}, {"n": 3}]


async def test_a_call_that_is_begun_in_another_one(make_katax: MakeKatax, fresh: MakeFresh) -> None:
    """As an eager task begins what a listener starts: it goes on outside of it."""
    async with make_katax(main=fresh("postgresql").url) as katax:
        db = katax.database("main")
        await db.execute("create table t (n integer)")
        begun: list[tuple[Coroutine[Any, Any, Any], asyncio.Future[Any]]] = []

        def begins(database: SqlDatabase) -> object:
            call = db.scalar("select 'begun inside'")
            begun.append((call, call.send(None)))
            return database.scalar("select 'around it'")

        assert await db.run_sync(begins) == "around it"
        [(call, future)] = begun
        future._asyncio_future_blocking = False
        await asyncio.wait([future])
        with pytest.raises(StopIteration) as end:
            call.send(None)
        assert end.value.value == "begun inside"


STALLS = {
    "postgresql": """select repeat('x', 2000), case when n > 2000 then pg_sleep(300) end
        from generate_series(1, 3000) as n""",
    "mysql": """with recursive c(n) as (select 1 union all select n + 1 from c where n < 900)
        select repeat('x', 2000), if(n > 100, sleep(300), 0) from c""",
    "sqlite": """with recursive c(x) as (select 1 union all select x + 1 from c)
        select x from c where x < 2000""",
}


async def test_a_stream_that_is_left_while_another_task_reads_it(
    sql_engine: Target, make_katax: MakeKatax
) -> None:
    """Its connection is the next caller's then; under SQLite's the program crashed."""
    async with make_katax(main={"url": sql_engine.url, "pool": {"max": 1}}) as katax:
        db = katax.database("main")

        async def read(rows: AsyncStream) -> None:
            async for _ in rows:
                pass

        for _ in range(3):
            async with db.stream(STALLS[sql_engine.engine], idle=3600) as rows:
                reading = asyncio.create_task(read(rows))
                while rows._reader is None:
                    await asyncio.sleep(0)
                with pytest.raises(KataxError, match="another task reads this stream"):
                    await read(rows)
            with pytest.raises(KataxError, match="this stream has ended"):
                await reading
            assert await db.scalar("select $1", ["mine"], timeout=SECONDS) == "mine"
        async with db.stream(STALLS[sql_engine.engine], idle=3600) as rows:
            reading = asyncio.create_task(read(rows))
            while rows._reader is None:
                await asyncio.sleep(0)
            reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert db.pool_stats().active == 0


def test_threads_end_with_their_container(sqlite_url: str) -> None:
    """A program, or a test suite, may make one container after the other."""

    async def use() -> None:
        async with AsyncKatax(config={"connections": {"passing": {"url": sqlite_url}}}) as katax:
            await asyncio.gather(*[katax.database("passing").query("select 1") for _ in range(20)])

    def none_is_left() -> bool:
        gc.collect()
        return not [each for each in threading.enumerate() if each.name.startswith("katax-passing-")]

    for _ in range(3):
        asyncio.run(use())
    until(none_is_left)
