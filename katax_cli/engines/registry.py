"""The module of each kind of server: a literal table. Listing imports nothing."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from os import register_at_fork
from threading import RLock
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from katax_cli.core.settings import ConnectionSettings
from katax_cli.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from katax_cli.engines.base import Engine

ENGINES: dict[str, str] = {
    "postgresql": "katax_cli.engines.postgresql",
    "mysql": "katax_cli.engines.mysql",
    "sqlite": "katax_cli.engines.sqlite",
    "mongodb": "katax_cli.engines.mongodb",
    "redis": "katax_cli.engines.redis",
}


AWAITED: dict[str, str] = {
    "postgresql": "katax_cli.engines.awaited.postgresql",
    "mysql": "katax_cli.engines.awaited.threads",
    "sqlite": "katax_cli.engines.awaited.threads",
    "mongodb": "katax_cli.engines.awaited.threads",
    "redis": "katax_cli.engines.awaited.redis",
}
"""Those whose calls are made for tasks: of their own way to wait, or in threads where a driver can only block."""


def load(settings: ConnectionSettings, table: Mapping[str, str] = ENGINES) -> Engine:
    """Returns the engine for a connection; its module's `create(settings)` connects nowhere yet.

    Raises ConfigError when there is no engine of that type.
    """
    if settings.type not in ENGINES:
        raise ConfigError(unknown_name("engine", settings.type, list(ENGINES), "engines"))
    create = _imported(table[settings.type]).create
    if settings.ssh is not None:
        from katax_cli.engines.tunnel import through_tunnel

        return cast("Engine", through_tunnel(settings, create))
    return cast("Engine", create(settings))


def part(engine: Engine, name: str) -> Any:
    """An ability that stands in a module of its own beside the engine, made for it; imported now."""
    return _imported(f"{ENGINES[engine.name]}.{name}").create(engine)


def sql_part(engine: Engine, use: str) -> Any:
    """The SQL of an engine for one use, a value of `engines.sql`, from the engine's module `sql.USE`; imported now."""
    return _imported(f"{ENGINES[engine.name]}.sql.{use}").SQL


def _imported(name: str) -> ModuleType:
    """Imports in one thread at a time.

    Packages whose modules import each other in circles, as redis-py's do, fail when two threads begin at two of them:
    Python breaks the deadlock by handing out a module that is half done.
    """
    with _importing:
        return import_module(name)


def _renew_lock() -> None:
    global _importing
    _importing = RLock()


_importing = RLock()
register_at_fork(after_in_child=_renew_lock)
