"""A profile as people may see it: every key, its value without secrets, and where it came from."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from katax_cli.profiles.load import merge
from katax_cli.profiles.model.keys import PROFILE, Key
from katax_cli.profiles.model.layer import Path, dotted
from katax_cli.profiles.model.model import Profile
from katax_cli.profiles.model.problems import origin_of
from katax_cli.profiles.model.urls import mask_url
from katax_cli.profiles.sources.environment import Environment, variables

_HIDDEN = "***"
_DEFAULTED = (
    "retry",
    "breaker",
    "health",
    "logging",
    "shutdown",
    "migrate",
    "seed",
    "backup",
    "journal",
    "cron",
)
_DEFAULTED_OF_CONNECTION = ("connect_timeout", "statement_timeout", "read_only", "pool")


class KeyOrigin(NamedTuple):
    """One line of `profile show --origin`; `origin` is `FILE:LINE`, `built in` or `default`."""

    key: str
    value: object
    origin: str


def origins(profile: Profile, *, environ: Mapping[str, str] | None = None) -> list[KeyOrigin]:
    """The written values, then the defaults. Secrets are `***`; a variable is shown by its name."""
    environment = Environment(os.environ if environ is None else environ, profile.folder, [])
    merged = merge(profile.layers)
    written = [
        _written(profile, path, key, value, environment) for path, key, value in _leaves(merged, PROFILE)
    ]
    known = {row.key for row in written}
    defaults = (KeyOrigin(dotted(path), value, "default") for path, value in _defaults(profile))
    return written + [row for row in defaults if row.key not in known]


def _leaves(
    table: Mapping[str, Any], keys: Mapping[str, Key], path: Path = ()
) -> Iterator[tuple[Path, Key, Any]]:
    for name, value in table.items():
        key = keys[name]
        if key.kind == "table":
            yield from _leaves(value, key.keys or {}, (*path, name))
        elif key.kind == "tables":
            for each, inner in value.items():
                yield from _leaves(inner, key.keys or {}, (*path, name, each))
        else:
            yield (*path, name), key, value


def _written(profile: Profile, path: Path, key: Key, value: Any, environment: Environment) -> KeyOrigin:
    layer = origin_of(profile.layers, path)
    place = f"{layer.file}:{layer.line(path)}" if layer and layer.file else "built in"
    names = [name for text in _texts(value) for name in variables(text)] if path[-1] != "enabled" else []
    used = ", ".join(f"{name} from {environment.origin(name)}" for name in dict.fromkeys(names))
    return KeyOrigin(dotted(path), masked(path[-1], key, value), f"{place} ({used})" if used else place)


def _texts(value: Any) -> list[str]:
    return (
        [value]
        if isinstance(value, str)
        else [each for each in value if isinstance(each, str)]
        if isinstance(value, list)
        else []
    )


def masked(name: str, key: Key, value: Any) -> object:
    """A written value without its secrets."""
    if name in ("url", "direct_url", "ping_url"):
        return mask_url(value)
    if name == "replicas":
        return [mask_url(url) for url in value]
    if key.kind != "secret" or is_reference(value):
        return value
    return _HIDDEN


def is_reference(text: str) -> bool:
    """True if the text says where the secret is and holds none of it."""
    whole = text.startswith("${env:") and text.endswith("}") and text.count("}") == 1
    return whole or text.startswith(("env:", "file:", "keyring:"))


def _defaults(profile: Profile) -> Iterator[tuple[Path, object]]:
    for name, connection in profile.connections.items():
        for key in _DEFAULTED_OF_CONNECTION:
            yield from _fields(("connections", name, key), getattr(connection, key))
    for table in _DEFAULTED:
        yield from _fields((table,), getattr(profile, table))
    if profile.state.name is None:
        yield ("state", "url"), f"sqlite:{profile.state.connection.path}"
    for name, server in profile.ws.items():
        for key in ("port", "host", "path"):
            yield ("ws", name, key), getattr(server, key)


def _fields(path: Path, value: Any) -> Iterator[tuple[Path, object]]:
    names = [field.name for field in dataclasses.fields(value)] if dataclasses.is_dataclass(value) else ()
    for name in getattr(value, "_fields", names):
        each = getattr(value, name)
        if each is not None and not isinstance(each, Mapping):
            yield (*path, name), each
    if not dataclasses.is_dataclass(value) and not hasattr(value, "_fields"):
        yield path, value
