"""Opening a PostgreSQL connection: exact time limits, one login attempt, the session prepared at start-up."""

from __future__ import annotations

import select
import socket
import struct
import time
from math import inf
from pathlib import PurePath

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_attempts, make_conninfo
from psycopg.pq import ConnStatus, ExecStatus, PollingStatus, TransactionStatus
from psycopg.pq.abc import PGconn

from katax_cli.core.clock import SYSTEM
from katax_cli.core.resilience.failure import Failure, FailureKind
from katax_cli.core.settings import ConnectionSettings
from katax_cli.core.sql import Residue
from katax_cli.engines.base import SessionRemains
from katax_cli.engines.postgresql.failures import ConnectFailed, connect_failure
from katax_cli.engines.postgresql.session import PostgresConnection, milliseconds
from katax_cli.engines.postgresql.wire import check_alive, exchange
from katax_cli.errors import Refused

# A peer that vanished is noticed within about a minute, also while a statement waits.
# No tcp_user_timeout: it also ends the connection to a server that lives, but takes nothing for so long.
_KEEPALIVE = {
    "keepalives": "1",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}
SSL_REQUEST = struct.pack("!ii", 8, 80877103)
# The server said no, for a reason that no other address of it changes.
_FINAL = frozenset({FailureKind.AUTHENTICATION, FailureKind.CONFIGURATION})


def open_connection(
    settings: ConnectionSettings, timeout: float | None, kind: type[PostgresConnection] = PostgresConnection
) -> PostgresConnection:
    """A new session in autocommit mode. Raises ConnectFailed, or Refused if it should be read-only and is not.

    Each address gets at most `connect_timeout`, all of them together at most `timeout`.
    """
    pgconn = _first_that_answers(settings, timeout)
    connection = kind(pgconn)
    try:
        connection.prepare(settings)
        _take_over(connection, settings)
    except BaseException:
        connection.close()
        raise
    return connection


def ask_for_tls(wire: socket.socket) -> None:
    """Raises OSError for a server without TLS."""
    wire.sendall(SSL_REQUEST)
    if wire.recv(1) != b"S":
        raise OSError("the server does not offer it")


def parameters(settings: ConnectionSettings) -> dict[str, str]:
    """libpq's connection parameters, without the password."""
    given = {
        "application_name": "katax",
        "gssencmode": "disable",
        **_KEEPALIVE,
        **_address(settings),
        "user": settings.user,
        "dbname": settings.database,
        **_tls(settings),
        **settings.options,
        "client_encoding": "UTF8",
        "options": _session_options(settings),
    }
    return {name: value for name, value in given.items() if value}


def _address(settings: ConnectionSettings) -> dict[str, str | None]:
    if settings.nodes:
        hosts, ports = zip(*settings.nodes, strict=True)
        return {"host": ",".join(hosts), "port": ",".join(map(str, ports))}
    port = str(settings.port) if settings.port else None
    if not settings.socket:
        return {"host": settings.host, "port": port}
    socket = PurePath(settings.socket)
    if socket.name.startswith(".s.PGSQL."):
        return {"host": str(socket.parent), "port": socket.suffix[1:]}
    return {"host": str(socket), "port": port}


def _tls(settings: ConnectionSettings) -> dict[str, str | None]:
    if settings.tls is None:
        return {}
    tls = settings.tls
    # libpq trusts the system's authorities only when told, and only with full verification.
    ca = tls.ca or ("system" if tls.mode == "verify-full" else None)
    return {"sslmode": tls.mode, "sslrootcert": ca, "sslcert": tls.cert, "sslkey": tls.key}


def _session_options(settings: ConnectionSettings) -> str:
    """Settings that the session starts with, so that they cost no round trip; a pooler would refuse them."""
    if settings.pooler:
        return ""
    # Later ones win: the guard stays last.
    guard = "-c default_transaction_read_only=on" if settings.read_only else ""
    return f"{settings.options.get('options', '')} {guard}".strip()


def _first_that_answers(settings: ConnectionSettings, timeout: float | None) -> PGconn:
    secret = {"password": settings.password.reveal()} if settings.password else {}
    ends = time.monotonic() + timeout if timeout is not None else inf
    failed: ConnectFailed | None = None
    attempts = _attempts(settings)
    for left, attempt in zip(range(len(attempts), 0, -1), attempts, strict=True):
        share = (ends - time.monotonic()) / left
        try:
            return _handshake({**attempt, **secret}, min(settings.connect_timeout, share))
        except ConnectFailed as error:
            failed = error
            if error.failure.kind in _FINAL:
                break
    assert failed is not None, "there is at least one address, and it failed"
    raise failed


