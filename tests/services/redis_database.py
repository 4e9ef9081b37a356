"""Redis as services get it: guarded, without a profile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from katax_cli.core.resilience.retry import RetryPolicy
from katax_cli.core.settings import ConnectionSettings
from katax_cli.engines.redis import create
from katax_cli.services.calls.guard import Guard
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.databases.database import classify_with
from tests.engines.connections import settings_for
from tests.waiting import SECONDS


def redis_database(url: str, **changes: Any) -> RedisDatabase:
    """A database `cache`; the caller closes it."""
    return database_of(settings_for(url, **{"name": "cache", **changes}))


def database_of(settings: ConnectionSettings, *, attempts: int = 1) -> RedisDatabase:
    """A database that waits for its answers as long as a busy machine may take."""
    engine = create(settings)
    guard = Guard(settings.name, classify_with(engine), retry=RetryPolicy(attempts=attempts), breaker=None)
    made = RedisDatabase(engine, guard)
    made.patience = SECONDS
    return made


@contextmanager
def opened(url: str, **changes: Any) -> Iterator[RedisDatabase]:
    """The same, closed at the end."""
    with closing(redis_database(url, **changes)) as database:
        yield database
