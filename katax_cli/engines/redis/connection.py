"""redis-py connections that log in within one round trip, keep the caller's time and send what the guard lets.

redis-py asks for AUTH, CLIENT SETNAME and SELECT one after the other; and it raises the same errors for a
connection that could not be opened as for an answer that did not come, which is the difference between
"nothing happened" and "outcome unknown".
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from redis.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.credentials import CredentialProvider
from redis.exceptions import AuthenticationError, NoPermissionError, RedisClusterException
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from katax_cli.core.clock import SYSTEM
from katax_cli.engines.redis.time_limits import answer_within, at_most, unlimited

CLIENT_NAME = "katax"
_LONGEST_WORD = 32
CommandWords = Sequence[Any]
CommandGuard = Callable[[AbstractConnection, CommandWords], None]


_SESSION_COMMANDS = frozenset(
    {"SELECT", "AUTH", "HELLO", "RESET", "MONITOR", "CLIENT", "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"}
    | {"MULTI", "WATCH", "EXEC", "DISCARD", "UNWATCH"}
)
_CLIENT_STATE = frozenset({"REPLY", "TRACKING", "CACHING", "NO-EVICT", "NO-TOUCH", "SETNAME", "SETINFO"})


class RedisNotSent(RedisConnectionError):
    """The connection could not be opened, so the command was not sent; the cause is chained."""


class RedisLogin(CredentialProvider):
    """User and password, kept out of the arguments that redis-py's objects show."""

    def __init__(self, user: str | None, password: str) -> None:
        self._user = user
        self._password = password
        self._remembers = False
        self._refused: AuthenticationError | None = None

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        if self._refused:
            raise self._refused
        return (self._user, self._password) if self._user else (self._password,)

    def refused(self, error: AuthenticationError) -> None:
        """Called by a connection whose login failed."""
        if self._remembers:
            self._refused = error

    @contextmanager
    def at_most_once(self) -> Iterator[None]:
        """Within it, a login that one node of a cluster refused is not tried on the others."""
        self._remembers = True
        try:
            yield
        except RedisClusterException as error:
            raise (self._refused or error) from error.__cause__
        finally:
            self._remembers, self._refused = False, None


