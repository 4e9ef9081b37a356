"""A folder of migrations and a database of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from katax_cli.core.resilience.retry import ONCE
from katax_cli.engines.base import SqlEngine
from katax_cli.engines.registry import load
from katax_cli.services.calls.guard import Guard
from katax_cli.services.databases.database import classify_with
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.migrate.migrator import Migrator
from tests.engines.connections import settings_for
from tests.servers.fixtures import Target

MakeMigrator = Callable[..., Migrator]
Write = Callable[..., Path]


def open_database(url: str, **changes: Any) -> SqlDatabase:
    engine = cast(SqlEngine, load(settings_for(url, **changes)))
    return SqlDatabase(engine, Guard("main", classify_with(engine), retry=ONCE, breaker=None))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "migrations"
    path.mkdir()
    return path


@pytest.fixture
def write(folder: Path) -> Write:
    """`write("001_a.sql", "CREATE TABLE a (id int)", "DROP TABLE a")`."""

    def make(name: str, up: str = "", down: str | None = None, *, raw: bytes | None = None) -> Path:
        path = folder / name
        text = f"-- UP\n{up};\n" + ("" if down is None else f"-- DOWN\n{down};\n")
        path.write_bytes(text.encode() if raw is None else raw)
        return path

    return make


@pytest.fixture
def open_url() -> Iterator[Callable[..., SqlDatabase]]:
    opened: list[SqlDatabase] = []

    def make(url: str, **changes: Any) -> SqlDatabase:
        opened.append(open_database(url, **changes))
        return opened[-1]

    yield make
    for database in opened:
        database.close()


@pytest.fixture
def database(sql_engine: Target, open_url: Callable[..., SqlDatabase]) -> SqlDatabase:
    """On each SQL engine."""
    return open_url(sql_engine.url)


@pytest.fixture
def migrator(database: SqlDatabase, folder: Path) -> Migrator:
    return Migrator(database, str(folder))
