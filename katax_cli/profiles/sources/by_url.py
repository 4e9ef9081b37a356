"""A connection that a command is given as a URL, or as `env:NAME`: the variable that holds one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from katax_cli.core.settings import DEFAULT_PORTS
from katax_cli.errors import ConfigError
from katax_cli.profiles.model.layer import Layer
from katax_cli.profiles.model.urls import SCHEMES, parse_url
from katax_cli.profiles.sources.builtin import env_role
from katax_cli.profiles.sources.find import Search

_VARIABLE = "env:"
# What else the project's katax.toml says may be about connections that are not there.
_SHARED = ("retry", "breaker", "health", "logging", "shutdown", "migrate", "seed", "backup", "journal")


def is_url(word: str) -> bool:
    """True for a URL, a mistyped one too (it may hold a password, so it is never quoted), and for `env:NAME`."""
    scheme, colon, _ = word.partition(":")
    known = scheme.lower().partition("+")[0] in SCHEMES or scheme == "env"
    return "://" in word or "@" in word or bool(colon and known)


def name_by_url(word: str) -> str:
    """The name of the connection: the variable, or server and database without user, password and parameters.

    Raises ConfigError for what is no URL.
    """
    if word.startswith(_VARIABLE):
        name = word.removeprefix(_VARIABLE)
        if not name.isidentifier():
            raise ConfigError("-c env: names no variable; write -c env:NAME")
        return name
    try:
        fields = parse_url(word, "/")
    except ValueError as error:
        raise ConfigError(f"the url of -c {error}") from None
    if "path" in fields:
        return os.path.basename(str(fields["path"]))
    host = fields.get("host") or os.path.basename(fields.get("socket") or "")
    port = fields.get("port")
    usual = port in (None, DEFAULT_PORTS[fields["type"]])
    server = str(host) if usual else f"{host}:{port}"
    return "/".join(filter(None, [server, fields.get("database")]))


def connection_layer(word: str) -> Layer:
    """The connection as a layer above those of a profile."""
    url = f"${{env:{word.removeprefix(_VARIABLE)}}}" if word.startswith(_VARIABLE) else word
    return Layer({"connections": {name_by_url(word): {"url": url}}})


def profile_layers(word: str, search: Search) -> tuple[Layer, ...]:
    """The layers of a profile with no other connection: role `prod` unless KATAX_ROLE says otherwise, and the
    limits and folders that the project's katax.toml has for every profile."""
    shared = search.project.shared() if search.project else None
    table: dict[str, Any] = {key: shared.table[key] for key in _SHARED if shared and key in shared.table}
    if isinstance(table.get("migrate"), Mapping):
        table["migrate"] = {key: each for key, each in table["migrate"].items() if key != "connection"}
    below = (shared.part((), table),) if shared else ()
    return (connection_layer(word), Layer({"role": env_role(search)}), *below)
