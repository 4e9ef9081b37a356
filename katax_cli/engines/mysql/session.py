"""One connection to the server: how a statement is sent, how long it may take, what its values become."""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import date, datetime, time
from functools import cached_property
from io import BufferedReader
from math import ceil, isfinite, log2
from typing import Any, cast

import pymysql
from pymysql.charset import charset_by_name
from pymysql.connections import Connection
from pymysql.constants import COMMAND, CR, ER, FIELD_TYPE
from pymysql.converters import conversions, escape_datetime, escape_float, escape_time
from pymysql.cursors import Cursor, SSCursor

from katax_cli.core.sql import AnySql, Residue, Statement, statement_of
from katax_cli.core.text.text import RawJson
from katax_cli.engines.base import Params, SessionRemains, Text
from katax_cli.engines.mysql.places import note_place
from katax_cli.engines.mysql.rows import KnownColumns, RememberedResult
from katax_cli.engines.mysql.tls import trusting

# The server ends a statement at its timeout; when it does not, the socket gives up this much later.
GRACE = 0.5
_EXACT_UP_TO = 5.0
CHARSET = "utf8mb4"
_COM_RESET_CONNECTION = 0x1F
# What the server's reset leaves as it is.
_PLACE = "SELECT DATABASE(), CURRENT_ROLE()"
# A limit of the session's own stands where it is shorter.
_SHORTER = "IF(@@max_statement_time > 0, LEAST(@@max_statement_time, {0:f}), {0:f})"
_IN_TRANSACTION = 1
_IN_READ_ONLY_TRANSACTION = 0x2000
_UNTIMED = ("transaction", "session")


def _bit_number(value: bytes) -> int:
    return int.from_bytes(value, "big")


def _moment(text: str) -> datetime | str:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return text


def _day(text: str) -> date | str:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return text


def _zoneless(encode: Callable[[Any, Any], str]) -> Callable[[Any, Any], str]:
    """PyMySQL would silently drop the zone, and so change the moment."""

    def encoded(value: datetime | time, mapping: Any = None) -> str:
        if value.tzinfo is not None:
            raise ValueError(
                f"a {type(value).__name__} with a time zone was given, and MySQL keeps none; "
                "give it without one, in the session's time zone"
            )
        return encode(value, mapping)

    return encoded


def _finite(value: float, mapping: Any = None) -> str:
    if not isfinite(value):
        raise ValueError(f"{value} was given, and MySQL has no such number; give NULL or a finite one")
    return escape_float(value, mapping)


# Dates that are none ("0000-00-00") stay text; BIT is a number; JSON stays text as the server sends it.
VALUES: dict[Any, Callable[..., Any]] = {
    **conversions,
    datetime: _zoneless(escape_datetime),
    time: _zoneless(escape_time),
    float: _finite,
    FIELD_TYPE.BIT: _bit_number,
    FIELD_TYPE.DATE: _day,
    FIELD_TYPE.DATETIME: _moment,
    FIELD_TYPE.TIMESTAMP: _moment,
}
_TEXTS: dict[int, Callable[[Any], Any]] = {FIELD_TYPE.BIT: lambda value: str(_bit_number(value))}


