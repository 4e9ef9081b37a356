"""The pytest plugin: databases of a test's own, and a wire that breaks on demand.

Loaded by the entry point `pytest11` in every run of pytest beside katax; all but this file is imported by the fixtures.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, cast

import pytest

if TYPE_CHECKING:
    from katax_cli.core.engine_names import Dialect
    from katax_cli.integrations.pytest.targets import MakeFaultProxy
    from katax_cli.testing import TestDatabase, TestRedis


def pytest_addoption(parser: pytest.Parser) -> None:
    """The keys of pytest's configuration file that the fixtures read."""
    parser.addini("katax_engine", "engine of katax_database: sqlite, postgresql or mysql", default="sqlite")
    parser.addini("katax_migrations", "folder of migrations that katax_database has applied", default="")
    parser.addini("katax_seeds", "folder of seeds that katax_database has run", default="")


@pytest.fixture(scope="session")
def katax_engine(request: pytest.FixtureRequest) -> Dialect:
    """The engine of `katax_database`: `katax_engine` of pytest's configuration; override it for a folder or module."""
    return cast("Dialect", request.config.getini("katax_engine"))


@pytest.fixture
def katax_database(katax_engine: Dialect, request: pytest.FixtureRequest) -> Iterator[TestDatabase]:
    """An empty database for this test alone, migrated and seeded as pytest's configuration says.

    A file for SQLite, else a database of a random name on the server of KATAX_TEST_POSTGRESQL_URL or
    KATAX_TEST_MYSQL_URL, dropped after the test.
    """
    from katax_cli.core.engine_names import SQL_ENGINES
    from katax_cli.errors import unknown_name
    from katax_cli.testing import TestDatabase

    if katax_engine not in SQL_ENGINES:
        raise pytest.UsageError(unknown_name("katax_engine", katax_engine, SQL_ENGINES, "engines"))
    with TestDatabase.create(katax_engine) as database:
        if migrations := _folder(request.config, "katax_migrations"):
            database.migrate(migrations)
        if seeds := _folder(request.config, "katax_seeds"):
            database.seed(directory=seeds)
        yield database


@pytest.fixture
def katax_redis() -> Iterator[TestRedis]:
    """A Redis server for this test alone, started when it is first used and gone afterwards, data included."""
    from katax_cli.testing import TestRedis

    with TestRedis() as redis:
        yield redis


@pytest.fixture
def katax_fault_proxy() -> Iterator[MakeFaultProxy]:
    """`katax_fault_proxy(target)`: a FaultProxy before a URL, a database of katax or `(host, port)`.

    Its `url` leads to the same database by way of it; `cut()`, `stall()`, `freeze()`, `slow(0.2)`, `refuse()` break
    the wire, `resume()` and `come_back()` mend it. All end with the test.
    """
    from katax_cli.integrations.pytest.targets import proxy_before

    with ExitStack() as proxies:
        yield lambda target: proxies.enter_context(closing(proxy_before(target)))


def _folder(config: pytest.Config, key: str) -> str:
    """A folder of the configuration, beside the file that names it."""
    value = str(config.getini(key))
    return str(config.rootpath / value) if value else ""
