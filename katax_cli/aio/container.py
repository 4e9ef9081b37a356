"""`AsyncKatax`: everything that the tasks of a program need of its data services, closed together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
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
from katax_cli.engines.awaited.calls import call, in_thread, wait_for
from katax_cli.profiles.model.model import Profile
from katax_cli.profiles.sources.adhoc import PoolSource
from katax_cli.services.cache.cache import Cache
from katax_cli.services.databases.database import Database
from katax_cli.services.locks.lock import DEFAULT_TTL as LOCK_TTL
from katax_cli.services.locks.lock import MAX_HOLD
from katax_cli.services.program.config import Config
from katax_cli.services.program.databases import DEFAULT, ConnectionSource, Override
from katax_cli.services.program.inventory import ContainerHealth, ContainerInfo
from katax_cli.services.program.lifecycle import PROBE_SECONDS, WAIT_SECONDS
from katax_cli.services.program.logger import Logger
from katax_cli.services.program.redis_services import Closes
from katax_cli.services.program.shutdown import TIMEOUT, Log, ShutdownController
from katax_cli.services.redis.limits import DEFAULT_MAX, DEFAULT_WINDOW, Algorithm, OnError
from katax_cli.services.redis.sessions import DEFAULT_TTL as SESSION_TTL
from katax_cli.services.redis.sessions import PREFIX

AsyncHook = Callable[[], Awaitable[object]] | Callable[[], object]
H = TypeVar("H", bound=AsyncHook)
S = TypeVar("S", bound=Closes)
T = TypeVar("T")


class AsyncKatax:
    """The services of one profile for the tasks of one event loop. Connects nowhere until a database is used.

    `profile` is a profile's name, or the profile that is meant without one (`katax profile list` shows it);
    `config` is a profile as a mapping, with the keys of its file, and no file is read then (docs/container.md).
    Raises ConfigError when there is no such profile, several and none chosen, or no configuration at all; also for a
    key of `config` that is wrong.
    """

    def __init__(
        self, profile: str | Profile | None = None, *, config: Mapping[str, Any] | None = None
    ) -> None:
        self._container = AwaitedContainer(profile, config=config)
        self._home = OwnLoop()
        self._opened: dict[Database, AsyncDatabase[Any]] = {}

    @property
    def wraps(self) -> AwaitedContainer:
        """The container behind it."""
        return self._container

    @property
    def profile(self) -> Profile:
        """The profile whose connections these are."""
        return self._container.profile

    @property
    def config(self) -> Config:
        """`config.set` > environment > .env > [tool.katax] of pyproject.toml > default."""
        return self._container.config

    @property
    def logger(self) -> Logger:
        """JSON lines on stdout, unless the program configured logging itself."""
        return self._container.logger

    def env(self, key: str, default: T | None = None) -> Any:
        """The value of `config`, where the environment comes first; as `config.get`."""
        return self._container.env(key, default)

    def env_required(self, key: str, type: type[T] = str) -> T:  # type: ignore[assignment]
        """The same, as a value of `type`. Raises ConfigError when it is not set, is empty, or is no such value."""
        return self._container.env_required(key, type)

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
        return self._for_tasks(find(name, type=type, connection=connection, pool=pool))

    def _for_tasks(self, database: Any) -> Any:
        """The same object every time for a database; what stands for one and is none, as it is."""
        if not isinstance(database, Database):
            return database
        if database not in self._opened:
            self._opened = {known: one for known, one in self._opened.items() if not known.closed}
            self._opened[database] = _kind_of(database)(database, self._home)
        return self._opened[database]

    def override(self, name: str, service: object) -> Override:
        """From now on `service` stands for `name`: for a `with` block, or until `restore()` of what this returns.

        A database for tasks stands for the connection of this name, and for one for threads, such as a TestDatabase or
        a TestRedis, one for tasks on the same server is opened. Any other object is what `database`, `cache`, `redis`
        and `records` return for the name. The container does not close `service`. See `Katax.override`.
        """
        if isinstance(service, AsyncDatabase):
            self._opened[service.wraps] = service
            service = service.wraps
        elif isinstance(service, Database):
            service = self._container.twin(name, service)
        return self._container.override(name, service)

    def register(self, service: S) -> S:
        """Takes a service with a plain `close()` along: it is closed before the databases are. Returns it."""
        return self._container.register(service)

    def redis(self, name: str = "redis") -> AsyncRedisDatabase:
        """The Redis of this name; without a connection `redis`, that name means `cache`.

        Raises WrongEngine, UnknownConnection.
        """
        redis = self._for_tasks(self._container.redis(name))
        found: AsyncRedisDatabase = redis.redis if isinstance(redis, AsyncCache) else redis
        return found

    def cache(self, name: str = "cache") -> AsyncCache:
        """The cache on a Redis connection. Raises WrongEngine when it is none, UnknownConnection."""
        cache: Any = self._container.cache(name)
        if isinstance(cache, Cache):
            return AsyncCache(self._for_tasks(cache.redis))
        override: AsyncCache = cache
        return override

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
        self,
        name: str,
        *,
        redis: str = "redis",
        ttl: Duration = LOCK_TTL,
        wait: Duration = 0.0,
        max_hold: Duration = MAX_HOLD,
    ) -> AsyncLock:
        """A lock of this name on a Redis connection, for `async with`."""
        return AsyncLock(self.redis(redis), name, ttl=ttl, wait=wait, max_hold=max_hold)

    def records(self, name: str, *, redis: str = "redis") -> AsyncRecords:
        """The records of a resource on a Redis connection."""
        if self._container.is_overridden(name):
            override: AsyncRecords = self._container.stand_in(name)
            return override
        return AsyncRecords(name, self.redis(redis))

    def pubsub(self, name: str = "redis") -> AsyncPubSub:
        """Publishing and subscribing on a Redis connection."""
        return AsyncPubSub(self.redis(name))

    async def health_check(self, *names: str, timeout: Duration = PROBE_SECONDS) -> ContainerHealth:
        """Probes these connections, by default all of the profile and of the program, and the registered services.

        All at the same time, within `timeout` seconds and a moment, past the breakers; failures are in the result.
        Raises UnknownConnection, Unavailable after the shutdown.
        """
        return await self._home.call(self._container.health_check, *names, timeout=timeout)

    def info(self) -> ContainerInfo:
        """The connections with pools and breakers and the services that are held now; asks no server."""
        return self._container.info()

    def on_start(self, hook: H) -> H:
        """Calls `hook`, a coroutine function or a plain one, at the beginning of `async with`, or of `start`.

        Returns it. Raises ConfigError once the container has started.
        """
        self._container.on_start(_awaiting(hook))
        return hook

    def on_ready(self, hook: H) -> H:
        """Calls `hook`, a coroutine function or a plain one, at the end of the first `wait` that succeeds.

        Returns it. Raises ConfigError when that was before.
        """
        self._container.on_ready(_awaiting(hook))
        return hook

    async def start(self) -> None:
        """Calls the hooks of `on_start`, once, in their order; connects nowhere. Raises what a hook raises."""
        await self._home.call(self._container.start)

    async def wait(self, *names: str, timeout: Duration = WAIT_SECONDS) -> ContainerHealth:
        """Starts, waits until all of `health_check(*names)` answer, calls the hooks of `on_ready`, once.

        Servers may come up meanwhile; a degraded one has answered. Raises Unavailable with what is missing after
        `timeout` seconds, UnknownConnection at once, and what a hook raises.
        """
        return await self._home.call(self._container.wait, *names, timeout=timeout)

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
        try:
            await self.start()
        except BaseException:
            await self.shutdown()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()

    def __repr__(self) -> str:
        return f"<AsyncKatax {self.profile.name!r} over {self._container!r}>"


def _awaiting(hook: AsyncHook) -> Callable[[], object]:
    """A hook for a call that is made for a task, in which a coroutine function is waited for."""
    if not is_async(hook):
        return hook
    made: Any = hook
    return wraps(hook)(lambda: wait_for(made()))


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


AsyncTarget = AsyncKatax | AsyncDatabase[Any] | list[AsyncKatax | AsyncDatabase[Any]]


async def graceful_shutdown(
    target: AsyncTarget,
    *,
    timeout: Duration = TIMEOUT,
    on_shutdown: AsyncHook | None = None,
    logger: Log | None = None,
) -> ShutdownReport:
    """Calls the hook, a coroutine function or a plain one, waits for what is in use, closes.

    Takes at most `timeout` seconds and raises no error of a step; what hangs is left behind and named.
    """
    targets = target if isinstance(target, list) else [target]
    loop = asyncio.get_running_loop()
    hook = None if on_shutdown is None else plain_hook(on_shutdown, lambda: loop)
    controller = ShutdownController(
        [each.wraps for each in targets], timeout=timeout, on_shutdown=hook, logger=logger
    )
    end: Callable[[], ShutdownReport] = controller.execute
    return await call(partial(in_thread, "katax-shutdown", end))
