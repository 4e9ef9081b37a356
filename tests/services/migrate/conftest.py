"""A folder of migrations and a database of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.migrate.migrator import Migrator
from tests.servers.fixtures import Target

MakeMigrator = Callable[..., Migrator]
Write = Callable[..., Path]


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
def database(sql_engine: Target, open_url: Callable[..., SqlDatabase]) -> SqlDatabase:
    """On each SQL engine."""
    return open_url(sql_engine.url)


@pytest.fixture
def migrator(database: SqlDatabase, folder: Path) -> Migrator:
    return Migrator(database, str(folder))
