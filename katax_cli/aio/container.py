"""`AsyncKatax`: everything that the tasks of a program need of its data services, closed together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

from katax_cli.aio.cache import AsyncCache
from katax_cli.aio.clients import AsyncMongoDatabase, AsyncRedisDatabase
from katax_cli.aio.database import AsyncDatabase
from katax_cli.aio.limits import AsyncRateLimiter
from katax_cli.aio.locks import AsyncLock
from katax_cli.aio.own_loop import OwnLoop
from katax_cli.aio.pubsub import AsyncPubSub
from katax_cli.aio.records import AsyncRecords
from katax_cli.aio.runtime import AwaitedContainer
from katax_cli.aio.sessions import AsyncSessionStore
from katax_cli.aio.sql import AsyncSqlDatabase
from katax_cli.core.callables import is_async
from katax_cli.core.engine_names import EngineName
from katax_cli.core.resilience.shutdown import ShutdownReport
from katax_cli.core.text.duration import Duration
from katax_cli.engines.awaited.calls import in_thread
from katax_cli.profiles.model.model import Profile
from katax_cli.profiles.sources.adhoc import PoolSource
from katax_cli.services.databases.database import Database
from katax_cli.services.locks.lock import DEFAULT_TTL as LOCK_TTL
from katax_cli.services.program.databases import DEFAULT, ConnectionSource
from katax_cli.services.redis.limits import DEFAULT_MAX, DEFAULT_WINDOW, Algorithm, OnError
from katax_cli.services.redis.sessions import DEFAULT_TTL as SESSION_TTL
from katax_cli.services.redis.sessions import PREFIX

AsyncHook = Callable[[], Awaitable[object]] | Callable[[], object]
H = TypeVar("H", bound=AsyncHook)


class AsyncKatax:
    """The services of one profile for the tasks of one event loop. Connects nowhere until a database is used.

    `profile` is a profile's name, or the profile that is meant without one (`katax profile list` shows it). Raises
    ConfigError when there is no such profile, several and none chosen, or no configuration at all.
    """

    def __init__(self, profile: str | Profile | None = None) -> None:
        self._container = AwaitedContainer(profile)
        self._home = OwnLoop()
        self._opened: dict[str, AsyncDatabase[Any]] = {}

    @property
    def wraps(self) -> AwaitedContainer:
        """The container behind it."""
        return self._container

    @property
    def profile(self) -> Profile:
        """The profile whose connections these are."""
        return self._container.profile

    @overload
    def database(
        self,
        name: str = ...,
        *,
        type: Literal["postgresql", "mysql", "sqlite"],
        connection: ConnectionSource | None = ...,
        pool: PoolSource | None = ...,
    ) -> AsyncSqlDatabase: ...
    @overload
    def database(
        self,
        name: str = ...,
        *,
        type: Literal["redis"],
        connection: ConnectionSource | None = ...,
        pool: PoolSource | None = ...,
    ) -> AsyncRedisDatabase: ...
    @overload
    def database(
        self,
        name: str = ...,
        *,
        type: Literal["mongodb"],
        connection: ConnectionSource | None = ...,
        pool: PoolSource | None = ...,
    ) -> AsyncMongoDatabase: ...
    @overload
    def database(
        self,
        name: str = ...,
        *,
        type: None = ...,
        connection: ConnectionSource | None = ...,
        pool: PoolSource | None = ...,
    ) -> Any: ...
    def database(
        self,
        name: str = DEFAULT,
        *,
        type: EngineName | None = None,
        connection: ConnectionSource | None = None,
        pool: PoolSource | None = None,
    ) -> Any:
        """The database of this name, the same object every time; connects when it is first used.

        `connection` is a URL or the keys of a profile's connection, `pool` its `pool` table. Without them it is the
        profile's connection. Raises UnknownConnection, ConfigError for a configuration that is wrong,
        ConnectionConflict when the name is in use with another one, Unavailable after the shutdown.
        """
        find: Callable[..., Database] = self._container.database
        database = find(name, type=type, connection=connection, pool=pool)
        known = self._opened.get(database.name)
        if known is None or known.wraps is not database:
            known = self._opened[database.name] = _kind_of(database)(database, self._home)
        return known

    def redis(self, name: str = "redis") -> AsyncRedisDatabase:
        """The Redis of this name; without a connection `redis`, that name means `cache`.

        Raises WrongEngine, UnknownConnection.
        """
        redis: AsyncRedisDatabase = self.database(self._container.redis(name).name)
        return redis

    def cache(self, name: str = "cache") -> AsyncCache:
        """The cache on a Redis connection. Raises WrongEngine when it is none, UnknownConnection."""
        return AsyncCache(self.database(self._container.cache(name).redis.name))

    def db(self, name: str) -> Any:
        """The database of a name that is known. Raises UnknownConnection."""
        return self.database(name)

    def sessions(
        self, name: str = "redis", *, prefix: str = PREFIX, ttl: Duration = SESSION_TTL
    ) -> AsyncSessionStore:
        """Sessions on a Redis connection."""
        return AsyncSessionStore(self.redis(name), prefix, ttl)

    def limiter(
        self,
        name: str = "redis",
        *,
        max: int = DEFAULT_MAX,
        window: Duration = DEFAULT_WINDOW,
        algorithm: Algorithm = "fixed",
        on_error: OnError | None = None,
    ) -> AsyncRateLimiter:
        """A rate limit on a Redis connection: at most `max` in `window` seconds for each key."""
        return AsyncRateLimiter(self.redis(name), max, window, algorithm=algorithm, on_error=on_error)

    def lock(
        self, name: str, *, redis: str = "redis", ttl: Duration = LOCK_TTL, wait: Duration = 0.0
    ) -> AsyncLock:
        """A lock of this name on a Redis connection, for `async with`."""
        return AsyncLock(self.redis(redis), name, ttl=ttl, wait=wait)

    def records(self, name: str, *, redis: str = "redis") -> AsyncRecords:
        """The records of a resource on a Redis connection."""
        return AsyncRecords(name, self.redis(redis))

    def pubsub(self, name: str = "redis") -> AsyncPubSub:
        """Publishing and subscribing on a Redis connection."""
        return AsyncPubSub(self.redis(name))

    def on_shutdown(self, hook: H) -> H:
        """Calls `hook`, a coroutine function or a plain one, first of all when shutting down. Returns it."""
        self._container.on_shutdown(plain_hook(hook, lambda: self._home.loop))
        return hook

    async def shutdown(self, timeout: Duration | None = None) -> ShutdownReport:
        """Hooks, then services, then databases, within `timeout` seconds (the profile's, 30.0 by default).

        Waits for what is in use, leaves behind what hangs, and says so in the report. May be repeated: every caller
        gets the same report.
        """
        end = partial(self._container.shutdown, timeout)
        return await self._home.call(in_thread, "katax-shutdown", end)

    async def __aenter__(self) -> Self:
        self._home.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()

    def __repr__(self) -> str:
        return f"<AsyncKatax {self.profile.name!r} over {self._container!r}>"


def plain_hook(hook: AsyncHook, loop: Callable[[], asyncio.AbstractEventLoop]) -> Callable[[], object]:
    """A hook for threads of a shutdown: a coroutine function runs on the event loop, and is waited for."""
    if not is_async(hook):
        return hook

    @wraps(hook)
    def run() -> object:
        made: Any = hook()
        return asyncio.run_coroutine_threadsafe(made, loop()).result()

    return run


def _kind_of(database: Database) -> Callable[[Any, OwnLoop], AsyncDatabase[Any]]:
    if database.settings.type == "redis":
        return AsyncRedisDatabase
    return AsyncMongoDatabase if database.settings.type == "mongodb" else AsyncSqlDatabase
