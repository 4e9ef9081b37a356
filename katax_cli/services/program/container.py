"""`Katax`: everything that a program needs of its data services, made when it is asked for, closed together."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, TypeVar, overload

from katax_cli.core.callables import plain
from katax_cli.core.forks import follow
from katax_cli.core.resilience.shutdown import Shutdown, ShutdownReport, Stage, Step
from katax_cli.core.settings import ConnectionSettings, EngineName, Secret
from katax_cli.core.text.duration import Duration, in_seconds
from katax_cli.errors import ConfigError, ConnectionConflict, Unavailable, UnknownConnection, WrongEngine
from katax_cli.profiles.load import load_profile
from katax_cli.profiles.model.connections import Around
from katax_cli.profiles.model.model import Profile
from katax_cli.profiles.sources.adhoc import Pool, connection_of, pool_of
from katax_cli.services.databases.database import Database
from katax_cli.services.program.closing import step_for
from katax_cli.services.program.config import Config
from katax_cli.services.program.shutdown import Hook, ShutdownController, hook_stages
from katax_cli.services.runtime.runtime import Runtime

if TYPE_CHECKING:
    from katax_cli.services.cache.cache import Cache
    from katax_cli.services.cron.definition.jobs import Miss, Overlap
    from katax_cli.services.databases.clients import RedisDatabase
    from katax_cli.services.databases.mongodb import MongoDatabase
    from katax_cli.services.databases.sql import SqlDatabase
    from katax_cli.services.program.cron import ProgramCron
    from katax_cli.services.program.logger import Logger
    from katax_cli.services.program.sockets import SocketServers
    from katax_cli.services.redis.records import RecordStore
    from katax_cli.services.state.reporter import Reporter
    from katax_cli.services.ws.server import MayJoin, Sockets
    from katax_cli.snapshot import JobStatus

Connection = str | Mapping[str, Any]
DEFAULT = "default"
"""The name that nobody chose: the profile's `main`, where it has no connection that is called so."""
_PREFERRED = "main"
H = TypeVar("H", bound=Hook)


class Closes(Protocol):
    """A service that ends with its container."""

    def close(self) -> object: ...


S = TypeVar("S", bound=Closes)


