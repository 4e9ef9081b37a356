"""A connection that a program describes itself, with the keys that a profile would use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from katax_cli.core.settings import ConnectionSettings, PoolSettings
from katax_cli.errors import ConfigError
from katax_cli.profiles.connections import Around, Flaw, build_connection
from katax_cli.profiles.document import dotted
from katax_cli.profiles.keys import CONNECTION, POOL, Key
from katax_cli.profiles.problems import Problems
from katax_cli.profiles.validate import read_table

# A policy belongs to a profile: the program has `with_retry` and `CircuitBreaker`.
_KEYS: Mapping[str, Key] = {name: key for name, key in CONNECTION.items() if name not in ("retry", "breaker")}
_HOOKS = ("configure", "reset")
Pool = PoolSettings | Mapping[str, Any]


def connection_of(
    name: str, connection: str | Mapping[str, Any], around: Around, *, type: str | None = None
) -> ConnectionSettings:
    """Settings from a URL or from a profile's keys (`db` for `database`, `tls` also as a boolean).

    Raises ConfigError, which quotes no value.
    """
    given = {"url": connection} if isinstance(connection, str) else _spelled(connection)
    if type is not None:
        given.setdefault("type", type)
        if given["type"] != type:
            raise ConfigError(
                f"connection {name!r} is said to be of type {type} and {given['type']}; keep one"
            )
    pool = given.pop("pool", None)
    path = ("connections", name)
    problems = Problems(())
    table = read_table(given, _KEYS, path, problems)
    if problems.errors:
        raise problems.first()
    try:
        made = build_connection(name, table, around)
    except Flaw as flaw:
        raise ConfigError(f"{dotted((*path, flaw.key) if flaw.key else path)} {flaw}") from None
    return made if pool is None else replace(made, pool=pool_of(pool))


def pool_of(pool: Pool) -> PoolSettings:
    """Pool settings from `min`, `max`, `timeout`, `idle_timeout`, `max_lifetime`, and the callables `configure`
    and `reset`. Raises ConfigError.
    """
    if isinstance(pool, PoolSettings):
        return pool
    problems = Problems(())
    hooks = {name: pool[name] for name in _HOOKS if pool.get(name) is not None}
    table = read_table(
        {key: value for key, value in pool.items() if key not in _HOOKS}, POOL, ("pool",), problems
    )
    if problems.errors:
        raise problems.first()
    for name, hook in hooks.items():
        if not callable(hook):
            raise ConfigError(f"pool.{name} is a {type(hook).__name__}, expected a callable of one connection")
    try:
        return PoolSettings(**table, **hooks)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _spelled(connection: Mapping[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in connection.items() if value is not None}
    if "db" in given:
        given.setdefault("database", given.pop("db"))
    if isinstance(given.get("database"), int):
        given["database"] = str(given["database"])
    if isinstance(given.get("tls"), bool):
        given["tls"] = {"mode": "verify-full" if given["tls"] else "disable"}
    return given
