"""Databases for the tests of a program: real ones, made in a moment and gone afterwards."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar, cast

from katax_cli.core.engine_names import Dialect
from katax_cli.core.resilience.retry import ONCE
from katax_cli.core.settings import EMBEDDED_FOLDER, ConnectionSettings
from katax_cli.core.sql import quote_identifier
from katax_cli.core.text.duration import Duration
from katax_cli.engines import registry
from katax_cli.engines.base import Engine, KeyValueEngine, SqlEngine
from katax_cli.errors import ConfigError
from katax_cli.profiles.model.connections import ConnectionContext
from katax_cli.profiles.sources.adhoc import connection_of
from katax_cli.services.cache.cache import Cache
from katax_cli.services.calls.guard import Guard
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.databases.database import classify_with
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.tables import truncate

if TYPE_CHECKING:
    from katax_cli.services.migrate.values import Outcome
    from katax_cli.services.seeds.values import SeedOutcome

__all__ = ["TestDatabase", "TestRedis", "create_test_database"]

D = TypeVar("D", bound=SqlDatabase)
_START_SECONDS = 10.0


def create_test_database(engine: Dialect = "sqlite", *, url: str | None = None) -> TestDatabase:
    """An empty database of its own; see `TestDatabase.create`."""
    return TestDatabase.create(engine, url=url)


class TestDatabase(SqlDatabase):
    """A database that is gone once it is closed, or at the end of the process at the latest."""

    __test__ = False
    _remove: Callable[[], object]

    @classmethod
    def create(cls, engine: Dialect = "sqlite", *, url: str | None = None) -> Self:
        """A new empty database: a file for SQLite, else one of a random name on the server of `url`.

        `url` is by default the variable KATAX_TEST_POSTGRESQL_URL or KATAX_TEST_MYSQL_URL; its user must be
        allowed to create databases. Raises ConfigError without one.
        """
        settings, remove = _sqlite_file() if engine == "sqlite" else _on_server(engine, url)
        made = _open(cls, settings)
        made._remove = weakref.finalize(made, remove)
        return made

    def migrate(self, directory: str = "migrations") -> Sequence[Outcome]:
        """Applies all migrations of the folder."""
        from katax_cli.services.migrate.migrator import Migrator

        return list(Migrator(self, directory).up())

    def seed(self, name: str | None = None, *, directory: str = "seeds") -> Sequence[SeedOutcome]:
        """Runs one seed of the folder, or all in order."""
        from katax_cli.services.seeds.seeder import Seeder

        return list(Seeder(self, directory).run(name))

    def truncate(self, tables: Sequence[str] | None = None) -> list[str]:
        """Empties tables and those that refer to them, by default all but the ledgers; returns their names."""
        doomed = truncate.plan(self, tables or (), cascade=tables is not None)
        truncate.truncate(self, doomed)
        return [table.name for table in doomed]

    def close(self, *, timeout: Duration = 0.0) -> tuple[str, ...]:
        """Closes the connections and removes the database."""
        left = super().close(timeout=timeout)
        self._remove()
        return left

    def cleanup(self) -> None:
        """The same as `close`."""
        self.close()


class TestRedis(RedisDatabase):
    """A Redis server of the test's own, started when it is first used; it and its data end with `close`.

    Raises EmbeddedUnavailable at first use when there is no redis-server to be found.
    """

    __test__ = False

    def __init__(self, *, prefix: str = "") -> None:
        folder = _new_folder()
        settings = ConnectionSettings(
            "test",
            "redis",
            embedded=True,
            path=str(folder / EMBEDDED_FOLDER),
            connect_timeout=_START_SECONDS,
            prefix=prefix,
        )
        engine = cast("KeyValueEngine", registry.load(settings))
        super().__init__(engine, _guard(engine))
        self._remove = weakref.finalize(self, _stop_redis, folder)

    @property
    def cache(self) -> Cache:
        """Values as JSON on this server."""
        return Cache(self)

    def close(self, *, timeout: Duration = 0.0) -> tuple[str, ...]:
        left = super().close(timeout=timeout)
        self._remove()
        return left

    def cleanup(self) -> None:
        """The same as `close`."""
        self.close()


def _sqlite_file() -> tuple[ConnectionSettings, Callable[[], object]]:
    folder = _new_folder()
    settings = ConnectionSettings("test", "sqlite", path=str(folder / "test.db"))
    return settings, lambda: shutil.rmtree(folder, ignore_errors=True)


def _on_server(engine: Dialect, url: str | None) -> tuple[ConnectionSettings, Callable[[], object]]:
    variable = f"KATAX_TEST_{engine.upper()}_URL"
    url = url or os.environ.get(variable)
    if not url:
        raise ConfigError(f"a test database on {engine} needs a server; give its url or set {variable}")
    server = connection_of("test", url, ConnectionContext(os.getcwd(), environ=os.environ), type=engine)
    name = f"katax_test_{secrets.token_hex(6)}"
    _run(server, f"CREATE DATABASE {quote_identifier(name, engine)}")
    force = " WITH (FORCE)" if engine == "postgresql" else ""
    drop = f"DROP DATABASE IF EXISTS {quote_identifier(name, engine)}{force}"
    return replace(server, database=name), lambda: _run(server, drop)


def _run(server: ConnectionSettings, sql: str) -> None:
    with _open(SqlDatabase, server) as database:
        database.execute(sql)


def _open(kind: type[D], settings: ConnectionSettings) -> D:
    engine = cast("SqlEngine", registry.load(settings))
    return kind(engine, _guard(engine))


def _guard(engine: Engine) -> Guard:
    """One attempt and no breaker: a test wants to see the first error."""
    return Guard(engine.settings.name, classify_with(engine), retry=ONCE, breaker=None)


def _new_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="katax-test-"))


def _stop_redis(folder: Path) -> None:
    from katax_cli.services.redis import embedded as local  # brings its driver

    local.stop(folder)
    shutil.rmtree(folder, ignore_errors=True)
