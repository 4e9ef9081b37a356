"""The databases of a program by their names: those of its profile, and those that it configures itself."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self, TypeVar, overload

from katax_cli.core.engine_names import EngineName
from katax_cli.core.settings import ConnectionSettings, Secret
from katax_cli.errors import ConnectionConflict, Unavailable, UnknownConnection
from katax_cli.profiles.model.connections import ConnectionContext
from katax_cli.profiles.model.model import Profile
from katax_cli.profiles.sources.adhoc import PoolSource, connection_of, pool_of
from katax_cli.services.databases.database import Database
from katax_cli.services.runtime.runtime import Runtime

if TYPE_CHECKING:
    # Named as text below, where the linter does not look.
    from katax_cli.services.databases.clients import RedisDatabase  # noqa: F401
    from katax_cli.services.databases.mongodb import MongoDatabase  # noqa: F401
    from katax_cli.services.databases.sql import SqlDatabase  # noqa: F401

SqlT = TypeVar("SqlT")
RedisT = TypeVar("RedisT")
MongoT = TypeVar("MongoT")
ConnectionSource = str | Mapping[str, Any]
DEFAULT = "default"
"""The default name: the profile's `main`, where it has no connection that is called so."""
_PREFERRED = "main"


def shut_down(name: str) -> Unavailable:
    """The error of a request that comes after the shutdown of its container."""
    return Unavailable(name, "this container was shut down; make a new one, or call Katax.reset()")


class Override:
    """A service that stands for a name until `restore`, or the end of a `with` block."""

    def __init__(self, restore: Callable[[], None]) -> None:
        self.restore = restore

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()


class NamedDatabases(ABC, Generic[SqlT, RedisT, MongoT]):
    """Gives the databases of a program by their names: those for threads, or those for tasks."""

    @overload
    def database(
        self,
        name: str = ...,
        *,
        type: Literal["postgresql", "mysql", "sqlite"],
        connection: ConnectionSource | None = ...,
        pool: PoolSource | None = ...,
    ) -> SqlT: ...
    @overload
    def database(
        self,
        name: str = ...,
        *,
        type: Literal["redis"],
        connection: ConnectionSource | None = ...,
        pool: PoolSource | None = ...,
    ) -> RedisT: ...
    @overload
    def database(
        self,
        name: str = ...,
        *,
        type: Literal["mongodb"],
        connection: ConnectionSource | None = ...,
        pool: PoolSource | None = ...,
    ) -> MongoT: ...
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

        `connection` is a URL or the keys of a profile's connection, `pool` its `pool` table. Without them it is
        the profile's connection. Raises UnknownConnection, ConfigError for a configuration that is wrong,
        ConnectionConflict when the name is in use with another one, Unavailable after the shutdown.
        """
        return self._database(name, type, connection, pool)

    @abstractmethod
    def _database(
        self,
        name: str,
        type: EngineName | None,
        connection: ConnectionSource | None,
        pool: PoolSource | None,
    ) -> Any:
        """See `database`."""

    def db(self, name: str) -> Any:
        """The database of a name that is known. Raises UnknownConnection."""
        return self.database(name)


class Databases(NamedDatabases["SqlDatabase", "RedisDatabase", "MongoDatabase"]):
    """Opens a database when it is first asked for, and gives the same object every time; thread-safe."""

    runtime_class: ClassVar[type[Runtime]] = Runtime

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._runtime = self.runtime_class(profile)
        self._opened: dict[str, tuple[ConnectionSettings, Database]] = {}
        self._overrides: dict[str, list[object]] = {}
        self._closed = False
        self._lock = threading.RLock()

    def after_fork(self) -> None:
        self._lock = threading.RLock()

    def _database(
        self,
        name: str,
        type: EngineName | None,
        connection: ConnectionSource | None,
        pool: PoolSource | None,
    ) -> Any:
        with self._lock:
            if self._closed:
                raise shut_down(name)
            if connection is None and type is None:
                name = self.meant(name)
            if self.is_overridden(name):
                return self.stand_in(name)
            wanted = self._wanted(name, type, connection, pool)
            settings, database = self._opened.get(name, (wanted, None))
            if database is None or database.closed:
                database = self._runtime.open(wanted)
                self._opened[name] = (wanted, database)
            elif not _same(settings, wanted):
                raise ConnectionConflict(name)
            return database

    def meant(self, name: str) -> str:
        """The name of a connection: `default` is `main` where there is no connection that is called so."""
        if name != DEFAULT or self.is_overridden(name) or self._settings(name) is not None:
            return name
        return _PREFERRED

    def override(self, name: str, service: object) -> Override:
        """From now on `service` stands for `name`: for a `with` block, or until `restore()` of what this returns.

        A database, such as a TestDatabase or a TestRedis, stands for the connection of this name: the cache,
        sessions, locks and all else that is asked for later work on it. Any other object is what `database`,
        `cache`, `redis`, `records` and `socket` return for the name. The last override of a name counts. Objects
        that were handed out before stay what they are, and the container does not close `service`.
        """
        with self._lock:
            self._overrides.setdefault(name, []).append(service)
        return Override(lambda: self._restore(name, service))

    def is_overridden(self, name: str) -> bool:
        """True while another service stands for this name."""
        return name in self._overrides

    def stand_in(self, name: str) -> Any:
        """The service that stands for a name that is overridden."""
        return self._overrides[name][-1]

    def _restore(self, name: str, service: object) -> None:
        with self._lock:
            services = [each for each in self._overrides.pop(name, []) if each is not service]
            if services:
                self._overrides[name] = services

    def _settings(self, name: str) -> ConnectionSettings | None:
        """The settings of a name: as it was opened, else as the profile has them."""
        if name in self._opened:
            return self._opened[name][0]
        return self.profile.connections.get(name)

    def _wanted(
        self, name: str, type: EngineName | None, connection: ConnectionSource | None, pool: PoolSource | None
    ) -> ConnectionSettings:
        known = self._settings(name)
        if connection is not None or (type is not None and known is None):
            frozen = self.profile.role == "frozen"
            context = ConnectionContext(self.profile.folder, environ=os.environ, read_only=frozen)
            made = connection_of(name, connection or {}, context, type=type)
        elif known is None:
            names = [*self.profile.connections, *(set(self._opened) - set(self.profile.connections))]
            raise UnknownConnection(name, names, profile=self.profile.name)
        elif type not in (None, known.type):
            raise ConnectionConflict(name)
        else:
            made = known
        return made if pool is None else replace(made, pool=pool_of(pool))

    def secrets(self) -> list[str]:
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