class OneRoundTrip(AbstractConnection):
    """The common part of our connections. `guard` is set by a subclass when the connection is read-only."""

    guard: ClassVar[CommandGuard | None] = None
    _changed = _in_multi = False
    opened_at = idle_since = 0.0
    """When it logged in and when it came back last, on the monotonic clock; for its pool."""
    logins = 0
    _sock: Any
    _arrivals: select.poll

    def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = False) -> None:
        try:
            super().connect_check_health(check_health=check_health, retry_socket_connect=retry_socket_connect)
        except (RedisConnectionError, RedisTimeoutError) as error:
            # Subclasses say themselves what is wrong (wrong password, loading).
            if type(error) in (RedisConnectionError, RedisTimeoutError):
                # A server without TLS waits for the rest of what it takes for a command.
                waited = isinstance(self, SSLConnection) and isinstance(error, RedisTimeoutError)
                raise RedisNotSent(
                    f"{error}; does the server speak TLS?" if waited else str(error)
                ) from error
            raise

    def make_ready(self) -> None:
        """Opens it unless it is open and silent; from here on each answer gets the time that its caller has."""
        if self._sock is not None and self.has_news():
            self.disconnect()
        if self._sock is None:
            self.connect()
        self._sock.settimeout(self.socket_timeout)

    def has_news(self) -> bool:
        """True when the server closed the connection or sent data unasked; no round trip."""
        # redis-py's own look takes three calls to the system, and an exception where there is nothing.
        unread = getattr(self._parser._buffer, "unread_bytes", None)
        if unread is not None and not unread() and not self._arrivals.poll(0):
            return False
        try:
            return bool(self.can_read(0))
        except (RedisConnectionError, RedisTimeoutError, OSError):
            return True

    def on_connect_check_health(self, check_health: bool = True) -> None:
        # The parser goes back to this time whenever it looked for data without waiting, so it is not the caller's.
        with unlimited():
            self._parser.on_connect(self)
        handshake = _handshake(self)
        self.send_packed_command(super().pack_commands(handshake), check_health=False)
        for command in handshake:
            self._settle(command)
        self._changed = self._in_multi = False
        self._arrivals = select.poll()
        self._arrivals.register(self._sock, select.POLLIN)
        self.opened_at = self.idle_since = SYSTEM.monotonic()
        self.logins += 1

    def _settle(self, command: CommandWords) -> None:
        try:
            self.read_response()
        except AuthenticationError as error:
            if isinstance(self.credential_provider, RedisLogin):
                self.credential_provider.refused(error)
            raise
        except NoPermissionError:
            # A restricted user may not be allowed to PING or to have a name; it was let in all the same.
            if command[0] not in ("PING", "CLIENT"):
                raise

    @property
    def socket_timeout(self) -> float | None:
        return answer_within(self._socket_timeout)

    @socket_timeout.setter
    def socket_timeout(self, value: float | None) -> None:
        self._socket_timeout = value

    @property
    def socket_connect_timeout(self) -> float | None:
        return at_most(self._socket_connect_timeout)

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, value: float | None) -> None:
        self._socket_connect_timeout = value

    # Whatever surface of a client a command comes from, one of these three turns it into bytes.

    def send_command(self, *args: Any, **options: Any) -> None:
        self._check(args)
        super().send_command(*args, **options)

    def pack_command(self, *args: Any) -> Any:
        self._check(args)
        return super().pack_command(*args)

    def pack_commands(self, commands: Iterable[CommandWords]) -> Any:
        wanted = list(commands)
        for command in wanted:
            self._check(command)
        return super().pack_commands(wanted)

    def _check(self, command: CommandWords) -> None:
        guard = type(self).guard
        if guard is not None:
            guard(self, command)
        # The driver sends a first word that holds blanks as several.
        words = _word(command[0]).split() if command else []
        if words and words[0] in _SESSION_COMMANDS:
            self._note([*words, *map(_word, command[1:2])][:2])

    def _note(self, words: list[str]) -> None:
        if words[0] in ("MULTI", "WATCH"):
            self._in_multi = True
        elif words[0] in ("EXEC", "DISCARD", "UNWATCH"):
            self._in_multi = False
        elif words[0] != "CLIENT" or words[-1] in _CLIENT_STATE:
            self._changed = True

    @property
    def is_connected(self) -> bool:
        """True while there is a socket; redis-py has this since 8.0."""
        return self._sock is not None

    @property
    def is_soiled(self) -> bool:
        """True when the session keeps state for its next user: another database, an open transaction."""
        return self._changed or self._in_multi


class TcpConnection(OneRoundTrip, Connection):
    """Plain TCP."""


class TlsConnection(OneRoundTrip, SSLConnection):
    """TLS over TCP."""


class UnixConnection(OneRoundTrip, UnixDomainSocketConnection):
    """A Unix domain socket."""


def guarded(
    connection_class: type[AbstractConnection], guard: CommandGuard | None
) -> type[AbstractConnection]:
    """A connection class whose commands pass `guard`; pools make connections from nothing but a class."""
    if guard is None:
        return connection_class
    return type(connection_class.__name__, (connection_class,), {"guard": staticmethod(guard)})


def _word(part: object) -> str:
    """The beginning of a word in upper case; no command, and no subcommand, is longer."""
    if isinstance(part, bytes):
        return part.lstrip()[:_LONGEST_WORD].decode("latin-1").strip().upper()
    return part.lstrip()[:_LONGEST_WORD].strip().upper() if isinstance(part, str) else ""


def ask(connection: AbstractConnection, *command: Any) -> Any:
    """One command on a connection that is checked out and idle, past its guard."""
    try:
        AbstractConnection.send_command(connection, *command)
        return connection.read_response()
    except (RedisConnectionError, RedisTimeoutError):
        connection.disconnect()
        raise


def _handshake(connection: AbstractConnection) -> list[CommandWords]:
    provider = connection.credential_provider
    login = [("AUTH", *provider.get_credentials())] if provider else []
    select = [("SELECT", connection.db)] if connection.db else []
    return [*login, *select, ("CLIENT", "SETNAME", connection.client_name or CLIENT_NAME), ("PING",)]
