"""Databases of tests, opened by URL and closed at the end of the block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from katax_cli.core.resilience.retry import ONCE
from katax_cli.engines.registry import load
from katax_cli.services.calls.guard import Guard
from katax_cli.services.databases.database import classify_with
from katax_cli.services.databases.sql import SqlDatabase
from tests.engines.connections import settings_for


@contextmanager
def open_sql(url: str, **changes: Any) -> Iterator[SqlDatabase]:
    engine: Any = load(settings_for(url, **{"connect_timeout": 60.0, **changes}))
    with SqlDatabase(engine, Guard("main", classify_with(engine), retry=ONCE, breaker=None)) as database:
        yield database
