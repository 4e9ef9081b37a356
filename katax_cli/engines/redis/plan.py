"""The parameters of a redis-py client: login, TLS, timeouts, one attempt. Shared by all topologies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.retry import Retry

from katax_cli.core.settings import ConnectionSettings, TlsSettings
from katax_cli.engines.redis.connection import (
    CLIENT_NAME,
    CommandGuard,
    OneRoundTrip,
    RedisLogin,
    TcpConnection,
    TlsConnection,
    guarded,
)
from katax_cli.engines.redis.guard import ReadOnly
from katax_cli.engines.redis.pool import WaitingPool, labelled
from katax_cli.errors import ConfigError

SUBSCRIBER_PING_EVERY = 30


@dataclass(frozen=True, slots=True)
class ClientPlan:
    """One client to be made. `timeout` waits for each answer unless a call says otherwise."""

    settings: ConnectionSettings
    timeout: float | None
    socket: str | None = None
    subscriber: bool = False

    @property
    def guard(self) -> CommandGuard | None:
        return ReadOnly(self.settings.name) if self.settings.read_only else None

    def options(self) -> dict[str, Any]:
        """redis-py's arguments that all topologies share; its own retries are off."""
        settings = self.settings
        return {
            "credential_provider": login(settings),
            "protocol": 2,
            "client_name": CLIENT_NAME,
            "driver_info": None,
            "decode_responses": False,
            "socket_timeout": None if self.subscriber else self.timeout,
            "max_connections": settings.pool.max,
            "timeout": settings.pool.timeout,
        }

    def network(self) -> dict[str, Any]:
        return {
            "socket_connect_timeout": self.settings.connect_timeout,
            "socket_keepalive": True,
            **tls_options(self.settings.tls),
        }

    def single_options(self) -> dict[str, Any]:
        """The options of a client of one server: a cluster client has one database, and retries of its own."""
        health = {"health_check_interval": SUBSCRIBER_PING_EVERY} if self.subscriber else {}
        return {**self.options(), **health, "db": database_number(self.settings), "retry": no_retry()}

    def connection_class(self) -> type[AbstractConnection]:
        return self.class_of(TlsConnection if is_encrypted(self.settings) else TcpConnection)

    def class_of(self, connection_class: type[OneRoundTrip]) -> type[AbstractConnection]:
        """The class whose connections send what the guard lets."""
        return guarded(connection_class, self.guard)

    def pool_of(self, pool_class: type[WaitingPool]) -> type[WaitingPool]:
        """The class whose pools name the connection in errors."""
        return labelled(pool_class, self.settings.name)


def login(settings: ConnectionSettings) -> RedisLogin | None:
    """None when the profile has neither user nor password."""
    if not settings.password and not settings.user:
        return None
    return RedisLogin(settings.user, settings.password.reveal() if settings.password else "")


def no_retry() -> Retry:
    """katax is the only owner of retries."""
    return Retry(NoBackoff(), 0)


def database_number(settings: ConnectionSettings) -> int:
    """The database of the profile, 0 by default. Raises ConfigError when it is not a number."""
    text = settings.database or "0"
    if not text.isdecimal():
        raise ConfigError(f"{settings.name!r} has the database {text!r}, expected a number such as 0")
    return int(text)


def is_encrypted(settings: ConnectionSettings) -> bool:
    return settings.tls is not None and settings.tls.mode != "disable"


def tls_options(tls: TlsSettings | None) -> dict[str, Any]:
    """TLS as redis-py names it: `require` encrypts, `verify-ca` checks the issuer, `verify-full` the name too."""
    if tls is None or tls.mode == "disable":
        return {}
    return {
        "ssl_cert_reqs": "none" if tls.mode == "require" else "required",
        "ssl_check_hostname": tls.mode == "verify-full",
        "ssl_ca_certs": tls.ca,
        "ssl_certfile": tls.cert,
        "ssl_keyfile": tls.key,
    }
