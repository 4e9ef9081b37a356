"""The container for tasks: one object for one name, one event loop, one end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from threading import get_ident

import pytest

from katax_cli import Katax, TestDatabase, TestRedis
from katax_cli.aio import AsyncKatax, perform_health_check
from katax_cli.errors import ConfigError, ConnectionConflict, Unavailable, UnknownConnection, WrongEngine
from tests.aio.conftest import MakeKatax
from tests.aio.tasks import eventually
from tests.servers.fixtures import MakeFresh, MakeProxy
from tests.services.runtimes import CALM
from tests.waiting import SECONDS

CALM_SETTINGS = {"health": {"degraded_ms": 60000, "unhealthy_ms": 60000}}


async def test_one_object_for_one_name(make_katax: MakeKatax, sqlite_url: str, redis_url: str) -> None:
    async with make_katax(main=sqlite_url, cache=redis_url) as katax:
        assert katax.database("main") is katax.database("main") is katax.db("main") is katax.database()
        assert katax.redis().name == "cache"
        with pytest.raises(UnknownConnection):
            katax.database("mian")
        with pytest.raises(WrongEngine):
            katax.cache("main")
        with pytest.raises(ConnectionConflict):
            katax.database("main", connection="sqlite:///other.db")


def test_another_event_loop_is_refused_in_a_sentence(make_katax: MakeKatax, sqlite_url: str) -> None:
    katax = make_katax(main=sqlite_url)
    db = katax.database("main")
    with asyncio.Runner() as runner:
        runner.run(db.ping())
        with pytest.raises(ConfigError) as error:
            asyncio.run(db.ping())
        runner.run(katax.shutdown())
    assert str(error.value) == (
        "these connections belong to the event loop that used them first; make an AsyncKatax on each loop"
    )


async def test_hooks_run_first_and_what_is_in_use_is_waited_for(
    make_katax: MakeKatax, sqlite_url: str
) -> None:
    katax = make_katax(main=sqlite_url)
    db, told = katax.database("main"), list[object]()

    @katax.on_shutdown
    async def hook() -> None:
        told.append(await db.query("select 1 as n"))

    katax.on_shutdown(lambda: told.append("plain"))
    async with db.transaction() as transaction:
        ending = asyncio.create_task(katax.shutdown())
        while "plain" not in told:
            await asyncio.sleep(0.01)
        assert await transaction.query("select 2 as n") == [{"n": 2}]
    report = await ending
    assert (report.clean, told) == (True, [[{"n": 1}], "plain"])
    with pytest.raises(Unavailable):
        katax.database("main")
    assert (await katax.shutdown()) == report


def test_no_configuration_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError):
        AsyncKatax()


async def test_the_beginning_and_the_standing_of_a_container(sqlite_url: str, redis_url: str) -> None:
    connections = {"main": {"url": sqlite_url}, "cache": {"url": redis_url}}
    katax, told = AsyncKatax(config={"connections": connections, **CALM_SETTINGS}), list[object]()
    db = katax.database("main")

    @katax.on_start
    async def start() -> None:
        told.append(await db.query("select 1 as n"))

    katax.on_start(lambda: told.append("plain"))

    @katax.on_ready
    async def ready() -> None:
        told.append("ready")

    async with katax:
        assert told == [[{"n": 1}], "plain"]
        first, second = await asyncio.gather(katax.wait("main", timeout=60), katax.wait(timeout=60))
        assert first.healthy
        assert set(second.connections) == {"main", "cache"}
        assert told[2:] == ["ready"]
        assert (katax.info().ready, katax.info().connections["main"].opened) == (True, True)
        assert (await katax.health_check("cache", timeout=60)).connections["cache"].status == "healthy"
        katax.config.set("PORT", "8080")
        assert (katax.env("PORT", 1), katax.env_required("PORT", int)) == (8080, 8080)
        with pytest.raises(ConfigError):
            katax.on_start(start)
    failing = AsyncKatax(config={"connections": {"main": {"url": sqlite_url}}})
    db = failing.database("main")

    @failing.on_start
    async def fail() -> None:
        await db.query("select 1")
        raise ValueError("no licence")

    with pytest.raises(ValueError, match="no licence"):
        async with failing:
            raise AssertionError("the block was entered")
    assert db.closed


async def test_an_override_stands_for_its_name(make_katax: MakeKatax, fresh: MakeFresh) -> None:
    """A database for threads gets one for tasks on the same server."""
    with (
        TestDatabase.create("postgresql", url=fresh("postgresql").url) as test_database,
        TestRedis() as test_redis,
    ):
        test_database.execute("create table only_here (n int)")
        async with make_katax(CALM, main=fresh("sqlite").url, cache=fresh("redis").url) as katax:
            real = katax.database()
            await katax.cache().set("key", "real")
            with katax.override("main", test_database), katax.override("cache", test_redis):
                db = katax.database()
                assert db is katax.db("main")
                async with db.transaction() as transaction:
                    await transaction.execute("insert into only_here values (1)")
                assert await katax.cache().get("key") is None
                await katax.sessions().create({"user_id": 1}, id="one")
                assert (await katax.health_check("main", "cache", timeout=60)).healthy
            assert katax.database() is real
            assert await katax.cache().get("key") == "real"
            assert test_database.query("select n from only_here") == [{"n": 1}]
            assert test_redis.redis("EXISTS", "session:one") == 1
            cache, fake = katax.cache(), object()
            with katax.override("main", db), katax.override("cache", cache), katax.override("users", fake):
                assert [katax.database(), katax.cache(), katax.redis("cache")] == [db, cache, cache.redis]
                assert [katax.records("users"), katax.redis()] == [fake, cache.redis]
        assert db.closed
        assert not test_database.closed


async def test_the_same_time_for_the_end_as_in_threads(sqlite_url: str) -> None:
    """Positional or not, seconds or text; what is still in use is named by both."""
    config = {"connections": {"main": {"url": sqlite_url}}}
    reports = []
    for timeout in (0.5, "500ms"):
        katax, plain = AsyncKatax(config=config), Katax(config=config)
        await katax.database("main").begin()
        reports.append(await katax.shutdown(timeout))
        plain.database("main").begin()
        reports.append(await asyncio.to_thread(plain.shutdown, timeout))
    left = "main: a connection held by thread MainThread"
    assert [report.left for report in reports] == [(left,)] * 4


async def test_what_other_threads_notice_is_told_on_the_event_loop(
    make_katax: MakeKatax, postgresql_url: str, proxy: MakeProxy
) -> None:
    """As an operator's decision, and what a health check meets."""
    wire = proxy(postgresql_url)
    async with make_katax(main=wire.url) as katax:
        db, told, threads = katax.database("main"), set[str](), set[int]()

        def listener(*facts: object) -> None:
            told.add(str(facts[0]))
            threads.add(get_ident())

        forget = [db.on("breaker", listener), db.on("connection_error", listener), db.on("query", listener)]
        await db.query("select 1")
        wire.refuse()
        wire.cut()
        assert not (await perform_health_check(db)).healthy
        await asyncio.to_thread(db.wraps.breaker.force_open)

        async def all_is_told() -> bool:
            return "forced_open" in told and len(told) == 3

        await eventually(all_is_told)
        assert threads == {get_ident()}
        for each in forget:
            each()
        told.clear()
        db.wraps.breaker.reset()
        assert told == set()


