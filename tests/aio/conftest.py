"""Containers for tasks, and the tests of threads that run once more for a task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from inspect import iscoroutinefunction
from pathlib import Path

import pytest

from katax_cli.aio import AsyncKatax
from katax_cli.aio.runtime import AwaitedRuntime
from katax_cli.engines.awaited import calls as awaiting
from katax_cli.engines.awaited import postgresql, threads
from katax_cli.profiles.load import load_profile
from katax_cli.services.runtime.runtime import Runtime
from tests.services.runtimes import Connection, OpenRuntime, patient, write_profile
from tests.waiting import SECONDS


@pytest.fixture(autouse=True)
def cancelled_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """An order to end a statement reaches the server however busy the machine is; nobody waits for it so long."""
    for module in (postgresql, threads):
        monkeypatch.setattr(module, "_CANCEL_SECONDS", SECONDS)


MakeKatax = Callable[..., AsyncKatax]
"""`make_katax(main=url, cache={"url": url})`: a container of these connections, which wait for a busy server."""


@pytest.fixture
def make_katax(tmp_path: Path) -> MakeKatax:
    def make(extra: str = "", /, **connections: Connection) -> AsyncKatax:
        write_profile(tmp_path, extra, **{name: patient(each) for name, each in connections.items()})
        return AsyncKatax(load_profile("test", cwd=str(tmp_path)))

    return make


@pytest.fixture
def open_runtime(tmp_path: Path) -> Iterator[OpenRuntime]:
    """As that of `tests/services`, with databases whose calls are made for tasks."""
    with ExitStack() as opened:

        def make(extra: str = "", /, *, one_shot: bool = False, **connections: Connection) -> Runtime:
            write_profile(tmp_path, extra, **connections)
            profile = load_profile("test", cwd=str(tmp_path))
            return opened.enter_context(AwaitedRuntime(profile, one_shot=one_shot))

        yield make


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Coroutine functions run on an event loop; a test of `test_promises.py`, as a call that is made for a task."""
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    if iscoroutinefunction(pyfuncitem.obj):
        asyncio.run(pyfuncitem.obj(**arguments))
        return True
    if pyfuncitem.module.__name__ == "tests.aio.test_promises":
        asyncio.run(awaiting.call(pyfuncitem.obj, **arguments))
        return True
    return None