class MysqlSession(Connection):
    """PyMySQL's connection, for one thread at a time.

    What PyMySQL keeps to itself and is used here: its socket, its time limits (which it offers for the whole
    connection only), and the result under way (which it reads to the end, however long that is).
    """

    server_version: str
    server_status: int
    server_thread_id: tuple[int]
    _sock: socket.socket | None
    _read_timeout: float | None
    _write_timeout: float | None
    _secure: bool
    ctx: ssl.SSLContext
    _rfile: BufferedReader
    _next_seq_id: int
    _result: Any
    _force_close: Callable[[], None]
    _execute_command: Callable[[int, bytes], None]
    _read_ok_packet: Callable[[], object]
    autocommit_mode: bool
    init_command: str | None
    guarded = False
    waits_for_readers = False
    residue = Residue.NONE
    known_columns: dict[bytes, KnownColumns]
    _limit_ms = 0
    _own_limit_ms: int | None = None
    _place: tuple[Any, ...] | None = None
    _polled: socket.socket | None = None
    """The socket that `_arrivals` looks at: TLS and connecting anew make another one."""
    _arrivals: select.poll

    def __init__(self, **options: Any) -> None:
        self.known_columns = {}
        super().__init__(**options)

    def _create_ssl_ctx(self, given: ssl.SSLContext | dict[str, Any]) -> ssl.SSLContext:
        """PyMySQL's own reads all authorities of the system for each connection, and then trusts anybody."""
        return given if isinstance(given, ssl.SSLContext) else trusting()

    @cached_property
    def is_mariadb(self) -> bool:
        return "mariadb" in self.server_version.lower()

    @property
    def is_streaming(self) -> bool:
        return self._result is not None and bool(self._result.unbuffered_active)

    @property
    def in_transaction(self) -> bool:
        return bool(self.server_status & _IN_TRANSACTION)

    @property
    def in_read_only_transaction(self) -> bool:
        """True in a read-only transaction, by the server's last answer."""
        return bool(self.server_status & _IN_READ_ONLY_TRANSACTION)

    def send(self, sql: AnySql, params: Params = None, timeout: float | None = None) -> Cursor:
        """As `start`; returns a cursor for the rows."""
        self.start(sql, params, timeout)
        cursor: Any = SSCursor(self)
        cursor._executed = sql
        cursor._do_get_result()
        return cast("Cursor", cursor)

    def start(self, sql: AnySql, params: Params = None, timeout: float | None = None) -> Any:
        """Runs one statement, on the server too for at most `timeout`; returns its result, whose rows are to be read.

        An InterfaceError means that the statement was not sent, so that it is certain not to have run.
        """
        statement = statement_of(sql, "mysql")
        text, values = statement.query.bind(params)
        self.check_alive()
        if values is not None:
            text %= tuple(map(self.escape, values))
        text = self._limited(text, statement, timeout)
        self.give(timeout)
        try:
            self.query(text, unbuffered=True)
        except pymysql.err.OperationalError as error:
            self.note_rollback(error)
            raise
        except pymysql.err.ProgrammingError as error:
            if params is None:
                note_place(error, statement.text)
            raise
        return self._result

    def _read_query_result(self, unbuffered: bool = False) -> int:
        """As PyMySQL's, with results that know columns."""
        self._result = None
        result: Any = RememberedResult(self)
        if unbuffered:
            result.init_unbuffered_query()
        else:
            result.read()
        self._result = result
        if result.server_status is not None:
            self.server_status = result.server_status
        return int(result.affected_rows)

    def run_ahead(self, statements: Iterable[bytes]) -> None:
        """Runs statements without rows; each is made while the server works at the one before. Raises as `query`."""
        waits = False
        try:
            for sql in statements:
                if waits:
                    waits = False
                    self._read_query_result()
                self._execute_command(COMMAND.COM_QUERY, sql)
                waits = True
        except Exception:
            if waits:
                self._read_query_result()
            raise
        except BaseException:
            # An unread answer would be taken for that of the next statement.
            self.drop()
            raise
        if waits:
            self._read_query_result()

    def note(self, statement: Statement) -> None:
        """Remembers what the statement, which is about to be sent, may leave in the session."""
        if left := statement.residue:
            self.mark(left)

    def mark(self, left: Residue) -> None:
        if self._place is None and left is Residue.RESETTABLE:
            self.check_alive()
            self._place = self._ask(_PLACE)
        self.residue = max(self.residue, left)
        self._own_limit_ms = None

    def renew(self, restore: str) -> None:
        """Has the server reset the session, then runs `restore`, which sets what connecting had set.

        Raises SessionRemains when database or role are not those of before: the server's reset keeps both.
        """
        if self.residue is Residue.LASTING:
            raise SessionRemains("the session was changed in ways that the server's reset does not undo")
        self.check_alive()
        self._execute_command(_COM_RESET_CONNECTION, b"")
        self._read_ok_packet()
        self._restore_driver()
        self.query(restore)
        if self.init_command is not None:
            self.query(self.init_command)
        if self._ask(_PLACE) != self._place:
            raise SessionRemains("the session was left in another database or role")
        self.residue = Residue.NONE
        self.waits_for_readers = False
        self._limit_ms = 0
        self._own_limit_ms = None

    def _restore_driver(self) -> None:
        """Resets settings of PyMySQL that a caller may have changed on the connection."""
        self.cursorclass = Cursor
        self.autocommit_mode = True
        self.charset, self.encoding, self.use_unicode = CHARSET, charset_by_name(CHARSET).encoding, True
        self.encoders = {kind: encode for kind, encode in VALUES.items() if not isinstance(kind, int)}
        self.hand_out_texts(text=False)

    def _ask(self, question: str) -> tuple[Any, ...]:
        with self.cursor() as cursor:
            cursor.execute(question)
            return cursor.fetchone() or ()

    def check_undone(self) -> None:
        """Raises OperationalError when the ROLLBACK just sent left changes of tables that have no transactions."""
        if self._result is not None and self._result.warning_count:
            for _, code, message in self.show_warnings():  # type: ignore[no-untyped-call]
                if code == ER.WARNING_NOT_COMPLETE_ROLLBACK:
                    raise pymysql.err.OperationalError(code, message)

    def give(self, timeout: float | None) -> None:
        """Lets each of the answers that follow take `timeout`, up to a second more where that is long.

        What ends in time by other means is the statement: the server's limit, and the watchdog's KILL QUERY.
        """
        seconds = None if timeout is None else max(timeout, 0.0) + GRACE
        if seconds is not None and seconds > _EXACT_UP_TO:
            # PyMySQL sets each limit that differs from the last one on the socket, which is a system call.
            seconds = ceil(seconds)
        self._read_timeout = self._write_timeout = seconds

    def has_hung_up(self) -> bool:
        """True when the connection is closed, by either side; no round trip."""
        wire = self._sock
        if wire is None:
            return True
        if self.is_streaming:
            return False
        if wire is not self._polled:
            self._polled, self._arrivals = wire, select.poll()
            self._arrivals.register(wire, select.POLLIN)
        return bool(self._arrivals.poll(0))

    def shut_down(self) -> None:
        """Makes a read under way fail, from another thread. TLS is left out: its state is that thread's."""
        if (wire := self._sock) is not None:
            socket.socket.shutdown(wire, socket.SHUT_RDWR)

    def say_goodbye(self) -> None:
        """Closes, so that the server does not count it among its aborted clients; never waits, never raises."""
        self.drop_unread()
        self.give(0.0)
        with suppress(pymysql.Error):
            self.close()

    def drain(self) -> None:
        """Reads to the end what is under way, and the results behind it; raises the error that ends it."""
        if self.is_streaming:
            self._result._finish_unbuffered_query()
        while self._result is not None and self._result.has_next:
            self.next_result()

    def allow_scripts(self, *, allowed: bool) -> None:
        """Allows or forbids texts of several statements, each with a result of its own."""
        self._execute_command(COMMAND.COM_SET_OPTION, b"\0\0" if allowed else b"\1\0")
        self._read_packet()  # type: ignore[no-untyped-call]

    def drop(self) -> None:
        """Closes the socket without COM_QUIT, also in the middle of a result."""
        # Nothing may read the rest, PyMySQL's destructor included.
        if self._result is not None:
            self._result.unbuffered_active = False
            self._result = None
        self._force_close()

    def drop_unread(self) -> None:
        """Closes if rows are left to be read: the next statement would get them as its answer."""
        if self.is_streaming:
            self.drop()

    def hand_out_texts(self, *, text: Text) -> None:
        """Sets whether the next results have values as the server writes them."""
        self.decoders = _AS_TEXT[text]

    def check_alive(self) -> None:
        """Raises InterfaceError if the server has hung up already: then nothing was sent."""
        if self.is_streaming:
            reading = "rows of another statement are still to be read on this connection"
            raise pymysql.err.ProgrammingError(CR.CR_COMMANDS_OUT_OF_SYNC, reading)
        if self.has_hung_up():
            self.drop()
            raise pymysql.err.InterfaceError(0, "")

    def _limited(self, text: str, statement: Statement, timeout: float | None) -> str:
        """MariaDB takes a limit with the statement; MySQL has one for the session, and for SELECT only."""
        if statement.kind in _UNTIMED:
            return text
        if self.is_mariadb:
            return (
                text
                if timeout is None
                else f"SET STATEMENT max_statement_time={_SHORTER.format(_floor(timeout))} FOR {text}"
            )
        if self._own_limit_ms is None:
            [seen] = map(int, self._ask("SELECT @@SESSION.max_execution_time"))
            self._own_limit_ms = 0 if seen == self._limit_ms else seen
            self._limit_ms = seen
        limit = rounded_up_ms(timeout)
        if self._own_limit_ms and not 0 < limit < self._own_limit_ms:
            limit = self._own_limit_ms
        if limit != self._limit_ms:
            self.query(f"SET SESSION max_execution_time={limit}")
            self._limit_ms = limit
        return text

    def note_rollback(self, error: pymysql.err.OperationalError) -> None:
        """Knows of a transaction that the error ended."""
        # Errors carry no status: PyMySQL would go on believing in a transaction that a deadlock ended.
        if error.args[0] == ER.LOCK_DEADLOCK:
            self.server_status &= ~(_IN_TRANSACTION | _IN_READ_ONLY_TRANSACTION)


_DECODERS: dict[int, Callable[[Any], Any]] = {k: v for k, v in VALUES.items() if isinstance(k, int)}
_AS_TEXT: dict[Text, dict[int, Callable[[Any], Any]]] = {
    False: _DECODERS,
    True: _TEXTS,
    "json": {**_DECODERS, FIELD_TYPE.JSON: RawJson},
}


def _floor(timeout: float) -> float:
    """Zero would mean no limit."""
    return max(timeout, 0.001)


def rounded_up_ms(timeout: float | None) -> int:
    """Milliseconds, a power of two: a deadline that shrinks from call to call costs a SET only now and then.

    The caller's watchdog is exact; this limit is what ends a SELECT when the client is gone.
    """
    return 0 if timeout is None else 2 ** max(0, ceil(log2(_floor(timeout) * 1000)))
