"""The settings of a connection, as frozen values: made by `profiles`, used by `engines`.

Times are float seconds. The defaults here are the defaults everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from katax_cli.core.engine_names import EngineName as EngineName
from katax_cli.core.resilience.breaker_policy import BreakerPolicy
from katax_cli.core.resilience.retry import RetryPolicy
from katax_cli.errors import ConfigError, Refused

Role = Literal["dev", "stage", "prod", "frozen"]
TlsMode = Literal["disable", "require", "verify-ca", "verify-full"]
Expect = Literal["primary", "standby", "any"]
Topology = Literal["single", "sentinel", "cluster"]

ROLES: tuple[Role, ...] = get_args(Role)
TLS_MODES: tuple[TlsMode, ...] = get_args(TlsMode)
LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts that serve this machine only."""
EMBEDDED_FOLDER = "redis"
"""Where an embedded server keeps its data, inside `.katax/`."""
DEFAULT_PORTS: Mapping[str, int] = {"postgresql": 5432, "mysql": 3306, "mongodb": 27017, "redis": 6379}


class Secret:
    """A value that never shows: `repr`, `str`, formatting and pickling give no hint of it.

    It is resolved on first `reveal()` (a password command runs only when its connection is opened).
    """

    __slots__ = ("_resolve", "_value")

    def __init__(self, resolve: Callable[[], str]) -> None:
        self._resolve = resolve
        self._value: str | None = None

    @classmethod
    def of(cls, text: str) -> Secret:
        secret = cls(lambda: text)
        secret._value = text
        return secret

    @property
    def known(self) -> str | None:
        """The secret if it has been resolved, for those who must keep it out of what they write."""
        return self._value

    def reveal(self) -> str:
        """The secret itself. Raises ConfigError or Refused when it cannot be had."""
        if self._value is None:
            self._value = self._resolve()
        _revealed.add(self._value)
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")


_revealed: set[str] = set()


def revealed_secrets() -> tuple[str, ...]:
    """Every secret that left its Secret in this process, for the last net before something is printed."""
    return tuple(_revealed)


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """Sizes and times of a pool. Raises ValueError when they contradict each other.

    Of SQL pools a program may give `configure(connection)`, called on the driver's connection when it was opened
    and after its session was reset, and `reset(connection)`, called whenever it comes back. One that raises has
    the connection closed.
    """

    min: int = 0
    max: int = 20
    timeout: float = 5.0
    idle_timeout: float = 30.0
    max_lifetime: float = 3600.0
    configure: Callable[[Any], object] | None = None
    reset: Callable[[Any], object] | None = None

    def __post_init__(self) -> None:
        if self.max < 1:
            raise ValueError(f"pool max is {self.max}, expected at least 1")
        if not 0 <= self.min <= self.max:
            raise ValueError(f"pool min is {self.min}, expected 0 to max ({self.max})")
        for name in ("timeout", "idle_timeout", "max_lifetime"):
            if getattr(self, name) <= 0:
                raise ValueError(f"pool {name} is {getattr(self, name):g}, expected more than 0 seconds")


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The encryption of the connection and the certificates it trusts; paths are absolute."""

    mode: TlsMode
    ca: str | None = None
    cert: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """One named connection of a profile, checked and with paths resolved.

    `path` is SQLite's file or ":memory:"; `nodes` are the (host, port) pairs of Sentinels or of a cluster
    (otherwise the one server), `service` is Sentinel's name of the primary; `srv` says that `host` is the name
    of a DNS seed list (mongodb+srv); `options` are what the URL's query string held beyond what katax knows,
    for the driver: they may hold secrets and never show, `ignored` the names of those that only other tools
    read. `decimals` reads numbers inside JSON columns as Decimals instead of floats; `breaker` and `retry`
    override the profile's for a connection that a program describes itself. `ssh` is the machine through which
    the server is reached; `through` describes that way in the settings of its near end, which a driver gets.
    Replicas and `direct` are whole settings.
    """

    name: str
    type: EngineName
    host: str | None = None
    port: int | None = None
    user: str | None = None
    password: Secret | None = field(default=None, compare=False)
    database: str | None = None
    socket: str | None = None
    path: str | None = None
    embedded: bool = False
    topology: Topology = "single"
    nodes: tuple[tuple[str, int], ...] = ()
    service: str | None = None
    srv: bool = False
    options: Mapping[str, str] = field(default_factory=dict, hash=False, repr=False)
    ignored: tuple[str, ...] = field(default=(), compare=False, repr=False)
    connect_timeout: float = 2.0
    statement_timeout: float = 30.0
    read_only: bool = False
    pool: PoolSettings = PoolSettings()
    tls: TlsSettings | None = None
    prefix: str = ""
    decimals: bool = False
    pooler: Literal["transaction"] | None = None
    breaker: BreakerPolicy | None = None
    retry: RetryPolicy | None = None
    expect: Expect | None = None
    ssh: str | None = None
    through: str | None = None
    replicas: tuple[ConnectionSettings, ...] = ()
    direct: ConnectionSettings | None = None

    @property
    def expected(self) -> Expect:
        """The role that a healthy server has: `expect`, else any where the profile only reads, else primary."""
        return self.expect or ("any" if self.read_only else "primary")

    @property
    def address(self) -> str:
        """The address of the server, for people: without user, password or options."""
        if self.through is not None:
            return self.through
        if self.path is not None:
            return self.path
        if self.embedded:
            return "embedded"
        if self.nodes:
            return ",".join(f"{host}:{port}" for host, port in self.nodes)
        return self.socket or f"{self.host}:{self.port}"

    def refuse_read_only(self) -> None:
        """Raises Refused on a connection that may not be changed."""
        if self.read_only:
            raise Refused(f"{self.name!r} is read-only")

    def past_pooler(self) -> ConnectionSettings:
        """The settings of a session of our own: a transaction pooler would hand it, and its lock, to others.

        Raises ConfigError behind a pooler without direct_url.
        """
        if self.pooler is None:
            return self
        if self.direct is None:
            raise ConfigError(
                f"{self.name!r} is behind a pooler, where a lock has no session to live in; set its direct_url"
            )
        return self.direct
