"""COPY for programs on a real server: rows and bytes in, bytes out, and what is left when it breaks."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest

from katax_cli.aio import AsyncKatax
from katax_cli.errors import (
    DeadlineExceeded,
    NotNullViolation,
    OutcomeUnknown,
    QueryError,
    Refused,
    Unavailable,
    UniqueViolation,
    WrongEngine,
)
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.runtime.runtime import Runtime
from tests.servers.fixtures import MakeProxy, Throwaway
from tests.services.profiles import profile
from tests.waiting import until

TABLE = 'create table events (id int primary key, name text not null, "at" timestamptz, n numeric, ok bool)'
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
NASTY = 'tab\there, line\nend, \\N, "quote", 漢'


@pytest.fixture
def db(postgresql_url: str, tmp_path: Path) -> Iterator[SqlDatabase]:
    with Runtime(profile(tmp_path, {"main": postgresql_url})) as runtime:
        made = cast(SqlDatabase, runtime.database("main"))
        made.execute(TABLE)
        yield made


def count(db: SqlDatabase) -> int:
    return int(db.scalar("select count(*) from events"))


def copied(db: SqlDatabase, query: str, **options: Any) -> tuple[bytes, int]:
    with db.copy_out(query, **options) as pieces:
        return b"".join(pieces), pieces.rows


def test_rows_and_bytes_go_in_and_bytes_come_out(db: SqlDatabase) -> None:
    rows = [(1, NASTY, MOMENT, Decimal("1.50"), True), (2, "", None, None, False)]
    assert db.copy_in("events", ["id", "name", "at", "n", "ok"], rows) == 2
    assert [tuple(row) for row in db.run("select * from events order by id").rows] == rows
    text, number = copied(db, "select id, name from events order by id; ")
    assert (text, number) == (b'1\ttab\\there, line\\nend, \\\\N, "quote", \xe6\xbc\xa2\n2\t\n', 2)
    csv, _ = copied(db, "select id, ok from events order by id -- both", format="csv")
    assert csv == b"1,t\n2,f\n"
    binary, number = copied(db, "select * from events", format="binary")
    assert number == 2
    db.execute("truncate events")
    assert db.copy_in("public.events", (), binary, format="binary") == 2
    assert db.copy_in("events", ["id", "name"], io.BytesIO(b"3,three\n4,four\n"), format="csv") == 2
    assert (
        db.copy_in(
            "events", ["id", "name"], (piece for piece in (b"5,fi", b"ve\n6,si", b"x\n")), format="csv"
        )
        == 2
    )
    assert db.copy_in("events", ["id", "name"], []) == 0
    assert (
        db.scalar("select string_agg(name, ',' order by id) from events where id > 2")
        == "three,four,five,six"
    )
    with db.copy_out("select n from generate_series(1, 1000000) n") as pieces:
        assert next(iter(pieces)).startswith(b"1\n2\n")
    assert db.pool_stats().active == 0
    with db.transaction() as transaction:
        assert transaction.copy_in("events", ["id", "name"], [(7, "seven")]) == 1
        transaction.rollback()
    assert count(db) == 6


class Broken(Exception):
    """The program's own."""


def failing(rows: int) -> Iterator[tuple[int, str]]:
    yield from ((number, "x" * 100) for number in range(rows))
    raise Broken


def test_what_fails_leaves_the_table_as_before(db: SqlDatabase) -> None:
    db.copy_in("events", ["id", "name"], [(1, "kept")])
    many = [(number, "x") for number in range(2, 5000)]
    for error, columns, data, options in (
        (UniqueViolation, ["id", "name"], [*many, (1, "again")], {}),
        (NotNullViolation, ["id", "name"], [*many, (9999, None)], {}),
        (QueryError, ["id", "name"], [*many, ("x", "y")], {}),
        (QueryError, ["id", "name"], [(2, "a", "b")], {}),
        (QueryError, ["id", "name"], [(2, object())], {}),
        (QueryError, ["nothing"], [(2,)], {}),
        (QueryError, ["id", "name"], b"2,x\n3\n", {"format": "csv"}),
        (QueryError, ["id", "name"], b"nonsense", {"format": "binary"}),
        (QueryError, ["id", "name"], [(2, "a"), b"3\tb\n", (4, "\0")], {}),
        (Broken, ["id", "name"], failing(20_000), {}),
        (ValueError, ["id", "name) from program 'id' --"], [], {}),
        (ValueError, ["id"], [(1,)], {"format": "csv"}),
        (ValueError, ["id"], [(1,)], {"format": "xml"}),
        (TypeError, ["id"], "1\n", {}),
        (TypeError, ["id"], ["1\n"], {}),
    ):
        with pytest.raises(error):
            db.copy_in("events", cast(Any, columns), cast(Any, data), **cast(Any, options))
        assert db.pool_stats().active == 0
    for wrong in ("select 1) to program 'id' --", "select 1; drop table events", "nothing", "select 1\0"):
        with pytest.raises((QueryError, ValueError)):
            copied(db, wrong)
    with pytest.raises(ValueError, match="no format named 'xml'"):
        copied(db, "select 1", format="xml")
    assert (count(db), db.query("select name from events")) == (1, [{"name": "kept"}])


