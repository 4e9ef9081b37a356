"""Event loops that end, change or are interrupted, forks, hooks that block, and cancellation at every await point."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from random import Random

import pytest
import uvloop

from katax_cli import Katax
from katax_cli.aio import AsyncKatax, AsyncSession, AsyncSqlDatabase, AsyncTransaction
from katax_cli.errors import ConfigError, KataxError, OutcomeUnknown
from katax_cli.services.databases.postgresql.notifications import Notification
from tests.aio.conftest import MakeKatax
from tests.aio.tasks import eventually
from tests.aio.test_sql import RUNNING, SLEEP, running
from tests.servers.fixtures import MakeFresh, MakeProxy
from tests.waiting import SECONDS, until

ANOTHER = "these connections belong to the event loop that used them first; make an AsyncKatax on each loop"


def test_no_event_loop_of_asyncio_is_said_in_a_sentence(make_katax: MakeKatax, sqlite_url: str) -> None:
    """As under trio, which runs coroutines without one."""
    db = make_katax(main=sqlite_url).database("main")
    for call in (db.ping, lambda: db.query("select 1"), lambda: db.close()):
        with pytest.raises(ConfigError) as error:
            call().send(None)
        assert str(error.value).startswith("katax_cli.aio works on asyncio's event loop, and none runs here;")


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_a_loop_that_is_closed_with_calls_under_way(
    make_katax: MakeKatax, fresh: MakeFresh, engine: str
) -> None:
    """What it left is in use for ever, is named, and ends on the server; another loop is refused as ever."""
    url = fresh(engine).url
    katax = make_katax(main={"url": url, "pool": {"max": 2}}, other=url)
    db, other = katax.database("main"), katax.database("other")
    loop = asyncio.new_event_loop()
    left: list[asyncio.Future[object]] = []

    async def begin() -> None:
        left.extend(asyncio.ensure_future(db.query(SLEEP[engine])) for _ in range(4))

        async def both_run() -> bool:
            return await running(other, engine) == 2

        await eventually(both_run)

    loop.run_until_complete(begin())
    loop.close()
    with pytest.raises(ConfigError) as error:
        asyncio.run(db.query("select 1"))
    assert str(error.value) == ANOTHER
    assert len(db.wraps.close(timeout=0.3)) == 2
    assert other.wraps.close() == ()

    async def none_is_left() -> None:
        async with AsyncKatax(katax.profile) as watching:

            async def ended() -> bool:
                return await running(watching.database("other"), engine) == 0

            await eventually(ended)

    asyncio.run(none_is_left())
    left.clear()
    # Here and not in another test: its connections and calls go without a word.
    gc.collect()


@pytest.mark.parametrize(
    ("engine", "new_loop"),
    [
        ("postgresql", asyncio.new_event_loop),
        ("postgresql", uvloop.new_event_loop),
        ("mysql", asyncio.new_event_loop),
    ],
)
def test_cancellation_at_every_await_point(
    make_katax: MakeKatax, fresh: MakeFresh, engine: str, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """So many turns of the loop after its start, some twice; the ledger knows what was told."""
    random = Random(11)

    async def work(db: AsyncSqlDatabase, n: int) -> None:
        async with db.transaction() as transaction:
            await transaction.execute("insert into ledger values ($1)", [n])
            async with transaction.transaction():
                assert await transaction.scalar("select $1", [f"{n}"]) == f"{n}"
        async with db.stream("select n from ledger") as rows:
            async for _ in rows:
                break
        async with db.session() as session:
            assert await session.scalar("select $1", [f"s{n}"]) == f"s{n}"

    async def ended(db: AsyncSqlDatabase, n: int) -> str:
        task = asyncio.create_task(work(db, n))
        for _ in range(random.randrange(60)):
            await asyncio.sleep(0)
        task.cancel()
        if n % 3 == 0:
            await asyncio.sleep(0)
            task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return "cancelled"
        except OutcomeUnknown:
            return "unknown"
        return "done"

    async def attack() -> None:
        async with make_katax(main={"url": fresh(engine).url, "pool": {"max": 3}}) as katax:
            db = katax.database("main")
            await db.execute("create table ledger (n integer primary key)")
            ends: list[str] = []
            for start in range(0, 240, 12):
                ends += await asyncio.gather(*[ended(db, n) for n in range(start, start + 12)])
            written = {row["n"] for row in await db.query("select n from ledger")}
            assert {n for n, end in enumerate(ends) if end == "done"} <= written
            assert db.pool_stats().active == db.pool_stats().waiting == 0
            values = await asyncio.gather(*[db.scalar("select $1", [f"v{n}"]) for n in range(100)])
            assert values == [f"v{n}" for n in range(100)]

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(attack())


async def test_a_stream_that_a_thread_opens_as_its_task_is_cancelled(
    make_katax: MakeKatax, fresh: MakeFresh
) -> None:
    """Its rows would be left unread on the connection, and refuse the next caller's statement."""
    async with make_katax(main={"url": fresh("mysql").url, "pool": {"max": 1}}) as katax:
        db = katax.database("main")

        async def read() -> None:
            async with db.stream("select 1 as n") as rows:
                async for _ in rows:
                    pass

        for _ in range(5):
            await db.ping()
            task = asyncio.create_task(read())
            while not db.wraps.leases.running:
                await asyncio.sleep(0)
            [connection] = db.wraps.leases.running
            # The event loop stands still until the thread has got that far.
            until(lambda: connection.is_streaming)  # noqa: B023
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await db.query("select 7 as n", timeout=SECONDS) == [{"n": 7}]


