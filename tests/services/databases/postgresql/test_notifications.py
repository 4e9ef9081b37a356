"""Notifications on real servers: what is heard, what a loss is told as, and what ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any, cast

import pytest

from katax_cli import Notification, NotificationGap
from katax_cli.aio import AsyncKatax
from katax_cli.errors import ConfigError, KataxError, QueryError, Refused, Unavailable, WrongEngine
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.runtime.runtime import Runtime
from tests.servers.fixtures import MakeProxy, Throwaway
from tests.services.profiles import profile
from tests.services.runtimes import OpenRuntime
from tests.waiting import until

PATIENCE = 60.0
NASTY = 'Orders of "today"; --'


@pytest.fixture
def db(postgresql_url: str, tmp_path: Path) -> Iterator[SqlDatabase]:
    with Runtime(profile(tmp_path, {"main": postgresql_url})) as runtime:
        yield cast(SqlDatabase, runtime.database("main"))


LISTENERS = (
    "from pg_stat_activity where backend_type = 'client backend' and datname = current_database()"
    " and (query like 'LISTEN %' or query = '')"
)
"""Sessions whose last statement was LISTEN, or the empty one that asks a silent server whether it lives."""


def listeners(db: SqlDatabase) -> int:
    return int(db.scalar(f"select count(*) {LISTENERS}"))


def test_what_is_sent_is_heard_in_its_order(db: SqlDatabase) -> None:
    with db.listen("jobs", NASTY) as events:
        for number in range(500):
            db.notify("jobs", str(number))
        with db.transaction() as transaction:
            transaction.query("select pg_notify($1, $2)", [NASTY, "漢"])
            db.notify("others", "not listened to")
        heard = [events.receive(PATIENCE) for _ in range(501)]
        assert [event.payload for event in heard if isinstance(event, Notification)] == [
            *map(str, range(500)),
            "漢",
        ]
        last = heard[-1]
        assert isinstance(last, Notification)
        assert last.channel == NASTY
        assert last.pid > 0
        assert events.receive(0.01) is None
        assert db.pool_stats().active == 0
    assert list(events) == []
    until(lambda: listeners(db) == 0)
    with db.listen("jobs", timeout=0.01) as silent:
        assert list(silent) == []


def test_a_close_in_the_last_moment_of_a_reader_ends_the_connection(db: SqlDatabase) -> None:
    events = db.listen("jobs").__enter__()

    class LastMoment:
        """The reader's lock, at whose release another thread has just found it taken."""

        def acquire(self, blocking: bool = True) -> bool:
            return lock.acquire(blocking)

        def release(self) -> None:
            closer = Thread(target=events.close)
            closer.start()
            closer.join()
            lock.release()

    lock, events._reading = events._reading, cast(Any, LastMoment())
    assert events.receive(0.01) is None
    assert (events.closed, events._connection) == (True, None)
    until(lambda: listeners(db) == 0)


def test_wrong_calls(db: SqlDatabase, sqlite_url: str, postgresql_url: str, tmp_path: Path) -> None:
    for channels in ((), ("",), ("x" * 64,), ("a\0b",)):
        with pytest.raises(ValueError):
            db.listen(*channels)
    with pytest.raises(QueryError):
        db.notify("jobs", "x" * 8000)
    with Runtime(profile(tmp_path, {"main": sqlite_url}, name="lite")) as runtime:
        lite = cast(SqlDatabase, runtime.database("main"))
        with pytest.raises(WrongEngine, match="sqlite has no notifications"):
            lite.listen("jobs")
        with pytest.raises(WrongEngine):
            lite.notify("jobs")
    with Runtime(profile(tmp_path, {"main": postgresql_url}, role="frozen", name="ice")) as runtime:
        frozen = cast(SqlDatabase, runtime.database("main"))
        with pytest.raises(Refused):
            frozen.notify("jobs")
        with frozen.listen("jobs") as events:
            db.notify("jobs", "x")
            assert isinstance(events.receive(PATIENCE), Notification)


