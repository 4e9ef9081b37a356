"""Settings for the servers of the tests."""

from dataclasses import replace
from typing import Any, get_args
from urllib.parse import unquote, urlsplit

from katax_cli.core.engine_names import EngineName
from katax_cli.core.settings import ConnectionSettings, Secret
from tests.servers.server import Server
from tests.waiting import SECONDS


def settings_for(url: str | Server, **changes: Any) -> ConnectionSettings:
    """A connection `main` to `url`, otherwise with the defaults of a profile, but for more time to connect."""
    parts = urlsplit(url.url if isinstance(url, Server) else url)
    engine: EngineName = next(name for name in get_args(EngineName) if parts.scheme.startswith(name))
    if engine == "sqlite":
        settings = ConnectionSettings(name="main", type=engine, path=unquote(parts.path[1:]))
    else:
        settings = ConnectionSettings(
            name="main",
            type=engine,
            host=parts.hostname,
            port=parts.port,
            user=unquote(parts.username or "") or None,
            password=Secret.of(unquote(parts.password)) if parts.password else None,
            database=parts.path.lstrip("/") or None,
            connect_timeout=SECONDS,
        )
    return replace(settings, **changes)