def test_only_where_it_can_be(sqlite_url: str, postgresql_url: str, db: SqlDatabase, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": sqlite_url}, name="lite")) as runtime:
        lite = cast(SqlDatabase, runtime.database("main"))
        with pytest.raises(WrongEngine, match=r"sqlite has no COPY; 'copy_in\(\)' works on postgresql"):
            lite.copy_in("events", [], [])
        with pytest.raises(WrongEngine), lite.copy_out("select 1"):
            pass
    with Runtime(profile(tmp_path, {"main": postgresql_url}, role="frozen", name="ice")) as runtime:
        frozen = cast(SqlDatabase, runtime.database("main"))
        with pytest.raises(Refused):
            frozen.copy_in("events", ["id", "name"], [(1, "x")])
        with pytest.raises(Refused):
            copied(frozen, "insert into events values (1, 'x') returning id")
        assert copied(frozen, "select 1") == (b"1\n", 1)
    assert count(db) == 0


def test_a_wire_that_is_cut(db: SqlDatabase, postgresql_url: str, proxy: MakeProxy, tmp_path: Path) -> None:
    """Before the end nothing lasts; at the COMMIT it cannot be known, and nothing is sent again."""
    wire = proxy(postgresql_url)
    url = f"{wire.url}?connect_timeout=1"
    with Runtime(profile(tmp_path, {"main": url}, name="cut")) as runtime:
        cut = cast(SqlDatabase, runtime.database("main"))

        def cutting() -> Iterator[tuple[int, str]]:
            for number in range(50_000):
                if number == 20_000:
                    wire.cut()
                yield number, "x" * 100

        with pytest.raises(Unavailable):
            cut.copy_in("events", ["id", "name"], cutting())
        assert count(db) == 0
        until(lambda: cut.health_check())
        wire.cut_after(b"COMMIT", forward=True)
        with pytest.raises(OutcomeUnknown):
            cut.copy_in("events", ["id", "name"], [(1, "once")])
        until(lambda: count(db) == 1)
        until(lambda: cut.health_check())

        def read_and_cut() -> None:
            with cut.copy_out("select repeat('x', 9999) from generate_series(1, 9999)") as pieces:
                for _ in pieces:
                    wire.cut()

        with pytest.raises(Unavailable):
            read_and_cut()
        until(lambda: cut.health_check())

        def stalling() -> Iterator[tuple[int, str]]:
            for number in range(100, 1_000_000):
                if number == 1000:
                    wire.stall()
                yield number, "x" * 1000

        with pytest.raises(DeadlineExceeded, match=r"COPY took longer than 0\.5 s"):
            cut.copy_in("events", ["id", "name"], stalling(), idle=0.5)
        wire.stall()  # also where a busy machine was idle for so long before
        with pytest.raises(Unavailable):
            cut.copy_in("events", ["id", "name"], [(2, "x")], idle=0.5)
        wire.resume()
        until(lambda: db.scalar("select count(*) from pg_stat_activity where query like 'COPY%'") == 0)
    assert count(db) == 1


def test_a_server_that_is_killed_keeps_nothing_of_it(throwaway: Throwaway, tmp_path: Path) -> None:
    server = throwaway("postgresql")
    with Runtime(profile(tmp_path, {"main": server.url})) as runtime:
        db = cast(SqlDatabase, runtime.database("main"))
        db.execute(TABLE)

        def load(worker: int) -> int:
            def rows() -> Iterator[tuple[int, str]]:
                for number in range(200_000):
                    if worker == 0 and number == 10_000:
                        server.kill()
                    yield worker * 1_000_000 + number, "x" * 50

            with pytest.raises((Unavailable, OutcomeUnknown)):
                db.copy_in("events", ["id", "name"], rows())
            return 1

        with ThreadPoolExecutor(3) as threads:
            assert sum(threads.map(load, range(3))) == 3
        server.start()
        until(lambda: db.health_check())
        assert count(db) == 0


def test_the_same_for_tasks(db: SqlDatabase, postgresql_url: str, tmp_path: Path) -> None:
    profile(tmp_path, {"main": postgresql_url}, name="aio")

    async def rows() -> AsyncIterator[tuple[int, str]]:
        for number in range(3000):
            await asyncio.sleep(0)
            yield number, "x"

    async def work() -> None:
        async with AsyncKatax("aio") as katax:
            base = katax.database("main", type="postgresql")
            assert await base.copy_in("events", ["id", "name"], rows()) == 3000
            async with base.transaction() as transaction:
                assert await transaction.copy_in("events", ["id", "name"], [(3000, "y")]) == 1
            async with base.copy_out("select id from events order by id") as pieces:
                data = b"".join([piece async for piece in pieces])
                assert (len(data.splitlines()), pieces.rows) == (3001, 3001)
            with pytest.raises(UniqueViolation):
                await base.copy_in("events", ["id", "name"], rows())
            reached = asyncio.Event()

            async def endless() -> AsyncIterator[tuple[int, str]]:
                yield 5000, "x"
                reached.set()
                await asyncio.Event().wait()

            task = asyncio.create_task(base.copy_in("events", ["id", "name"], endless()))
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await base.query("select count(*) as n from events") == [{"n": 3001}]

    asyncio.run(work())