async def test_a_hook_that_waits_for_its_servers(sqlite_url: str) -> None:
    """What it calls does not wait for the end of the hook itself."""
    config = {"connections": {"main": {"url": sqlite_url}}, **CALM_SETTINGS}
    told: list[str] = []
    katax, plain_katax = AsyncKatax(config=config), Katax(config=config)
    katax.on_ready(lambda: told.append("ready"))

    @katax.on_start
    async def start() -> None:
        await katax.wait("main", timeout=SECONDS)
        told.append("started")

    @plain_katax.on_start
    def start_plain() -> None:
        plain_katax.wait("main", timeout=SECONDS)
        told.append("started in threads")

    async with asyncio.timeout(SECONDS), katax:
        assert told == ["ready", "started"]
    await asyncio.wait_for(asyncio.to_thread(plain_katax.start), SECONDS)
    await asyncio.to_thread(plain_katax.shutdown)
    assert told[2:] == ["started in threads"]


async def test_what_stood_in_ends_when_its_database_did(make_katax: MakeKatax, sqlite_url: str) -> None:
    """A container for all tests and a database for each: their connections do not add up."""
    async with make_katax(main=sqlite_url) as katax:
        stood_in = []
        for _ in range(3):
            with TestDatabase.create() as database, katax.override("main", database):
                await katax.database("main").ping()
                stood_in.append(katax.database("main"))
        assert [each.closed for each in stood_in] == [True, True, False]
        assert [each.pool_stats().total for each in stood_in] == [0, 0, 1]
