"""A connection that a program describes itself, with the keys that a profile would use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from katax_cli.core.resilience.retry import RetryPolicy
from katax_cli.core.settings import ConnectionSettings, PoolSettings
from katax_cli.errors import ConfigError
from katax_cli.profiles.model.breakers import breaker_of
from katax_cli.profiles.model.connections import ConnectionContext, Flaw, build_connection
from katax_cli.profiles.model.keys import CONNECTION, Key
from katax_cli.profiles.model.layer import dotted
from katax_cli.profiles.model.problems import Problems
from katax_cli.profiles.model.validate import read_table, read_value

_KEYS: Mapping[str, Key] = CONNECTION
_CALLABLES = ("configure", "reset")
PoolSource = PoolSettings | Mapping[str, Any]


def connection_of(
    name: str, connection: str | Mapping[str, Any], context: ConnectionContext, *, type: str | None = None
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
    path = ("connections", name)
    pool = given.pop("pool", None)
    problems = Problems(())
    table = read_table(given, _KEYS, path, problems)
    if problems.errors:
        raise problems.first()
    policies = {
        "breaker": _policy(path, table, "breaker", breaker_of),
        "retry": _policy(path, table, "retry", RetryPolicy),
    }
    try:
        made = build_connection(name, table, context)
    except Flaw as flaw:
        raise ConfigError(f"{dotted((*path, flaw.key) if flaw.key else path)} {flaw}") from None
    replicas = tuple(replace(replica, **policies) for replica in made.replicas)
    made = replace(made, **policies, replicas=replicas)
    return made if pool is None else replace(made, pool=_pool_at((*path, "pool"), pool))


def _policy(path: tuple[str, ...], table: Mapping[str, Any], key: str, make: Callable[..., Any]) -> Any:
    try:
        return make(**table[key]) if key in table else None
    except ValueError as error:
        raise ConfigError(f"{dotted((*path, key))}: {error}") from None


def pool_of(pool: PoolSource) -> PoolSettings:
    """Pool settings from the keys of a profile, and the callables `configure` and `reset`. Raises ConfigError."""
    return _pool_at(("pool",), pool)


def _pool_at(path: tuple[str, ...], pool: Any) -> PoolSettings:
    if isinstance(pool, PoolSettings):
        return pool
    problems = Problems(())
    given = dict(pool) if isinstance(pool, Mapping) else pool
    callables = {name: given.pop(name, None) for name in _CALLABLES} if isinstance(given, dict) else {}
    table = read_value(given, _KEYS["pool"], path, problems)
    if problems.errors:
        raise problems.first()
    for name, call in callables.items():
        if not (call is None or callable(call)):
            raise ConfigError(f"{dotted((*path, name))} is a {type(call).__name__}, expected a callable")
    try:
        return PoolSettings(**table, **callables)
    except ValueError as error:
        raise ConfigError(f"{dotted(path)[: -len('pool')]}{error}") from None


def _spelled(connection: Mapping[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in connection.items() if value is not None}
    if "db" in given:
        given.setdefault("database", given.pop("db"))
    if isinstance(given.get("database"), int):
        given["database"] = str(given["database"])
    if isinstance(given.get("tls"), bool):
        given["tls"] = {"mode": "verify-full" if given["tls"] else "disable"}
    return given
