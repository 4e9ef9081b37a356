"""Databases of the services for a URL: guarded, one attempt for each call, without a profile."""

from __future__ import annotations

from typing import Any

from katax_cli.core.resilience.retry import ONCE
from katax_cli.engines.registry import load
from katax_cli.services.calls.guard import Guard
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.databases.database import classify_with
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.databases.sql import SqlDatabase
from tests.engines.connections import settings_for


def open_database(url: str, **changes: Any) -> Any:
    """The database of the URL's kind, with these settings; the caller closes it."""
    engine: Any = load(settings_for(url, **changes))
    kinds: dict[str, Any] = {"mongodb": MongoDatabase, "redis": RedisDatabase}
    guard = Guard("main", classify_with(engine), retry=ONCE, breaker=None)
    return kinds.get(engine.name, SqlDatabase)(engine, guard)