def test_behind_a_pooler(open_runtime: OpenRuntime, pgbouncer_url: str, postgresql_url: str) -> None:
    """LISTEN would be the session's of whoever comes next: it goes past the pooler, or is refused."""
    pooled = {"url": pgbouncer_url, "pooler": "transaction"}
    runtime = open_runtime(main=pooled, direct={**pooled, "direct_url": postgresql_url})
    with pytest.raises(ConfigError, match="LISTEN has no session to live in; set its direct_url"):
        runtime.sql(runtime.profile.connection("main")).listen("jobs")
    direct = runtime.sql(runtime.profile.connection("direct"))
    with direct.listen("jobs") as events:
        direct.notify("jobs", "through the pooler")
        event = events.receive(PATIENCE)
        assert isinstance(event, Notification)
        assert event.payload == "through the pooler"


def test_a_loss_is_told_and_mended(
    db: SqlDatabase, postgresql_url: str, proxy: MakeProxy, tmp_path: Path
) -> None:
    wire = proxy(postgresql_url)
    with Runtime(profile(tmp_path, {"main": wire.url}, name="cut")) as runtime:
        cut = cast(SqlDatabase, runtime.database("main"))
        with cut.listen("jobs") as events:
            for round_ in range(3):
                db.notify("jobs", f"before {round_}")
                event = events.receive(PATIENCE)
                assert isinstance(event, Notification)
                wire.cut()
                gap = events.receive(PATIENCE)
                assert isinstance(gap, NotificationGap)
                assert gap.seconds >= 0
            wire.refuse()
            wire.cut()
            assert events.receive(0.2) is None
            wire.come_back()
            assert isinstance(events.receive(PATIENCE), NotificationGap)
            db.execute(f"select pg_terminate_backend(pid) {LISTENERS}")
            assert isinstance(events.receive(PATIENCE), NotificationGap)
        wire.refuse()
        with pytest.raises(Unavailable), cut.listen("jobs"):
            pass


def test_a_server_that_is_killed(throwaway: Throwaway, tmp_path: Path) -> None:
    server = throwaway("postgresql")
    with Runtime(profile(tmp_path, {"main": server.url})) as runtime:
        db = cast(SqlDatabase, runtime.database("main"))
        with db.listen("jobs") as events:
            server.kill()
            assert events.receive(0.2) is None
            server.start()
            assert isinstance(events.receive(PATIENCE), NotificationGap)
            until(lambda: db.health_check())
            db.notify("jobs", "again")
            assert isinstance(events.receive(PATIENCE), Notification)


def test_its_database_and_another_thread_end_it(db: SqlDatabase) -> None:
    heard: list[object] = []

    def read(events: Iterator[object]) -> None:
        heard.extend(events)

    with db.listen("jobs") as events:
        reader = Thread(target=read, args=(iter(events),))
        reader.start()
        db.notify("jobs")
        until(lambda: heard)
        with pytest.raises(KataxError, match="give each a listen"):
            until(lambda: events.receive(0.01))
        events.close()
        reader.join(PATIENCE)
        assert not reader.is_alive()
    with db.listen("jobs") as events:
        reader = Thread(target=read, args=(iter(events),))
        reader.start()
        db.close()
        reader.join(PATIENCE)
        assert not reader.is_alive()


def test_the_same_for_tasks(postgresql_url: str, db: SqlDatabase, tmp_path: Path) -> None:
    profile(tmp_path, {"main": postgresql_url}, name="aio")

    async def work() -> None:
        async with AsyncKatax("aio") as katax:
            base = katax.database("main", type="postgresql")
            async with base.listen("jobs") as events:
                await base.notify("jobs", "one")
                db.notify("jobs", "two")
                heard = []
                async for event in events:
                    assert isinstance(event, Notification)
                    heard.append(event.payload)
                    if len(heard) == 2:
                        break
                assert heard == ["one", "two"]
                waiting = asyncio.create_task(events.receive())
                rows = await base.query(f"select count(*) as n {LISTENERS}")
                assert rows == [{"n": 1}]
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                await base.execute(f"select pg_terminate_backend(pid) {LISTENERS}")
                assert isinstance(await events.receive(PATIENCE), NotificationGap)
                assert await events.receive(0.01) is None
        until(lambda: listeners(db) == 0)

    asyncio.run(work())
