"""Health, metrics and the end of databases for tasks."""

from __future__ import annotations

import asyncio

import pytest

from katax_cli import health
from katax_cli.aio import check_database_health, get_metrics, graceful_shutdown, perform_health_check
from tests.aio.conftest import MakeKatax
from tests.servers.fixtures import MakeProxy
from tests.services.runtimes import CALM
from tests.waiting import SECONDS


async def test_health_and_metrics(
    make_katax: MakeKatax,
    postgresql_url: str,
    redis_url: str,
    sqlite_url: str,
    mongodb_url: str,
    proxy: MakeProxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "PROBE_SECONDS", SECONDS)
    wire = proxy(postgresql_url)
    connections = {"main": wire.url, "cache": redis_url, "file": sqlite_url, "documents": mongodb_url}
    async with make_katax(CALM, **connections) as katax:
        for name in ("main", "cache", "file", "documents"):
            db = katax.database(name)
            await db.connect()
            assert await db.health_check(timeout=60)
            assert (await perform_health_check(db, verbose=True)).errors == ()
        await katax.database("main").query("select 1")
        assert get_metrics(katax.database("main")).queries.total == 1
        assert await katax.database("documents").command({"ping": 1})
        wire.refuse()
        wire.cut()
        result = await check_database_health(katax.database("main"))
        assert (result.status, bool(result.errors)) == ("unhealthy", True)


async def test_a_graceful_shutdown_waits_for_what_is_in_use(
    make_katax: MakeKatax, postgresql_url: str
) -> None:
    katax = make_katax(main=postgresql_url)
    db, told = katax.database("main"), list[str]()

    async def hook() -> None:
        await asyncio.sleep(0)
        told.append("hook")

    running = asyncio.create_task(db.query("select pg_sleep(0.2), 7 as n"))
    while not db.wraps.leases.running:
        await asyncio.sleep(0)
    report = await graceful_shutdown(katax, timeout=60, on_shutdown=hook)
    assert (report.clean, told, (await running)[0]["n"]) == (True, ["hook"], 7)


async def test_what_does_not_end_is_cancelled_and_named(make_katax: MakeKatax, postgresql_url: str) -> None:
    katax = make_katax(main=postgresql_url)
    db = katax.database("main")
    running = asyncio.create_task(db.query("select pg_sleep(300)"))
    while not db.wraps.leases.running:
        await asyncio.sleep(0)
    report = await graceful_shutdown([db], timeout=4)
    assert not report.clean
    assert isinstance((await asyncio.gather(running, return_exceptions=True))[0], Exception)
