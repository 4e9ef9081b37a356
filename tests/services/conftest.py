"""Services as a program gets them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from katax_cli.profiles.load import load_profile
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.runtime.runtime import Runtime
from tests.fake_clock import FakeClock
from tests.services.connections import open_database
from tests.services.redis_database import opened
from tests.services.runtimes import Connection, OpenRuntime, write_profile


@pytest.fixture
def open_runtime(tmp_path: Path) -> Iterator[OpenRuntime]:
    with ExitStack() as opened:

        def make(extra: str = "", /, *, one_shot: bool = False, **connections: Connection) -> Runtime:
            write_profile(tmp_path, extra, **connections)
            return opened.enter_context(Runtime(load_profile("test", cwd=str(tmp_path)), one_shot=one_shot))

        yield make


@pytest.fixture
def open_url() -> Iterator[Callable[..., Any]]:
    """`open_url(url, **settings)` as `open_database`, closed after the test."""
    with ExitStack() as opened:

        def make(url: str, **changes: Any) -> Any:
            return opened.enter_context(open_database(url, **changes))

        yield make


@pytest.fixture
def redis(redis_url: str) -> Iterator[RedisDatabase]:
    """Of a connection whose keys begin with `app:`."""
    with opened(redis_url, prefix="app:") as database:
        yield database


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()
