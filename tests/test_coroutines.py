"""Coroutine functions are refused wherever a function is taken: called without await they would never run."""

from __future__ import annotations

import asyncio
import functools
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from katax_cli import (
    CircuitBreaker,
    HealthMonitor,
    Katax,
    Lock,
    Migrator,
    PubSub,
    RecordStore,
    Seeder,
    TestDatabase,
    create_retry_wrapper,
    create_shutdown_controller,
    graceful_shutdown,
    with_retry,
)
from katax_cli.core.callables import completed, is_async, plain
from katax_cli.errors import MigrationError, SeedError
from katax_cli.integrations.starlette import RateLimit
from katax_cli.services.calls import event_loop
from tests.services.redis_database import opened


async def work(*_: object) -> None:
    """Would change something, if it ever ran."""


@pytest.fixture
def katax(tmp_path: Path) -> Iterator[Katax]:
    with Katax("local") as made:
        yield made


def refused(call: Callable[[], object], taken_by: str) -> None:
    with pytest.raises(TypeError) as error:
        call()
    assert str(error.value) == (
        f"'work' is a coroutine function, which {taken_by} never runs; give it a plain function"
    )


def test_what_counts_as_a_coroutine_function() -> None:
    class Service:
        async def __call__(self) -> None: ...

        async def method(self) -> None: ...

        def plain(self) -> None: ...

    async def generator() -> Any:
        yield 1

    for taken in (work, functools.partial(work, 1), Service(), Service().method, generator):
        assert is_async(taken)
        with pytest.raises(TypeError):
            plain(taken, "x")
    for given in (print, Service().plain, Service, functools.partial(print), lambda: work()):
        assert plain(given, "x") is given
    assert completed(7, print, "x") == 7
    refused(lambda: completed(work(), work, "x"), "x")


def test_every_function_of_the_container_and_the_core(katax: Katax) -> None:
    database = katax.database("main")
    refused(lambda: database.transaction(work), "transaction()")
    refused(lambda: database.on("query", work), "on('query')")
    refused(lambda: katax.on_shutdown(work), "on_shutdown()")
    refused(lambda: katax.cron(name="j", schedule="@yearly", task=work), "job 'j'")
    refused(
        lambda: katax.cron(name="j", schedule="@yearly", task=print, enabled=work),  # type: ignore[arg-type]
        "'enabled' of job 'j'",
    )
    refused(lambda: graceful_shutdown([], on_shutdown=work), "on_shutdown")
    refused(lambda: create_shutdown_controller([], on_shutdown=work), "on_shutdown")
    refused(lambda: HealthMonitor(database).start(work), "on_check")
    refused(lambda: CircuitBreaker().execute(work), "execute()")
    refused(lambda: CircuitBreaker()(work), "a breaker")
    refused(lambda: with_retry(work), "retry")
    refused(lambda: create_retry_wrapper(work), "retry")
    refused(lambda: with_retry(print, should_retry=work), "should_retry")  # type: ignore[arg-type]
    refused(lambda: with_retry(print, on_retry=work), "on_retry")
    refused(lambda: with_retry(print, retry_on_result=work), "retry_on_result")  # type: ignore[arg-type]
    refused(lambda: with_retry(print, delay=work), "delay")  # type: ignore[arg-type]
    refused(lambda: CircuitBreaker(ignore=work), "ignore")  # type: ignore[arg-type]
    refused(lambda: CircuitBreaker(on_state_change=work), "on_state_change()")  # type: ignore[arg-type]
    refused(lambda: CircuitBreaker(on_call_not_permitted=work), "on_call_not_permitted()")  # type: ignore[arg-type]
    refused(lambda: katax.socket(port=0, may_join=work), "may_join")  # type: ignore[arg-type]
    refused(lambda: RateLimit("x", key=work), "key")  # type: ignore[arg-type]
    assert katax.cron_jobs() == []


def test_every_function_of_the_services_on_redis(redis_url: str) -> None:
    with opened(redis_url) as redis, closing(PubSub(redis)) as pubsub:
        store = RecordStore("user", redis)
        refused(lambda: pubsub.subscribe("c", work), "subscribe()")
        refused(lambda: pubsub.psubscribe("c*", work), "psubscribe()")
        refused(lambda: store.subscribe(work), "subscribe()")
        refused(lambda: PubSub(redis, on_gap=work), "on_gap()")
        refused(lambda: store.watch(print, on_end=work), "on_end")
        refused(lambda: Lock(redis, "job").on_lost(work), "on_lost()")


def test_a_lambda_around_a_coroutine_is_found_out_when_it_returns_one(katax: Katax) -> None:
    database = katax.database("main")
    database.execute("create table t (a integer)")

    def insert(transaction: Any) -> Any:
        transaction.execute("insert into t values (1)")
        return work()

    for call in (
        lambda: database.transaction(insert),
        lambda: with_retry(lambda: work()),
        lambda: CircuitBreaker().execute(lambda: work()),
    ):
        with pytest.raises(TypeError, match="coroutine function"):
            call()
    assert database.query("select count(*) as n from t") == [{"n": 0}]


@pytest.mark.parametrize(
    "body", ["async def up(db): db.execute('x')", "def up(db):\n    async def f(): ...\n    return f()"]
)
def test_a_migration_that_would_not_run_is_not_recorded(body: str, tmp_path: Path) -> None:
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "001_a.py").write_text(f"{body}\n")
    with TestDatabase.create() as made:
        migrator = Migrator(made, directory=str(tmp_path / "migrations"))
        with pytest.raises(MigrationError, match="coroutine function"):
            migrator.up()
        assert [row.state for row in migrator.status()] == ["pending"]


@pytest.mark.parametrize(
    "body", ["async def seed(db): ...", "def seed(db):\n    async def f(): ...\n    return f()"]
)
def test_a_seed_that_would_not_run_is_not_recorded(body: str, tmp_path: Path) -> None:
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "a.py").write_text(f"{body}\n")
    with TestDatabase.create() as made:
        seeder = Seeder(made, directory=str(tmp_path / "seeds"))
        for _ in range(2):
            with pytest.raises(SeedError, match="coroutine function"):
                seeder.run()


def test_a_python_job_that_would_not_run_fails(tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text("async def clean(): ...\n")
    script = "from katax_cli.services.cron.run.call import main; main('jobs:clean')"

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False
    )

    assert done.returncode == 1
    assert "'clean' is a coroutine function, which cron never runs" in done.stderr


def test_a_call_on_the_thread_of_an_event_loop_warns_once(
    katax: Katax, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_loop, "_warned", False)
    database = katax.database("main")

    async def blocking() -> None:
        database.query("select 1")
        database.query("select 1")

    async def in_a_thread() -> None:
        await asyncio.to_thread(database.query, "select 1")

    def warnings() -> list[str]:
        told = [record.getMessage() for record in caplog.records]
        return [text for text in told if "event loop" in text]

    with caplog.at_level(logging.WARNING, "katax"):
        asyncio.run(in_a_thread())
        assert warnings() == []
        asyncio.run(blocking())

    assert warnings() == [
        "a call to 'main' blocks the running event loop, and with it every other task; "
        "make it in a thread, such as by asyncio.to_thread"
    ]


def test_a_call_is_made_while_another_thread_imports_asyncio(
    katax: Katax, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The module is in the table already, and empty."""
    monkeypatch.setitem(sys.modules, "asyncio", ModuleType("asyncio"))
    assert katax.database("main").query("select 1 as n") == [{"n": 1}]
