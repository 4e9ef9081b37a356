"""The profiles that nobody wrote: `local`, and `env` from the URLs of the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from katax_cli.core.settings import ROLES, Role
from katax_cli.errors import ConfigError
from katax_cli.profiles.find import URL_VARIABLES, Search
from katax_cli.profiles.home import katax_home
from katax_cli.profiles.urls import parse_url

_LOOPBACK = ("localhost", "::1", "0:0:0:0:0:0:0:1")


def local_table(search: Search) -> dict[str, Any]:
    """`local`: a SQLite file and an embedded Redis, both in `.katax/`."""
    home = katax_home(search.folder, search.environ)
    return {
        "role": "dev",
        "connections": {
            "main": {"type": "sqlite", "database": os.path.join(home, "main.db")},
            "cache": {"type": "redis", "url": "embedded"},
        },
    }


def env_table(environ: Mapping[str, str]) -> dict[str, Any]:
    """`env`: a connection for each URL that is set. Raises ConfigError for a KATAX_ROLE that is no role."""
    said = {name: variable for variable, name in URL_VARIABLES.items() if environ.get(variable)}
    connections = {name: {"url": f"${{env:{variable}}}"} for name, variable in said.items()}
    role = environ.get("KATAX_ROLE") or _env_role([environ[variable] for variable in said.values()])
    if role not in ROLES:
        raise ConfigError(f"KATAX_ROLE is {role!r}, expected {', '.join(ROLES[:-1])} or {ROLES[-1]}")
    return {"role": role, "connections": connections}


def _env_role(urls: Sequence[str]) -> Role:
    """`dev` only when every server is this machine; what cannot be read counts as somewhere else."""
    try:
        return "dev" if all(_is_here(parse_url(url, "/")) for url in urls) else "prod"
    except ValueError:
        return "prod"


def _is_here(fields: Mapping[str, Any]) -> bool:
    if fields.get("srv"):
        return False
    hosts = [host for host, _ in fields.get("nodes", ())]
    return all(host.lower() in _LOOPBACK or _is_loopback_address(host) for host in hosts)


def _is_loopback_address(host: str) -> bool:
    # A name such as 127.example.com is not an address.
    numbers = host.split(".")
    return len(numbers) == 4 and numbers[0] == "127" and all(number.isdigit() for number in numbers)
