"""SQL databases for tasks: cancellation, deadlines, streams, transactions."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from katax_cli.aio import AsyncRedisDatabase, AsyncSqlDatabase, AsyncTransaction
from katax_cli.engines.awaited import postgresql as awaited
from katax_cli.errors import DeadlineExceeded, KataxError, OutcomeUnknown, QueryError, Refused
from tests.aio.conftest import MakeKatax
from tests.aio.tasks import eventually
from tests.servers.fixtures import MakeFresh, MakeProxy, Target
from tests.waiting import SECONDS

SLEEP = {
    "postgresql": "select pg_sleep(300)",
    "mysql": "select sleep(300)",
    "sqlite": "with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) from c",
}
RUNNING = {
    "postgresql": """select count(*) as n from pg_stat_activity
        where query like '%pg_sleep(300)' and state = 'active' and datname = current_database()""",
    "mysql": """select count(*) as n from information_schema.processlist
        where info like '%sleep(300)' and id <> connection_id() and db = database()""",
}
IN_TRANSACTION = """select count(*) as n from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and state like 'idle in transaction%'"""


async def running(db: AsyncSqlDatabase, engine: str) -> int:
    return int((await db.query(RUNNING[engine]))[0]["n"])


async def test_statements_streams_and_transactions(sql_engine: Target, make_katax: MakeKatax) -> None:
    """One round of all of it, on each engine."""
    async with make_katax(main=sql_engine.url) as katax:
        db = katax.database("main", type=sql_engine.engine)  # type: ignore[call-overload]
        await db.execute("create table t (n integer primary key, name varchar(20))")
        assert (
            await db.execute_many("insert into t values (?, ?)", [(n, f"r{n}") for n in range(2500)]) == 2500
        )
        assert await db.query("select name from t where n = $1", [7]) == [{"name": "r7"}]

        async with db.stream("select n from t order by n") as rows:
            assert rows.columns == ("n",)
            assert [n async for batch in rows for (n,) in batch] == list(range(2500))
        async with db.stream("select n from t order by n") as rows:
            async for batch in rows:
                assert batch[0] == (0,)
                break
        async with db.transaction() as transaction:
            await transaction.execute("delete from t where n >= 10")
            with suppress(QueryError):
                async with transaction.transaction() as savepoint:
                    await savepoint.execute("delete from t")
                    await savepoint.execute("insert into t values (1, 'a'), (1, 'b')")
        with suppress(ZeroDivisionError):
            async with db.transaction() as transaction:
                await transaction.execute("delete from t")
                raise ZeroDivisionError
        assert await db.query("select count(*) as n from t") == [{"n": 10}]
        assert [table.name for table in await db.tables()] == ["t"]
        assert db.pool_stats().active == 0


async def test_a_cancelled_statement_ends_on_the_server(sql_engine: Target, make_katax: MakeKatax) -> None:
    engine = sql_engine.engine
    async with make_katax(main={"url": sql_engine.url, "pool": {"max": 1}}, other=sql_engine.url) as katax:
        db, other = katax.database("main"), katax.database("other")
        await db.execute("create table t (n integer)")
        for _ in range(3):
            task = asyncio.create_task(db.query(SLEEP[engine]))
            if engine in RUNNING:
                await eventually(lambda: running(other, engine))
            else:
                await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            if engine in RUNNING:
                await eventually(lambda: awaited_not(running(other, engine)))
            assert await db.query("select 7 as n") == [{"n": 7}]
        assert db.pool_stats().active == 0


async def test_a_call_that_is_left_at_once_leaves_its_connection(
    sql_engine: Target, make_katax: MakeKatax
) -> None:
    """Cancelled again while the cancellation is under way, or closed: the reply must not meet the next caller."""
    engine = sql_engine.engine

    async def cancelled(db: AsyncSqlDatabase) -> None:
        task = asyncio.create_task(db.query(SLEEP[engine], timeout=60))
        await eventually(lambda: working(db))
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        assert task.cancelled()

    async def closed(db: AsyncSqlDatabase) -> None:
        call = db.query(SLEEP[engine], timeout=60)
        call.send(None)
        call.close()

    async with make_katax(main={"url": sql_engine.url, "pool": {"max": 1, "timeout": 60.0}}) as katax:
        db = katax.database("main")
        for number in range(5):
            for leave in (cancelled, closed):
                await db.query("select 1 as n", timeout=60)
                await leave(db)
                assert await db.query("select $1 as n", [f"{number}"], timeout=60) == [{"n": f"{number}"}]
        assert db.pool_stats().active == 0


async def working(db: AsyncSqlDatabase) -> bool:
    return db.pool_stats().active == 1


async def awaited_not(number: Coroutine[Any, Any, int]) -> bool:
    return await number == 0


async def test_a_cancelled_transaction_is_rolled_back(make_katax: MakeKatax, fresh: MakeFresh) -> None:
    url = fresh("postgresql").url
    async with make_katax(main={"url": url, "pool": {"max": 1}}, other=url) as katax:
        db, other = katax.database("main"), katax.database("other")
        await db.execute("create table t (n integer)")

        async def work(transaction: AsyncTransaction) -> None:
            await transaction.execute("insert into t values (1)")
            await transaction.query(SLEEP["postgresql"])

        async def block() -> None:
            async with db.transaction() as transaction:
                await work(transaction)

        for run in (block, lambda: db.transaction(work)):
            task = asyncio.ensure_future(run())
            await eventually(lambda: running(other, "postgresql"))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await eventually(lambda: none_in_transaction(other))
            assert await db.query("select count(*) as n from t") == [{"n": 0}]


async def none_in_transaction(db: AsyncSqlDatabase) -> bool:
    return bool(await db.query(IN_TRANSACTION) == [{"n": 0}])


async def test_a_cancelled_commit_is_unknown(
    make_katax: MakeKatax, fresh: MakeFresh, proxy: MakeProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So is a write of its own; a write that the server refused because of the cancellation was not applied."""
    target = fresh("postgresql")
    wire = proxy(target)
    arrived = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stall_at(words: bytes) -> Callable[[bytes], None]:
        def look(chunk: bytes) -> None:
            if words in chunk:
                wire.stall()
                loop.call_soon_threadsafe(arrived.set)

        return look

    async with make_katax(main=wire.url, direct=target.url) as katax:
        db, direct = katax.database("main"), katax.database("direct")
        await direct.execute("create table t (n integer primary key)")

        async def commit() -> None:
            async with db.transaction() as transaction:
                await transaction.execute("insert into t values (1)")
                wire.on_client_bytes(stall_at(b"COMMIT"))

        async def write() -> None:
            await db.connect()
            wire.on_client_bytes(stall_at(b"insert"))
            await db.execute("insert into t values (2)")

        for call in (commit, write):
            task = asyncio.create_task(call())
            await arrived.wait()
            task.cancel()
            with pytest.raises(OutcomeUnknown):
                await task
            arrived.clear()
            wire.on_client_bytes(None)
            wire.resume()

        for patience in ("SETTLE_SECONDS", "_CANCEL_SECONDS"):
            monkeypatch.setattr(awaited, patience, SECONDS)
        async with direct.transaction() as locked:
            await locked.execute("insert into t values (3)")
            task = asyncio.create_task(db.execute("insert into t values (3)"))
            await eventually(lambda: waits_for_a_lock(direct))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def waits_for_a_lock(db: AsyncSqlDatabase) -> bool:
    return bool(await db.query("select 1 from pg_locks where not granted"))


