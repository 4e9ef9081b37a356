"""The container for tasks: one object for one name, one event loop, one end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from katax_cli.aio import AsyncKatax
from katax_cli.errors import ConfigError, ConnectionConflict, Unavailable, UnknownConnection, WrongEngine
from tests.aio.conftest import MakeKatax


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
    asyncio.run(db.ping())
    with pytest.raises(ConfigError) as error:
        asyncio.run(db.ping())
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