class Katax:
    """The services of one profile; thread-safe. Connects nowhere until a database is used.

    `profile` is a profile's name, or the profile that is meant without one (`katax profile list` shows it).
    Raises ConfigError when there is no such profile, several and none chosen, or no configuration at all: the
    built-in profile is `Katax("local")`.
    """

    _instance: ClassVar[Katax | None] = None
    _instance_lock: ClassVar[threading.RLock] = threading.RLock()

    def __init__(self, profile: str | Profile | None = None) -> None:
        self.profile = profile if isinstance(profile, Profile) else _profile_of(profile)
        self._runtime = Runtime(self.profile)
        self._opened: dict[str, tuple[ConnectionSettings, Database]] = {}
        self._hooks: list[Hook] = []
        self._services: list[Closes] = []
        self._reporter: Reporter | None = None
        self._closed = False
        self._lock = threading.RLock()
        self.ending = Shutdown()
        follow(self)

    def after_fork(self) -> None:
        self._lock = threading.RLock()

    @classmethod
    def get_instance(cls) -> Katax:
        """The one container of this process, made at the first call."""
        with cls._instance_lock:
            if cls._instance is None:
                cls._instance = cls()
            return cls._instance

    @classmethod
    def reset(cls) -> None:
        """Shuts that container down and forgets it; the next `get_instance` makes a new one."""
        with cls._instance_lock:
            instance, cls._instance = cls._instance, None
        if instance is not None:
            instance.shutdown()

    @overload
    def database(
        self,
        name: str = ...,
        *,
        type: Literal["postgresql", "mysql", "sqlite"],
        connection: Connection | None = ...,
        pool: Pool | None = ...,
    ) -> SqlDatabase: ...
    @overload
    def database(
        self,
        name: str = ...,
        *,
        type: Literal["redis"],
        connection: Connection | None = ...,
        pool: Pool | None = ...,
    ) -> RedisDatabase: ...
    @overload
    def database(
        self,
        name: str = ...,
        *,
        type: Literal["mongodb"],
        connection: Connection | None = ...,
        pool: Pool | None = ...,
    ) -> MongoDatabase: ...
    @overload
    def database(
        self,
        name: str = ...,
        *,
        type: None = ...,
        connection: Connection | None = ...,
        pool: Pool | None = ...,
    ) -> Any: ...
    def database(
        self,
        name: str = DEFAULT,
        *,
        type: EngineName | None = None,
        connection: Connection | None = None,
        pool: Pool | None = None,
    ) -> Any:
        """The database of this name, the same object every time; connects when it is first used.

        `connection` is a URL or the keys of a profile's connection, `pool` its `pool` table. Without them it is
        the profile's connection. Raises UnknownConnection, ConfigError for a configuration that is wrong,
        ConnectionConflict when the name is in use with another one, Unavailable after the shutdown.
        """
        with self._lock:
            if self._closed:
                raise Unavailable(name, "this container was shut down; make a new one, or call Katax.reset()")
            if connection is None and type is None and name == DEFAULT and self._settings(name) is None:
                name = _PREFERRED
            wanted = self._wanted(name, type, connection, pool)
            settings, database = self._opened.get(name, (wanted, None))
            if database is None or database.closed:
                database = self._runtime.open(wanted)
                self._opened[name] = (wanted, database)
            elif not _same(settings, wanted):
                raise ConnectionConflict(name)
            return database

    def db(self, name: str) -> Any:
        """The database of a name that is known. Raises UnknownConnection."""
        return self.database(name)

    def cache(self, name: str = "cache") -> Cache:
        """The cache on a Redis connection. Raises WrongEngine when it is none, UnknownConnection."""
        database = self.database(name)
        if database.settings.type != "redis":
            raise WrongEngine(database.settings.type, "cache", wanted_by="cache", works_on=("redis",))
        from katax_cli.services.cache.cache import Cache

        return Cache(database)

    def records(self, name: str) -> RecordStore:
        """The records of a resource, the same store every time: the one registered under this name, else a new one
        on the connection `redis` or else `cache`; see RecordStore."""
        from katax_cli.services.redis.records import DEFAULT_DB_ALIAS, RecordStore, redis_of

        with self._lock:
            for service in self._services:
                if isinstance(service, RecordStore) and service.name == name:
                    return service
            return self.register(RecordStore(name, redis_of(self, DEFAULT_DB_ALIAS)))

    def cron(
        self,
        name: str,
        schedule: str,
        task: Callable[[], object],
        *,
        enabled: bool | Callable[[], bool] = True,
        run_on_init: bool = False,
        timezone: str | None = None,
        timeout: Duration | None = None,
        on_overlap: Overlap = "skip",
        on_miss: Miss = "once",
        retries: int = 0,
        jitter: Duration = 0.0,
        start_deadline: Duration = 60.0,
    ) -> None:
        """Runs `task` on a schedule, in a named thread of this process; see docs/cron.md.

        `timezone` is the profile's, else this machine's; a callable `enabled` is asked at each occurrence. Raises
        ConfigError for a name in use or a schedule that is none.
        """
        self._cron.add(
            name,
            schedule,
            task,
            enabled=enabled,
            run_on_init=run_on_init,
            timezone=timezone,
            timeout=None if timeout is None else in_seconds(timeout),
            on_overlap=on_overlap,
            on_miss=on_miss,
            retries=retries,
            jitter=in_seconds(jitter),
            start_deadline=in_seconds(start_deadline),
        )

    def cron_jobs(self) -> list[JobStatus]:
        """The jobs of this program."""
        return self._cron.jobs()

    def cron_remove(self, name: str) -> None:
        """Forgets a job; what runs of it goes on. Raises ConfigError for an unknown one."""
        self._cron.remove(name)

    def cron_enable(self, name: str) -> None:
        """Lets a job run again. Raises ConfigError for an unknown one."""
        self._cron.switch(name, on=True)

    def cron_disable(self, name: str) -> None:
        """Keeps a job from running. Raises ConfigError for an unknown one."""
        self._cron.switch(name, on=False)

    def cron_run(self, name: str) -> None:
        """Starts a job now, beside its schedule. Raises ConfigError for an unknown one."""
        self._cron.run(name)

    @cached_property
    def _cron(self) -> ProgramCron:
        from katax_cli.services.program.cron import ProgramCron

        return self.register(ProgramCron(self.profile))

    @cached_property
    def config(self) -> Config:
        """Environment > .env > [tool.katax] of pyproject.toml > default."""
        return Config(self.profile.folder)

    @cached_property
    def logger(self) -> Logger:
        """JSON lines on stdout, unless the program configured logging itself."""
        from katax_cli.services.program.logger import Logger

        return Logger(level=self.profile.logging.level, secrets=self._secrets)

    def socket(
        self,
        name: str = DEFAULT,
        port: int | None = None,
        path: str | None = None,
        host: str | None = None,
        *,
        redis: str | None = None,
        auth_token: str | None = None,
        cors: Sequence[str] | None = None,
        may_join: MayJoin | None = None,
    ) -> Sockets:
        """The Socket.IO server of this name, the same object every time; listens when this returns.

        What is not given is the profile's `[ws.NAME]`, else port 3001, path /socket.io, host 127.0.0.1. `redis`
        is the connection that joins servers of one name; `may_join(client, room)` lets clients into rooms. Log
        entries with `broadcast=True` go to all sockets as event `log`. Raises ConnectionConflict when the name
        is in use with another configuration, ConfigError when the port is, Refused beyond loopback without a
        token, Unavailable when Redis is.
        """
        return self._sockets.open(
            name,
            port=port,
            path=path,
            host=host,
            redis=redis,
            auth_token=auth_token,
            cors=cors,
            may_join=may_join,
        )

    @cached_property
    def _sockets(self) -> SocketServers:
        from katax_cli.services.program.sockets import SocketServers

        return SocketServers(self)

    def report(self, kind: str) -> None:
        """Takes part in the shared state as `kind` until the shutdown.

        Pools, circuits and calls of this program show in the dashboard, and it follows what operators decide.
        The first `kind` stays. Raises Unavailable after the shutdown, and nothing because of the state database.
        """
        with self._lock:
            if self._closed:
                raise Unavailable(kind, "this container was shut down; make a new one, or call Katax.reset()")
            if self._reporter is None:
                from katax_cli.services.ws.report import SocketTeller

                self._reporter = self.register(self._runtime.report(kind))
                self._reporter.tell("sockets", SocketTeller(self._running_sockets))

    def _running_sockets(self) -> Sequence[Sockets]:
        return self._sockets.running() if "_sockets" in self.__dict__ else ()

    def register(self, service: S) -> S:
        """Takes a service along: it is closed before the databases are. Returns it.

        A RecordStore is what `records` gives for its name from now on.
        """
        with self._lock:
            if not any(known is service for known in self._services):
                self._services.insert(0, service)
        return service

    def on_shutdown(self, hook: H) -> H:
        """Calls `hook` first of all when shutting down, in the order in which hooks were added. Returns it."""
        plain(hook, "on_shutdown()")
        with self._lock:
            self._hooks.append(hook)
        return hook

    def shutdown(self, timeout: Duration | None = None) -> ShutdownReport:
        """Hooks, then services, then databases, within `timeout` seconds (the profile's, 30.0 by default).

        Waits for what is in use, leaves behind what hangs, and says so in the report. May be repeated and
        called by several threads: all get the same report.
        """
        seconds = self.profile.shutdown.timeout if timeout is None else timeout
        return ShutdownController(self, timeout=seconds).execute()

    def shutdown_stages(self) -> Sequence[Stage]:
        """The order of the shutdown, for those who run it; see `services.shutdown`."""
        return [*hook_stages(self._hooks), self._end_services, self._end_databases]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()

    def __repr__(self) -> str:
        return f"<Katax {self.profile.name!r}: {', '.join(self._opened) or 'nothing open'}>"

    def _end_services(self) -> list[Step]:
        return [step_for(service) for service in reversed(self._services)]

    def _end_databases(self) -> list[Step]:
        with self._lock:
            self._closed = True
            return [step_for(database) for _, database in self._opened.values()]

    def _settings(self, name: str) -> ConnectionSettings | None:
        """The settings of a name: as it was opened, else as the profile has them."""
        if name in self._opened:
            return self._opened[name][0]
        return self.profile.connections.get(name)

    def _wanted(
        self, name: str, type: EngineName | None, connection: Connection | None, pool: Pool | None
    ) -> ConnectionSettings:
        known = self._settings(name)
        if connection is not None or (type is not None and known is None):
            frozen = self.profile.role == "frozen"
            around = Around(self.profile.folder, environ=os.environ, read_only=frozen)
            made = connection_of(name, connection or {}, around, type=type)
        elif known is None:
            names = [*self.profile.connections, *(set(self._opened) - set(self.profile.connections))]
            raise UnknownConnection(name, names, profile=self.profile.name)
        elif type not in (None, known.type):
            raise ConnectionConflict(name)
        else:
            made = known
        return made if pool is None else replace(made, pool=pool_of(pool))

    def _secrets(self) -> list[str]:
        known = [
            *self.profile.connections.values(),
            *(settings for settings, _ in list(self._opened.values())),
        ]
        passwords = [settings.password for settings in known]
        tokens = [token for ws in self.profile.ws.values() for token in (ws.auth_token, ws.admin_token)]
        return [text for secret in (*passwords, *tokens) if (text := _known(secret))]


def _known(secret: Secret | None) -> str | None:
    return None if secret is None else secret.known


def _same(one: ConnectionSettings, other: ConnectionSettings) -> bool:
    """Equality of settings leaves passwords out, which are compared here as far as they are known."""
    return one == other and _known(one.password) == _known(other.password)


def _profile_of(name: str | None) -> Profile:
    """The profile of this name, or the one that is meant; never the built-in one by default.

    A program whose configuration is missing would work on an empty file.
    """
    profile = load_profile(name)
    if profile.name == "local" and not profile.explicit:
        raise ConfigError(
            "no configuration found for Katax(); write a profile ('katax profile init'), set DATABASE_URL, "
            "or say Katax('local')"
        )
    return profile
