"""The built-in profiles: `local`, and `env` from the URLs of the environment."""

from __future__ import annotations

import os
from typing import Any

from katax_cli.core.settings import ROLES
from katax_cli.errors import ConfigError
from katax_cli.profiles.sources.find import URL_VARIABLES, Search
from katax_cli.profiles.sources.home import katax_home


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


def env_table(search: Search) -> dict[str, Any]:
    """`env`: a connection for each URL that is set. Raises ConfigError for a KATAX_ROLE that is no role."""
    connections = {URL_VARIABLES[variable]: {"url": f"${{env:{variable}}}"} for variable in search.urls()}
    return {"role": env_role(search), "connections": connections}


def env_role(search: Search) -> str:
    """The role of servers that a URL names: `prod` unless KATAX_ROLE says otherwise.

    On loopback too: tunnels and cloud proxies end there. Raises ConfigError for a KATAX_ROLE that is no role.
    """
    role = search.variables.get("KATAX_ROLE") or "prod"
    if role not in ROLES:
        raise ConfigError(f"KATAX_ROLE is {role!r}, expected {', '.join(ROLES[:-1])} or {ROLES[-1]}")
    return role
