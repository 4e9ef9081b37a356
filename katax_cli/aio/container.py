"""`AsyncKatax`: everything that the tasks of a program need of its data services, closed together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial, wraps
from types import TracebackType
from typing import Any, Self, TypeVar

from katax_cli.aio.cache import AsyncCache
from katax_cli.aio.clients import AsyncMongoDatabase, AsyncRedisDatabase
from katax_cli.aio.database import AsyncDatabase
from katax_cli.aio.own_loop import OwnLoop
from katax_cli.aio.proxy import AsyncProxy, awaited
from katax_cli.aio.pubsub import AsyncPubSub
from katax_cli.aio.records import AsyncRecords
from katax_cli.aio.redis_services import AsyncLock, AsyncRateLimiter, AsyncSessionStore
from katax_cli.aio.runtime import AwaitedContainer
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
from katax_cli.services.program.databases import ConnectionSource, NamedDatabases, Override
from katax_cli.services.program.inventory import ContainerInfo
from katax_cli.services.program.logger import Logger
from katax_cli.services.program.redis_services import Closable
from katax_cli.services.program.shutdown import TIMEOUT, Log, ShutdownController
from katax_cli.services.redis.limits import DEFAULT_MAX, DEFAULT_WINDOW, Algorithm, OnError
from katax_cli.services.redis.sessions import DEFAULT_TTL as SESSION_TTL
from katax_cli.services.redis.sessions import PREFIX

AsyncHook = Callable[[], Awaitable[object]] | Callable[[], object]
H = TypeVar("H", bound=AsyncHook)
S = TypeVar("S", bound=Closable)
T = TypeVar("T")


class AsyncKatax(
    AsyncProxy[AwaitedContainer], NamedDatabases[AsyncSqlDatabase, AsyncRedisDatabase, AsyncMongoDatabase]
):
    """The services of one profile for the tasks of one event loop. Connects nowhere until a database is used.

    `profile` is a profile's name, or the profile that is meant without one (`katax profile list` shows it);
    `config` is a profile as a mapping, with the keys of its file, and no file is read then (docs/container.md).
    Raises ConfigError when there is no such profile, several and none chosen, or no configuration at all; also for a
    key of `config` that is wrong.
    """

    def __init__(
        self, profile: str | Profile | None = None, *, config: Mapping[str, Any] | None = None
    ) -> None:
        container = AwaitedContainer(profile, config=config)
        super().__init__(container, container.home)
        self._opened: dict[Database, AsyncDatabase[Any]] = {}

    @property
    def profile(self) -> Profile:
        """The profile whose connections these are."""
        return self._wrapped.profile

    @property
    def config(self) -> Config:
        """`config.set` > environment > .env > [tool.katax] of pyproject.toml > default."""
        return self._wrapped.config

    @property
    def logger(self) -> Logger:
        """JSON lines on stdout, unless the program configured logging itself."""
        return self._wrapped.logger

    def env(self, key: str, default: T | None = None) -> Any:
        """The value of `config`, where the environment comes first; as `config.get`."""
        return self._wrapped.env(key, default)

    def env_required(self, key: str, type: type[T] = str) -> T:  # type: ignore[assignment]
        """The same, as a value of `type`. Raises ConfigError when it is not set, is empty, or is no such value."""
        return self._wrapped.env_required(key, type)

    def _database(
        self,
        name: str,
        type: EngineName | None,
        connection: ConnectionSource | None,
        pool: PoolSource | None,
    ) -> Any:
        return self._for_tasks(self._wrapped._database(name, type, connection, pool))

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
            service = self._wrapped.twin(name, service)
        return self._wrapped.override(name, service)

    def register(self, service: S) -> S:
        """Takes a service with a plain `close()` along: it is closed before the databases are. Returns it."""
        return self._wrapped.register(service)

    def redis(self, name: str = "redis") -> AsyncRedisDatabase:
        """The Redis of this name; without a connection `redis`, that name means `cache`.

        Raises WrongEngine, UnknownConnection.
        """
        redis = self._for_tasks(self._wrapped.redis(name))
        found: AsyncRedisDatabase = redis.redis if isinstance(redis, AsyncCache) else redis
        return found

    def cache(self, name: str = "cache") -> AsyncCache:
        """The cache on a Redis connection. Raises WrongEngine when it is none, UnknownConnection."""
        cache: Any = self._wrapped.cache(name)
        if isinstance(cache, Cache):
            return AsyncCache(self._for_tasks(cache.redis))
        override: AsyncCache = cache
        return override

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
        if self._wrapped.is_overridden(name):
            override: AsyncRecords = self._wrapped.stand_in(name)
            return override
        return AsyncRecords(name, self.redis(redis))

    def pubsub(self, name: str = "redis") -> AsyncPubSub:
        """Publishing and subscribing on a Redis connection."""
        return AsyncPubSub(self.redis(name))

    health_check = awaited(AwaitedContainer.health_check)
    start = awaited(AwaitedContainer.start)
    wait = awaited(AwaitedContainer.wait)

    def info(self) -> ContainerInfo:
        """The connections with pools and breakers and the services that are held now; asks no server."""
        return self._wrapped.info()

    def on_start(self, hook: H) -> H:
        """Calls `hook`, a coroutine function or a plain one, at the beginning of `async with`, or of `start`.

        Returns it. Raises ConfigError once the container has started.
        """
        self._wrapped.on_start(_awaiting(hook))
        return hook

    def on_ready(self, hook: H) -> H:
        """Calls `hook`, a coroutine function or a plain one, at the end of the first `wait` that succeeds.

        Returns it. Raises ConfigError when that was before.
        """
        self._wrapped.on_ready(_awaiting(hook))
        return hook

    def on_shutdown(self, hook: H) -> H:
        """Calls `hook`, a coroutine function or a plain one, first of all when shutting down. Returns it."""
        self._wrapped.on_shutdown(plain_hook(hook, lambda: self._home.loop))
        return hook

    async def shutdown(self, timeout: Duration | None = None) -> ShutdownReport:
        """Hooks, then services, then databases, within `timeout` seconds (the profile's, 30.0 by default).

        Waits for what is in use, leaves behind what hangs, and says so in the report. May be repeated: every caller
        gets the same report.
        """
        end = partial(self._wrapped.shutdown, timeout)
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
        return f"<AsyncKatax {self.profile.name!r} over {self._wrapped!r}>"


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


async def graceful_shutdown(
    target: object,
    *,
    timeout: Duration = TIMEOUT,
    on_shutdown: AsyncHook | None = None,
    logger: Log | None = None,
) -> ShutdownReport:
    """Calls the hook, a coroutine function or a plain one, waits for what is in use, closes.

    Takes at most `timeout` seconds and raises no error of a step; what hangs is left behind and named. The target is an
    AsyncKatax, a database, what `katax_cli.graceful_shutdown` ends, or a list of them. Raises TypeError for anything
    else.
    """
    targets = list(target) if isinstance(target, list | tuple | set | frozenset) else [target]
    loop = asyncio.get_running_loop()
    hook = None if on_shutdown is None else plain_hook(on_shutdown, lambda: loop)
    controller = ShutdownController(
        [each.wraps if isinstance(each, AsyncProxy) else each for each in targets],
        timeout=timeout,
        on_shutdown=hook,
        logger=logger,
    )
    end: Callable[[], ShutdownReport] = controller.execute
    return await call(partial(in_thread, "katax-shutdown", end))
