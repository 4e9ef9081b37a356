"""A loaded profile, as frozen values. Times are float seconds, paths absolute; the defaults are the defaults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple

from katax_cli.core.engine_names import EngineName
from katax_cli.core.measure.health import HealthPolicy
from katax_cli.core.resilience.breaker_policy import BreakerPolicy
from katax_cli.core.resilience.retry import RetryPolicy
from katax_cli.core.settings import ConnectionSettings, Role, Secret
from katax_cli.errors import ConfigError, UnknownConnection
from katax_cli.profiles.model.layer import Layer

RetrySettings = RetryPolicy
BreakerSettings = BreakerPolicy
HealthSettings = HealthPolicy


class LoggingSettings(NamedTuple):
    """Settings of the log. In the role dev all statements are logged, at debug level, unless `queries` is set."""

    level: Literal["trace", "debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"
    queries: Literal["off", "slow", "all"] = "slow"
    slow_query_ms: float = 100.0
    query_params: Literal["redacted", "plain"] = "redacted"


class ShutdownSettings(NamedTuple):
    """The time in which services drain."""

    timeout: float = 30.0


class MigrateSettings(NamedTuple):
    """Settings of migrations: connection, folder, table of the ledger, seconds to wait for the lock."""

    connection: str = "main"
    directory: str = "migrations"
    table: str = "katax_migrations"
    lock_timeout: float = 15.0
    schema_file: str | None = None


class SeedSettings(NamedTuple):
    """The folder of seeds."""

    directory: str = "seeds"


class BackupSettings(NamedTuple):
    """Settings of backups: their folder or URL, and that of the servers' own tools if it is not on PATH.

    `max_age` is the age in seconds from which `health` warns that the newest drilled backup is old; `smoke` is SQL that
    must succeed in a drill. Backups are encrypted for `recipients`, public keys of age, and decrypted with `identity`.
    """

    directory: str = "backups"
    tools: str | None = None
    max_age: float | None = None
    smoke: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()
    identity: Secret | None = None


class JournalSettings(NamedTuple):
    """The file in which commands record their writes; None: `journal.jsonl` in `.katax/`."""

    file: str | None = None

    def path(self, home: str) -> str:
        """The file, where `home` is the `.katax/` folder."""
        return self.file or f"{home}/journal.jsonl"


class StateSettings(NamedTuple):
    """The state database; `name` when it is one of the profile's connections."""

    connection: ConnectionSettings
    name: str | None = None


class CronSettings(NamedTuple):
    """Jobs: NAME → the keys that were written, checked, durations as seconds.

    `enabled` is a boolean or the expression as it was written; it is evaluated at each occurrence.
    """

    timezone: str | None = None
    history: float = 30 * 86400.0
    allow_dynamic_commands: bool = False
    jobs: Mapping[str, Mapping[str, object]] = MappingProxyType({})
    wrong: Mapping[str, str] = MappingProxyType({})
    """The jobs whose tables are wrong, and why: they stop commands on jobs, and no other one."""


class WsSettings(NamedTuple):
    """One Socket.IO server."""

    name: str
    port: int = 3001
    host: str = "127.0.0.1"
    path: str = "/socket.io"
    redis: str | None = None
    auth_token: Secret | None = None
    admin_token: Secret | None = None
    cors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Profile:
    """A named set of connections and all that goes with it.

    `folder` is where relative paths and jobs start; `source` the file it came from (None: `env`, `local`);
    `notes` are messages for people; `explicit` is true when the profile was said aloud (option, KATAX_PROFILE,
    default_profile, or exported URLs for `env`); `retry_set` is true when attempts were configured (one-shot
    commands make one else), `connection_retry_set` names the connections for which they were.
    """

    name: str
    role: Role
    folder: str
    home: str
    source: str | None
    connections: Mapping[str, ConnectionSettings] = field(hash=False)
    retry: RetrySettings
    breaker: BreakerSettings
    health: HealthSettings
    logging: LoggingSettings
    shutdown: ShutdownSettings
    migrate: MigrateSettings
    seed: SeedSettings
    backup: BackupSettings
    journal: JournalSettings
    state: StateSettings
    cron: CronSettings = field(hash=False)
    ws: Mapping[str, WsSettings] = field(hash=False)
    connection_retry: Mapping[str, RetrySettings] = field(default_factory=dict, hash=False)
    connection_breaker: Mapping[str, BreakerSettings] = field(default_factory=dict, hash=False)
    retry_set: bool = False
    connection_retry_set: frozenset[str] = frozenset()
    explicit: bool = False
    notes: tuple[str, ...] = ()
    layers: tuple[Layer, ...] = field(default=(), repr=False, compare=False)

    def connection(self, name: str) -> ConnectionSettings:
        """The connection of this name. Raises UnknownConnection."""
        if name not in self.connections:
            raise UnknownConnection(name, list(self.connections), profile=self.name)
        return self.connections[name]

    def match(self, pattern: str) -> list[ConnectionSettings]:
        """The connection of this name, or all that match a glob. Raises UnknownConnection for none."""
        if pattern in self.connections:
            return [self.connections[pattern]]
        from fnmatch import fnmatchcase

        matching = [each for name, each in self.connections.items() if fnmatchcase(name, pattern)]
        if not matching:
            raise UnknownConnection(pattern, list(self.connections), profile=self.name)
        return matching

    def default_connection(self, types: Iterable[EngineName], preferred: str) -> ConnectionSettings:
        """The preferred connection, else the only one of a fitting type. Raises ConfigError with the names."""
        if preferred in self.connections:
            return self.connections[preferred]
        wanted = tuple(types)
        fitting = [connection for connection in self.connections.values() if connection.type in wanted]
        if len(fitting) == 1:
            return fitting[0]
        kinds = " or ".join(wanted)
        if fitting:
            names = ", ".join(each.name for each in fitting)
            raise ConfigError(
                f"profile {self.name!r} has no connection {preferred!r} and several of type {kinds}; "
                f"choose with -c: {names}"
            )
        others = (
            ", ".join(f"{connection.name} ({connection.type})" for connection in self.connections.values())
            or "none"
        )
        raise ConfigError(f"profile {self.name!r} has no connection of type {kinds}; connections: {others}")


class ProfileEntry(NamedTuple):
    """A line of `profile list`; `role` is None when the profile does not load, and `problem` says why."""

    name: str
    source: str | None
    role: Role | None
    chosen: bool
    problem: str | None = None