async def test_what_was_answered_as_its_task_was_cancelled(
    make_katax: MakeKatax, postgresql_url: str
) -> None:
    """A notification goes to the next call, and a limit that the server took is not the next statement's."""
    loop = asyncio.get_running_loop()
    async with make_katax(main={"url": postgresql_url, "pool": {"max": 1}}) as katax:
        db = katax.database("main")
        with Katax(katax.profile) as threads:
            async with db.listen("news") as events:
                [connection] = [events.wraps._connection]

                def arrives_with_the_cancellation() -> None:
                    threads.database("main").notify("news", "kept", timeout=SECONDS)
                    until(lambda: connection.arrivals.poll(0))
                    loop.call_later(0, task.cancel)

                task = asyncio.create_task(events.receive())
                while connection._waiter is None:
                    await asyncio.sleep(0)
                loop.call_soon(arrives_with_the_cancellation)
                with pytest.raises(asyncio.CancelledError):
                    await task
                event = await events.receive(SECONDS)
                assert isinstance(event, Notification)
                assert event.payload == "kept"

        async def read() -> None:
            async with db.stream("select 1", timeout=60):
                raise AssertionError("the stream was opened")

        await db.ping()
        assert await db.scalar("show statement_timeout", timeout=300) == "5min"
        task = asyncio.create_task(read())
        while not db.wraps.leases.running:
            await asyncio.sleep(0)
        [connection] = db.wraps.leases.running
        until(lambda: connection.arrivals.poll(0))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await db.scalar("show statement_timeout", timeout=300) == "5min"


@pytest.mark.parametrize("far", [False, True])
def test_an_interrupt_ends_the_statements(
    make_katax: MakeKatax, fresh: MakeFresh, proxy: MakeProxy, *, far: bool
) -> None:
    """Also on a server that is further away than anybody waits for: the orders to end them outlive the event loop."""
    url = fresh("postgresql").url
    wire = proxy(url)

    async def interrupted() -> None:
        async with make_katax(main={"url": wire.url, "pool": {"max": 4}}, other=url) as katax:
            db, other = katax.database("main"), katax.database("other")
            calls = asyncio.gather(*[db.query(SLEEP["postgresql"]) for _ in range(8)])

            async def all_run() -> bool:
                return await running(other, "postgresql") == 4

            await eventually(all_run)
            if far:
                wire.slow(1.0)
            os.kill(os.getpid(), signal.SIGINT)
            await calls

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(interrupted())

    async def none_is_left() -> None:
        async with make_katax(other=url) as katax:

            async def ended() -> bool:
                return await running(katax.database("other"), "postgresql") == 0

            await eventually(ended)

    asyncio.run(none_is_left())


