"""Opening a session: one attempt, TLS as the profile says, nothing switched on that a server could abuse."""

from __future__ import annotations

import socket
from typing import Any

import pymysql
from pymysql.constants import CR
from pymysql.converters import escape_item

from katax_cli.core.settings import ConnectionSettings
from katax_cli.engines.mysql.failures import connect_failed
from katax_cli.engines.mysql.session import CHARSET, VALUES, MysqlSession
from katax_cli.engines.mysql.tls import verifying
from katax_cli.errors import ConfigError

# Seconds until the first question, between questions, and how many may stay without an answer.
_KEEPALIVE = tuple(
    (getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
)
_OPTIONS = frozenset({"collation", "sql_mode", "init_command", "bind_address"})


def open_session(settings: ConnectionSettings, timeout: float | None) -> MysqlSession:
    """A new session in autocommit mode: one attempt to log in. Raises PyMySQL's errors or ConfigError."""
    given: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port or 0,
        "user": settings.user,
        # PyMySQL would take a text for Latin-1.
        "password": settings.password.reveal().encode() if settings.password else b"",
        "database": settings.database or None,
        "charset": CHARSET,
        "autocommit": True,
        "local_infile": False,
        "program_name": "katax",
        "conv": VALUES,
        "connect_timeout": _connect_timeout(settings, timeout),
        "read_timeout": timeout,
        "write_timeout": timeout,
        **_tls(settings),
        **_options(settings),
        "defer_connect": True,
    }
    session = MysqlSession(**given)
    # Passwords may cross a local socket in the clear, as MySQL's newer plugins ask for.
    session._secure = settings.socket is not None and settings.through is None
    try:
        session.connect(_local_socket(settings.socket, given["connect_timeout"]) if settings.socket else None)
    except pymysql.err.OperationalError as error:
        failed = connect_failed(error)
        # An error that is its own cause would have no end for whoever follows its causes.
        raise failed from (error if failed is not error else error.__cause__)
    _keep_alive(session)
    return session


def _keep_alive(session: MysqlSession) -> None:
    """PyMySQL has the kernel ask whether the peer is there, after two hours as the system's usual; a minute is soon."""
    wire = session._sock
    if wire is not None and wire.family != socket.AF_UNIX:
        for option, value in _KEEPALIVE:
            wire.setsockopt(socket.IPPROTO_TCP, option, value)


def session_settings(settings: ConnectionSettings) -> str:
    """The SET that gives a session which the server reset what `open_session` gave it."""
    options = _options(settings)
    names = f"NAMES {CHARSET}" + (f" COLLATE {options['collation']}" if "collation" in options else "")
    mode = f", sql_mode = {escape_item(options['sql_mode'], CHARSET)}" if "sql_mode" in options else ""
    return f"SET {names}, autocommit = 1{mode}"


def _local_socket(path: str, timeout: float) -> socket.socket:
    """PyMySQL would name `localhost` instead of the path, and leave the socket open when no server listens."""
    wire = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        wire.settimeout(timeout)
        wire.connect(path)
    except OSError as error:
        wire.close()
        raise pymysql.err.OperationalError(
            CR.CR_CONNECTION_ERROR, f"no server at {path} ({error})"
        ) from error
    return wire


def _connect_timeout(settings: ConnectionSettings, timeout: float | None) -> float:
    return settings.connect_timeout if timeout is None else min(settings.connect_timeout, timeout)


def _options(settings: ConnectionSettings) -> dict[str, str]:
    unknown = sorted(set(settings.options) - _OPTIONS)
    if unknown:
        known = ", ".join(sorted(_OPTIONS))
        raise ConfigError(
            f"{settings.name!r}: unknown option {unknown[0]!r} in the url; known options: {known}"
        )
    return dict(settings.options)


def _tls(settings: ConnectionSettings) -> dict[str, Any]:
    """Without a mode PyMySQL encrypts where the server can, and trusts anybody; over a socket it need not."""
    tls = settings.tls
    if tls is None:
        return {"ssl_disabled": True} if settings.socket else {}
    if tls.mode == "disable":
        return {"ssl_disabled": True}
    try:
        return {"ssl": verifying(tls)}
    except OSError as error:
        raise ConfigError(
            f"{settings.name!r}: tls files cannot be used: {error}; check their paths"
        ) from error