async def test_a_call_whose_connection_is_closed_under_it_ends(
    make_katax: MakeKatax, postgresql_url: str, redis_url: str
) -> None:
    """As by a shutdown that could not end it on its server: from a thread."""
    async with make_katax(main=postgresql_url, cache=redis_url, other=redis_url) as katax:
        db, redis, other = katax.database("main"), katax.redis("cache"), katax.redis("other")
        statement = asyncio.create_task(db.query(SLEEP["postgresql"], timeout=3600))
        await eventually(lambda: sleeps(db))
        [connection] = db.wraps.leases.running
        await asyncio.to_thread(db.wraps.engine.close, connection)
        command = asyncio.create_task(redis.redis("BLPOP", "queue", 0, timeout=3600))
        await eventually(lambda: is_blocked(other))
        await asyncio.to_thread(redis.wraps.cancel_running)
        async with asyncio.timeout(SECONDS):
            ended = await asyncio.gather(statement, command, return_exceptions=True)
        # redis-py says it in words of its own.
        assert [isinstance(end, Exception) for end in ended] == [True, True], ended
        assert isinstance(ended[0], KataxError)


async def sleeps(db: AsyncSqlDatabase) -> bool:
    return await running(db, "postgresql") == 1


async def is_blocked(redis: AsyncRedisDatabase) -> bool:
    return b"cmd=blpop" in await redis.redis("CLIENT", "LIST")