async def test_a_hook_that_blocks_leaves_the_event_loop_its_turn(
    make_katax: MakeKatax, sqlite_url: str
) -> None:
    katax = make_katax(main=sqlite_url)
    await katax.database("main").ping()
    began, release = threading.Event(), threading.Event()

    @katax.on_shutdown
    def blocks() -> None:
        began.set()
        assert release.wait(60), "the event loop had no turn"

    ending = asyncio.create_task(katax.shutdown(60))
    while not began.is_set():
        await asyncio.sleep(0.01)
    release.set()
    assert (await ending).clean


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_a_child_made_by_fork_makes_its_own(make_katax: MakeKatax, fresh: MakeFresh, engine: str) -> None:
    """The parent's container refuses it, a new one works, and the parent's connections are untouched."""
    url = fresh(engine).url
    katax = make_katax(main=url)
    db = katax.database("main")

    async def in_child() -> bool:
        try:
            await db.query("select 1")
        except ConfigError as error:
            refused = str(error) == ANOTHER
        async with AsyncKatax(katax.profile) as own:
            return refused and await own.database("main").scalar("select 2") == 2

    async def parent() -> None:
        async with katax:
            await asyncio.gather(*[db.query("select 1") for _ in range(9)])
            pid = os.fork()
            if pid == 0:
                asyncio._set_running_loop(None)
                status = 1
                try:
                    status = 0 if asyncio.run(in_child()) else 2
                finally:
                    os._exit(status)
            _, status = await asyncio.to_thread(os.waitpid, pid, 0)
            assert os.waitstatus_to_exitcode(status) == 0
            assert await asyncio.gather(*[db.scalar("select 3") for _ in range(9)]) == [3] * 9

    asyncio.run(parent())


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
async def test_a_cancelled_block_breaks_the_statement_of_another_task(
    make_katax: MakeKatax, fresh: MakeFresh, engine: str
) -> None:
    """Its end would wait for that one. Whoever cancelled it sees the cancellation, whatever its end meets."""
    url = fresh(engine).url
    async with make_katax(main={"url": url, "pool": {"max": 1}}, other=url) as katax:
        db, other = katax.database("main"), katax.database("other")
        await db.execute("create table t (n integer)")
        left: list[asyncio.Task[object]] = []

        async def work(statements: AsyncTransaction | AsyncSession) -> None:
            async with statements.transaction() as inner:
                await inner.execute("insert into t values (1)")
                sleep = statements.query(f"/* {number} */ {SLEEP[engine]}", timeout=3600)
                left.append(asyncio.create_task(sleep))
                await asyncio.Event().wait()

        async def block() -> None:
            async with db.transaction(timeout=3600) as transaction:
                await work(transaction)

        async def session() -> None:
            async with db.session(timeout=3600) as statements:
                await work(statements)

        for number, end in enumerate((block, lambda: db.transaction(work, timeout=3600), session)):
            # PostgreSQL goes on with those of broken connections.
            this = RUNNING[engine].replace("like '%", f"like '%/* {number} */%")
            task = asyncio.ensure_future(end())
            await eventually(partial(other.scalar, this))
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=SECONDS)
            assert done, "it waits for the statement of the other task"
            assert task.cancelled(), task.exception()
            [ended] = await asyncio.gather(left.pop(), return_exceptions=True)
            assert isinstance(ended, KataxError)
            assert await db.scalar("select count(*) from t", timeout=SECONDS) == 0
        assert db.pool_stats().active == 0


async def test_a_statement_that_waits_for_one_of_its_own_task(
    make_katax: MakeKatax, fresh: MakeFresh
) -> None:
    """COPY of rows that are read from its own transaction would wait for itself."""
    async with make_katax(main={"url": fresh("postgresql").url, "pool": {"max": 1}}) as katax:
        db = katax.database("main")
        await db.execute("create table t (n integer)")

        async def streamed(transaction: AsyncTransaction) -> AsyncIterator[object]:
            async for batch in transaction.stream("select generate_series(1, 3)"):
                for row in batch:
                    yield row

        async def built(transaction: AsyncTransaction) -> AsyncIterator[object]:
            yield (await transaction.table("t").count(),)

        async def in_savepoint(transaction: AsyncTransaction) -> AsyncIterator[object]:
            async with transaction.transaction():
                yield (1,)

        for rows in (streamed, built, in_savepoint):
            with pytest.raises(KataxError, match="this connection waits for data that the same task reads"):
                async with asyncio.timeout(SECONDS), db.transaction(timeout=3600) as transaction:
                    await transaction.copy_in("t", ["n"], rows(transaction))
            assert await db.scalar("select count(*) from t", timeout=SECONDS) == 0
        with pytest.raises(KataxError):
            async with (
                asyncio.timeout(SECONDS),
                db.transaction(timeout=3600) as transaction,
                transaction.stream("select generate_series(1, 3)") as batches,
            ):
                await transaction.copy_in("t", ["n"], (row async for batch in batches for row in batch))
        assert await db.scalar("select count(*) from t", timeout=SECONDS) == 0
        assert db.pool_stats().active == 0
