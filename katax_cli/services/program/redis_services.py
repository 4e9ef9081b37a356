"""The services on Redis of a program, made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from katax_cli.core.text.duration import Duration
from katax_cli.errors import UnknownConnection, WrongEngine
from katax_cli.profiles.model.model import Profile
from katax_cli.services.databases.database import Database
from katax_cli.services.locks.lock import DEFAULT_TTL as LOCK_TTL
from katax_cli.services.locks.lock import MAX_HOLD, Lock
from katax_cli.services.program.databases import Databases
from katax_cli.services.redis.limits import (
    DEFAULT_MAX,
    DEFAULT_WINDOW,
    Algorithm,
    OnError,
    RateLimiter,
)
from katax_cli.services.redis.sessions import DEFAULT_TTL as SESSION_TTL
from katax_cli.services.redis.sessions import PREFIX, SessionStore

if TYPE_CHECKING:
    from katax_cli.services.cache.cache import Cache
    from katax_cli.services.databases.clients import RedisDatabase
    from katax_cli.services.redis.pubsub import PubSub
    from katax_cli.services.redis.records import Records


class Closable(Protocol):
    """A service that ends with its container."""

    def close(self) -> object: ...


S = TypeVar("S", bound=Closable)


class RedisServices(Databases):
    """Finds the Redis that a service is to live on; services that hold something are closed with the container.

    A `name` is that of a connection; where there is none that is called `redis`, that name means `cache`. All
    raise WrongEngine for a connection that is no Redis, UnknownConnection.
    """

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        self._services: list[Closable] = []
        self._made: dict[tuple[str, int], tuple[RedisDatabase, Closable]] = {}

    def register(self, service: S) -> S:
        """Takes a service along: it is closed before the databases are. Returns it.

        A RecordStore is what `records` gives for its name from now on.
        """
        with self._lock:
            if not any(known is service for known in self._services):
                self._services.insert(0, service)
        return service

    def cache(self, name: str = "cache") -> Cache:
        """The cache on a Redis connection. Raises WrongEngine when it is none, UnknownConnection."""
        database: Any = self.database(name)
        if not isinstance(database, Database):
            cache: Cache = database
            return cache
        if database.settings.type != "redis":
            raise WrongEngine(database.settings.type, "cache", wanted_by="cache", works_on=("redis",))
        from katax_cli.services.cache.cache import Cache
        from katax_cli.services.databases.clients import RedisDatabase

        assert isinstance(database, RedisDatabase)
        return Cache(database)

    def redis(self, name: str = "redis") -> RedisDatabase:
        """The Redis of this name; without a connection `redis`, that name means `cache`.

        Raises WrongEngine, UnknownConnection.
        """
        from katax_cli.services.cache.cache import Cache

        try:
            cache: Any = self.cache(name)
        except UnknownConnection:
            if name != "redis":
                raise
            cache = self.cache()
        # An override that is no database stands for the Redis, too.
        redis: RedisDatabase = cache.redis if isinstance(cache, Cache) else cache
        return redis

    def records(self, name: str) -> Records:
        """The records of a resource, the same store every time: the one registered under this name, else a new one
        on the connection `redis` or else `cache`."""
        from katax_cli.services.redis.records import Records

        with self._lock:
            if self.is_overridden(name):
                records: Records = self.stand_in(name)
                return records
            made = [service for _, service in self._made.values()]
            for service in self._services:
                if isinstance(service, Records) and service.name == name and service not in made:
                    return service
            return self._one_on(self.redis(), f"records {name}", partial(Records, name))

    def sessions(
        self, name: str = "redis", *, prefix: str = PREFIX, ttl: Duration = SESSION_TTL
    ) -> SessionStore:
        """Sessions on a Redis connection; `ttl` is seconds or "1h"."""
        return SessionStore(self.redis(name), prefix, ttl)

    def limiter(
        self,
        name: str = "redis",
        *,
        max: int = DEFAULT_MAX,
        window: Duration = DEFAULT_WINDOW,
        algorithm: Algorithm = "fixed",
        on_error: OnError | None = None,
    ) -> RateLimiter:
        """A rate limit on a Redis connection: at most `max` in `window` seconds for each key.

        Raises ValueError for a maximum, window or algorithm that cannot be.
        """
        return RateLimiter(self.redis(name), max, window, algorithm=algorithm, on_error=on_error)

    def lock(
        self,
        name: str,
        *,
        redis: str = "redis",
        ttl: Duration = LOCK_TTL,
        wait: Duration = 0.0,
        max_hold: Duration = MAX_HOLD,
    ) -> Lock:
        """A lock of this name on a Redis connection, for `with`; see `Lock`.

        Raises ValueError for a ttl or name that cannot be.
        """
        return Lock(self.redis(redis), name, ttl=ttl, wait=wait, max_hold=max_hold)

    def pubsub(self, name: str = "redis") -> PubSub:
        """Publishing and subscribing on a Redis connection, the same object every time; closed with the container."""
        from katax_cli.services.redis.pubsub import PubSub

        return self._one_on(self.redis(name), "pubsub", PubSub)

    def _one_on(self, redis: RedisDatabase, kind: str, make: Callable[[RedisDatabase], S]) -> S:
        """The one service of a kind on a Redis, which may stand in for another one for a while."""
        with self._lock:
            key = (kind, id(redis))
            if key not in self._made:
                self._made[key] = redis, self.register(make(redis))
            service: Any = self._made[key][1]
            made: S = service
            return made