async def test_a_deadline_is_one_budget(sql_engine: Target, make_katax: MakeKatax) -> None:
    async with make_katax(main={"url": sql_engine.url, "pool": {"max": 1}}) as katax:
        db = katax.database("main")
        await db.connect()
        with pytest.raises(DeadlineExceeded):
            await db.query(SLEEP[sql_engine.engine], timeout=0.2)
        assert await db.query("select 1 as n") == [{"n": 1}]


async def test_context_variables_cross(sql_engine: Target, make_katax: MakeKatax) -> None:
    """Into a transaction's coroutine function and out of it; `with_retry` and transactions depend on that."""
    request: ContextVar[str] = ContextVar("request", default="none")

    async with make_katax(main=sql_engine.url) as katax:
        db = katax.database("main")

        async def work(transaction: AsyncTransaction) -> str:
            seen = request.get()
            request.set("set inside")
            await transaction.query("select 1")
            return seen

        request.set("outside")
        assert await db.transaction(work) == "outside"
        assert request.get() == "set inside"


async def test_statements_of_one_transaction_take_turns(sql_engine: Target, make_katax: MakeKatax) -> None:
    async with make_katax(main=sql_engine.url) as katax:
        db = katax.database("main")
        async with db.transaction() as transaction:
            rows = await asyncio.gather(*[transaction.query("select $1 as n", [n]) for n in range(20)])
        assert [int(row[0]["n"]) for row in rows] == list(range(20))


HOLD = {
    "postgresql": ("select pg_advisory_lock(7)", "select pg_advisory_unlock(7)"),
    "mysql": ("select get_lock('seven', 300)", "select release_lock('seven')"),
}


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
async def test_an_end_waits_for_the_statement_of_another_task(
    make_katax: MakeKatax, fresh: MakeFresh, engine: str
) -> None:
    """As a `gather` leaves it whose other statement failed. Cancelled while it waits, the end commits nothing."""
    url = fresh(engine).url
    lock, unlock = HOLD[engine]
    async with make_katax(main={"url": url, "pool": {"max": 1}}, other=url) as katax:
        db, other = katax.database("main"), katax.database("other")
        await db.execute("create table t (n integer)")
        left: list[asyncio.Task[object]] = []

        def leave(statements: Any) -> None:
            left.append(asyncio.create_task(statements.query(lock, timeout=300)))

        async def block() -> None:
            async with db.transaction(timeout=300) as transaction:
                await transaction.execute("insert into t values (1)")
                leave(transaction)
                await asyncio.sleep(0)

        async def work(transaction: AsyncTransaction) -> None:
            await transaction.execute("insert into t values (1)")
            leave(transaction)
            await asyncio.sleep(0)

        async def session() -> None:
            async with db.session(timeout=300) as statements:
                async with statements.transaction() as transaction:
                    await transaction.execute("insert into t values (1)")
                leave(statements)
                await asyncio.sleep(0)

        for number, end in enumerate((block, lambda: db.transaction(work, timeout=300), session), 1):
            async with other.session() as holder:
                await holder.query(lock)
                task = asyncio.ensure_future(end())
                await eventually(partial(waits_its_turn, task, left, number))
                await holder.query(unlock)
                await task
                assert len(await left[-1]) == 1  # type: ignore[arg-type]
            assert await db.scalar("select count(*) from t") == number
        async with other.session() as holder:
            await holder.query(lock)
            task = asyncio.ensure_future(block())
            await eventually(partial(waits_its_turn, task, left, 4))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert isinstance((await asyncio.gather(left[-1], return_exceptions=True))[0], KataxError)
            await holder.query(unlock)
        assert await db.scalar("select count(*) from t", timeout=SECONDS) == 3
        assert db.pool_stats().active == 0


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
async def test_the_wait_for_its_turn_counts(make_katax: MakeKatax, fresh: MakeFresh, engine: str) -> None:
    """What waits longer than it may is not sent, and the transaction goes on."""
    url = fresh(engine).url
    lock, unlock = HOLD[engine]
    async with make_katax(main=url, other=url) as katax:
        db, other = katax.database("main"), katax.database("other")
        await db.execute("create table t (n integer)")

        async def streamed(statements: Any) -> None:
            async with statements.stream("select 1", timeout="100ms"):
                raise AssertionError("it was not its turn")

        calls: list[Callable[[Any], Any]] = [
            lambda statements: statements.execute("insert into t values (1)", timeout=0.1),
            lambda statements: statements.prepare("select 1").execute(timeout=0.1),
            lambda statements: statements.table("t").create({"n": 1}, timeout=0.1),
            streamed,
        ]
        for begin in (db.transaction, db.session):
            async with other.session() as holder, begin(timeout=300) as statements:
                await holder.query(lock)
                waiting = asyncio.create_task(statements.query(lock, timeout=300))
                await asyncio.sleep(0)
                for call in calls:
                    with pytest.raises(DeadlineExceeded) as error:
                        await call(statements)
                    assert str(error.value) == (
                        "'main' is not available: waiting for another task's statement took longer than 0.1 s"
                    )
                with pytest.raises(ValueError, match="is no duration"):
                    await statements.query("select 1", timeout="soon")
                await holder.query(unlock)
                assert len(await waiting) == 1
                await statements.query(unlock, timeout="5m")
                assert await statements.scalar("select count(*) from t", timeout=300) == 0


