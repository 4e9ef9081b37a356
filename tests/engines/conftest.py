"""Sessions that tests open on engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from katax_cli.engines.mysql import engine
from katax_cli.engines.postgresql import wire
from tests.waiting import SECONDS


@pytest.fixture(autouse=True)
def killed_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the other connection may take to end a statement: else the first one is given up."""
    monkeypatch.setattr(engine, "_KILL_TIMEOUT", SECONDS)
    monkeypatch.setattr(wire, "_CANCEL_SECONDS", SECONDS)


@pytest.fixture
def connect() -> Iterator[Callable[[Any], Any]]:
    """`connect(engine)` is a session of it, closed after the test."""
    with ExitStack() as opened:

        def open_one(engine: Any) -> Any:
            session = engine.connect(60.0)
            opened.callback(engine.close, session)
            return session

        yield open_one
