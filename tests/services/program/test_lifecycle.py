"""The beginning of a container, and waiting until its servers answer."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from pathlib import Path
from typing import Any

import pytest

from katax_cli import ConfigError, Katax, Unavailable, UnknownConnection
from katax_cli.services.redis import embedded
from tests.servers.fixtures import Throwaway
from tests.waiting import connecting


def container(**connections: str) -> Katax:
    """A program on these servers, which are well as long as they answer."""
    made = {name: {"url": url, "connect_timeout": connecting(url)} for name, url in connections.items()}
    slow = {"degraded_ms": 60000, "unhealthy_ms": 60000}
    return Katax(config={"role": "dev", "connections": made, "health": slow})


def test_hooks_run_once_and_in_their_order(sqlite_url: str) -> None:
    katax, told = container(main=sqlite_url), list[str]()
    katax.on_start(lambda: told.append("first"))

    @katax.on_start
    def second() -> None:
        told.append("second")

    katax.on_ready(lambda: told.append("ready"))
    with katax:
        assert told == ["first", "second"]
        assert (katax.info().started, katax.info().ready) == (True, False)
        with pytest.raises(UnknownConnection):
            katax.wait("mian")
        assert katax.wait("main", timeout=60).healthy
        katax.wait(timeout=60)
        katax.start()
        assert told == ["first", "second", "ready"]
        assert katax.info().ready
        for late, name in ((katax.on_start, "on_start"), (katax.on_ready, "on_ready")):
            with pytest.raises(ConfigError) as error:
                late(second)
            assert (
                str(error.value)
                == f"{name}() comes too late for this hook: its phase has begun; add it before"
            )


def test_all_callers_hear_of_a_hook_that_fails(sqlite_url: str) -> None:
    katax = container(main=sqlite_url)
    going, began = threading.Event(), threading.Event()

    @katax.on_start
    def fails() -> None:
        began.set()
        going.wait(60)
        raise ValueError("no licence")

    heard: list[object] = []

    def start() -> None:
        try:
            katax.start()
        except ValueError as error:
            heard.append(str(error))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert began.wait(60)
    going.set()
    for thread in threads:
        thread.join(60)
    assert heard == ["no licence"] * 4

    other = container(main=sqlite_url)
    database = other.database("main")
    other.on_start(lambda: database.ping() or 1 / 0)
    with pytest.raises(ZeroDivisionError), other:
        raise AssertionError("the block was entered")
    assert database.closed


async def _coroutine() -> None: ...


def test_what_a_hook_has_begun_hears_of_one_that_fails_after_it(sqlite_url: str) -> None:
    """Its task, or a thread with its context, is a part of the hook only until the phase is over."""
    katax, contexts = container(main=sqlite_url), list[Context]()

    @katax.on_start
    def begins() -> None:
        katax.start()
        contexts.append(copy_context())

    @katax.on_start
    def fails() -> None:
        raise ValueError("no licence")

    with pytest.raises(ValueError, match="no licence"):
        katax.start()
    with pytest.raises(ValueError, match="no licence"):
        contexts[0].run(katax.start)
    katax.shutdown()


def test_a_coroutine_function_is_refused(sqlite_url: str) -> None:
    katax = container(main=sqlite_url)
    add: Callable[[Any], Any]
    for add in (katax.on_start, katax.on_ready):
        with pytest.raises(TypeError):
            add(_coroutine)
    katax.on_start(lambda: _coroutine())
    with pytest.raises(TypeError):
        katax.start()


def test_the_examples_of_its_guide(redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """docs/container.md, from its first line to its last."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    guide = Path(__file__).parents[3] / "docs" / "container.md"
    names: dict[str, object] = {}
    try:
        for block in re.findall(r"```python\n(.*?)```", guide.read_text(), re.DOTALL):
            exec(compile(block, str(guide), "exec"), names)
    finally:
        embedded.stop(tmp_path / ".katax")


def test_it_waits_for_a_server_that_comes_up(throwaway: Throwaway) -> None:
    server = throwaway("redis")
    server.kill()
    with container(cache=server.url) as katax:
        with pytest.raises(Unavailable) as error:
            katax.wait(timeout=0.1)
        assert str(error.value).startswith("'program' is not available: not ready after 0.1 s: cache: ")
        assert not katax.info().ready

        starting = threading.Thread(target=server.start)
        starting.start()
        assert katax.wait(timeout=60).healthy
        starting.join(60)
        assert katax.info().ready