async def waits_its_turn(task: asyncio.Future[Any], left: list[asyncio.Task[object]], number: int) -> bool:
    await asyncio.sleep(0.02)
    return len(left) == number and not task.done() and not left[-1].done()


async def test_a_read_only_connection(sql_engine: Target, make_katax: MakeKatax) -> None:
    async with make_katax(main=sql_engine.url, readers={"url": sql_engine.url, "read_only": True}) as katax:
        db, readers = katax.database("main"), katax.database("readers")
        await db.execute("create table t (n integer)")
        assert await readers.query("select count(*) as n from t") == [{"n": 0}]
        for write in ("insert into t values (1)", "drop table t"):
            with pytest.raises(Refused):
                await readers.execute(write)
        for transaction_of in (readers.transaction, lambda: db.transaction(read_only=True)):
            async with transaction_of() as transaction:
                with pytest.raises(KataxError):
                    await transaction.execute("insert into t values (1)")
        transaction = await db.begin(isolation="serializable")
        await transaction.rollback()
        with pytest.raises(ValueError, match="isolation level"):
            db.transaction(isolation="none")
        assert await db.query("select count(*) as n from t") == [{"n": 0}]


async def test_the_next_caller_meets_a_new_session(make_katax: MakeKatax, fresh: MakeFresh) -> None:
    async with make_katax(main={"url": fresh("postgresql").url, "pool": {"max": 1}}) as katax:
        db = katax.database("main")
        await db.execute("set search_path to nowhere")
        await db.execute("create temporary table pg_temp.left_behind (n integer)")
        assert (await db.query("show search_path"))[0]["search_path"] == '"$user", public'
        with pytest.raises(QueryError):
            await db.query("select * from pg_temp.left_behind")


class _Arrivals:
    """A poll that does not wait."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self.register = self._poll.register

    def poll(self, milliseconds: float) -> list[tuple[int, int]]:
        assert milliseconds == 0, "the event loop would stand still"
        return self._poll.poll(milliseconds)


async def test_a_stream_that_is_left_early_lets_the_event_loop_go_on(
    make_katax: MakeKatax, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    polls = SimpleNamespace(poll=_Arrivals, POLLIN=select.POLLIN)
    monkeypatch.setattr("katax_cli.engines.postgresql.session.select", polls)
    async with make_katax(main={"url": postgresql_url, "pool": {"max": 1}}) as katax:
        db = katax.database("main")
        async with db.stream("select generate_series(1, 100000000)") as rows:
            async for _ in rows:
                break
        assert await db.scalar("select 1") == 1


def test_a_statement_whose_event_loop_was_closed_ends_without_a_word(
    make_katax: MakeKatax, postgresql_url: str
) -> None:
    katax = make_katax(main=postgresql_url, other=postgresql_url)

    async def begun() -> Coroutine[Any, Any, Any]:
        task = asyncio.create_task(katax.database("main").query(SLEEP["postgresql"]))
        await eventually(lambda: is_running(katax.database("other")))
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        return cast("Coroutine[Any, Any, Any]", task.get_coro())

    loop = asyncio.new_event_loop()
    statement = loop.run_until_complete(begun())
    loop.close()
    statement.close()


async def is_running(db: AsyncSqlDatabase) -> bool:
    return await running(db, "postgresql") == 1