def _attempts(settings: ConnectionSettings) -> list[dict[str, str]]:
    try:
        # An address in the environment would be another one than the profile's; the near end of a tunnel is given.
        attempts = conninfo_attempts({"hostaddr": "", **parameters(settings)})
    except psycopg.Error as error:
        host = settings.host or settings.address
        why = f"host name {host!r} could not be resolved"
        raise ConnectFailed(Failure(FailureKind.UNREACHABLE, why)) from error
    return [{name: str(value) for name, value in attempt.items()} for attempt in attempts]


def _handshake(attempt: dict[str, str], seconds: float) -> PGconn:
    ends = time.monotonic() + max(seconds, 0.0)
    try:
        pgconn = pq.PGconn.connect_start(make_conninfo("", **attempt).encode())
    except psycopg.Error as error:
        raise ConnectFailed(connect_failure(str(error))) from None
    try:
        password_sent = False
        while (state := _poll(pgconn, password_sent=password_sent)) is not PollingStatus.OK:
            password_sent = password_sent or bool(pgconn.used_password)
            if not _ready(pgconn.socket, state, ends - time.monotonic()):
                where = f"{attempt.get('host')}:{attempt.get('port', 5432)}"
                raise ConnectFailed(
                    Failure(FailureKind.UNREACHABLE, f"no answer from {where} within {seconds:.3g} s")
                )
    except BaseException:
        pgconn.finish()
        raise
    pgconn.nonblocking = 1
    return pgconn


def _poll(pgconn: PGconn, *, password_sent: bool) -> PollingStatus:
    state = PollingStatus.FAILED if pgconn.status == ConnStatus.BAD else pgconn.connect_poll()
    text = pgconn.get_error_message()
    if state == PollingStatus.FAILED or _would_try_again(text):
        raise ConnectFailed(connect_failure(text, password_was_sent=password_sent))
    return PollingStatus(state)


def _would_try_again(text: str) -> bool:
    """True when libpq, going on in spite of a refusal, is about to log in a second time.

    With sslmode=prefer it tries again without TLS whatever the server said, and a lockout counts both
    attempts of a wrong password. That is of use only where pg_hba.conf has no entry for TLS.
    """
    return "FATAL" in text and "pg_hba.conf" not in text


def _ready(fd: int, state: PollingStatus, seconds: float) -> bool:
    waiter = select.poll()
    waiter.register(fd, select.POLLIN if state is PollingStatus.READING else select.POLLOUT)
    return seconds > 0 and bool(waiter.poll(seconds * 1000))


def reset_session(connection: PostgresConnection, settings: ConnectionSettings) -> None:
    """Makes the session as it was opened, in one round trip. Raises SessionRemains when that cannot be."""
    if connection.residue is Residue.LASTING:
        raise SessionRemains("the session was changed in ways that DISCARD ALL does not undo")
    if connection.pooled:
        # The server's session is the pooler's, and somebody else's by now.
        connection.rollback()
        connection.forget(None, None)
        return
    is_open = connection.status != TransactionStatus.IDLE
    # The seed of random() is the one setting that DISCARD ALL keeps.
    reseed = b"SELECT setseed(%f)" % SYSTEM.random()
    _take_over(connection, settings, *([b"ROLLBACK"] if is_open else []), b"DISCARD ALL", reseed)


def _take_over(connection: PostgresConnection, settings: ConnectionSettings, *first: bytes) -> None:
    """Runs `first`, asks what the session is set to, and forgets what was known of it."""
    guarded = settings.read_only and not settings.pooler
    usual = None if settings.pooler else milliseconds(settings.statement_timeout)
    questions = [_limit_question(usual), *([b"SHOW default_transaction_read_only"] if guarded else [])]

    def queue(pgconn: PGconn) -> None:
        for statement in (*first, *questions):
            pgconn.send_query_params(statement, None)
            pgconn.pipeline_sync()

    check_alive(connection)
    answers = exchange(connection, queue, replies=2 * (len(first) + len(questions)))[::2]
    for results in answers:
        if results[0].status == ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(results[0])
    limit, *read_only = [results[0].get_value(0, 0) for results in answers[len(first) :]]
    if guarded and read_only != [b"on"]:
        raise Refused(f"{settings.name!r} is read-only, but the server did not make its session so")
    connection.forget(limit, usual)


def _limit_question(usual: int | None) -> bytes:
    """Asks for the limit of statements that role, database or url set, and sets the usual one."""
    if usual is None:
        return b"SHOW statement_timeout"
    return (
        b"SELECT current_setting('statement_timeout'), set_config('statement_timeout', '%d', false)" % usual
    )
