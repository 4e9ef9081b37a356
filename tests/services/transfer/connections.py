"""Databases of tests, opened by URL and closed at the end of the block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from katax_cli.services.databases.sql import SqlDatabase
from tests.services.connections import open_database


@contextmanager
def open_sql(url: str, **changes: Any) -> Iterator[SqlDatabase]:
    with open_database(url, **{"connect_timeout": 60.0, **changes}) as database:
        yield database
