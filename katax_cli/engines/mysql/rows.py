"""Results off the wire, two to three times as fast as PyMySQL hands them out.

PyMySQL makes an object of every packet and calls a method for every value. Here the rows that lie whole in
the read buffer are cut out of it in one loop; what does not (a row that crosses the buffer's end or is larger
than it, the end of the result, an error) goes PyMySQL's own way. Columns, which the same statement describes by the
same bytes each time, go that way once: they took half of the time of a SELECT of one row (benchmarks/drivers.py).
https://mariadb.com/docs/server/reference/clientserver-protocol/4-server-response-packets/result-set-packets
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BufferedReader
from sys import maxsize
from typing import Any, NamedTuple, Protocol, cast

import pymysql
from pymysql.connections import MySQLResult
from pymysql.constants import CR

from katax_cli.core.sql import AnySql
from katax_cli.engines.base import Params, Result, Row

Converters = Sequence[tuple[str | None, Callable[[Any], Any] | None]]

# End of the result, error; a row whose first value has 16 MB begins so too, and is larger than the buffer.
_NO_ROW = (0xFE, 0xFF)
_NULL = 251
_KEPT = 100
"""How many descriptions of columns a session remembers."""
_HEADER = 4
_WIDTHS = {252: 2, 253: 3, 254: 8}


class KnownColumns(NamedTuple):
    """The columns that PyMySQL made of a description, and the settings of the session that it used beside the bytes."""

    settings: tuple[Any, str, bool]
    fields: list[Any]
    converters: list[Any]
    description: tuple[Any, ...]


class ReadSession(Protocol):
    """The part of a session whose results are read; the first three are its user's to change."""

    decoders: Any
    encoding: str
    use_unicode: bool
    known_columns: dict[bytes, KnownColumns]
    _rfile: BufferedReader
    _next_seq_id: int
    _result: Any

    def start(self, sql: AnySql, params: Params = None, timeout: float | None = None) -> Any: ...

    def drain(self) -> None: ...

    def drop(self) -> None: ...

    def drop_unread(self) -> None: ...


def _buffered(session: ReadSession) -> bytes:
    """Returns the bytes that have arrived; waits while there are none. Empty at the end of the connection."""
    try:
        return session._rfile.peek()
    except OSError as error:
        session.drop()
        lost = f"Lost connection to MySQL server during query ({error})"
        raise pymysql.err.OperationalError(CR.CR_SERVER_LOST, lost) from error


class RememberedResult(MySQLResult):
    """A result that knows its columns when its session had the same before."""

    fields: list[Any]
    converters: list[Any]

    def _get_descriptions(self) -> None:
        session, packets = cast("ReadSession", self.connection), self.field_count + 1
        described = _first(packets, _buffered(session))
        known = session.known_columns.get(described)
        settings = (session.decoders, session.encoding, session.use_unicode)
        if known is None or known.settings != settings:
            super()._get_descriptions()  # type: ignore[misc]
            known = KnownColumns(settings, self.fields, self.converters, self.description)
            if len(session.known_columns) >= _KEPT:
                session.known_columns.clear()
            if described:
                session.known_columns[described] = known
            return
        session._rfile.read(len(described))
        session._next_seq_id = (session._next_seq_id + packets) % 256
        self.fields, self.converters, self.description = known[1:]


def _first(packets: int, data: bytes) -> bytes:
    """The first packets of what has arrived; empty when they do not lie there whole."""
    end = 0
    for _ in range(packets):
        if end + _HEADER > len(data):
            return b""
        end += _HEADER + (data[end] | data[end + 1] << 8 | data[end + 2] << 16)
    return data[:end] if end <= len(data) else b""


def fetched(session: ReadSession, sql: AnySql, params: Params = None, timeout: float | None = None) -> Result:
    """Runs one statement and returns its first result; a procedure's others are dropped."""
    result = session.start(sql, params, timeout)
    try:
        columns = tuple([column[0] for column in result.description or ()])
        rows = read_rows(session, maxsize) if columns else []
        affected = len(rows) if columns else result.affected_rows
        told = b"" if columns else bytes(result.message or b"")
        session.drain()
    except BaseException:
        session.drop_unread()
        raise
    return Result(columns, rows, affected, told)


def rows_of(session: ReadSession, sql: str, timeout: float | None, params: tuple[Any, ...] = ()) -> list[Row]:
    """The rows of one statement."""
    return fetched(session, sql, params, timeout).rows


def read_rows(session: ReadSession, count: int) -> list[Row]:
    """The next rows of the result under way, at most `count`; none at its end. Raises PyMySQL's errors."""
    result = session._result
    rows: list[Row] = []
    while result.unbuffered_active and len(rows) < count:
        whole, end = _whole_rows(_buffered(session), result.converters, count - len(rows))
        if whole:
            session._rfile.read(end)
            session._next_seq_id = (session._next_seq_id + len(whole)) % 256
            rows += whole
        elif (row := result._read_rowdata_packet_unbuffered()) is not None:
            rows.append(row)
    return rows


def _whole_rows(data: bytes, converters: Converters, count: int) -> tuple[list[Row], int]:
    """The rows that `data` starts with, and where they end."""
    rows: list[Row] = []
    start, size = 0, len(data)
    while len(rows) < count and start + _HEADER < size:
        length = data[start] | data[start + 1] << 8 | data[start + 2] << 16
        end = start + _HEADER + length
        if end > size or data[start + _HEADER] in _NO_ROW:
            break
        rows.append(_row(data, start + _HEADER, converters))
        start = end
    return rows, start


def _row(data: bytes, at: int, converters: Converters) -> Row:
    row: list[Any] = []
    for encoding, convert in converters:
        length = data[at]
        at += 1
        if length >= _NULL:
            if length == _NULL:
                row.append(None)
                continue
            width = _WIDTHS[length]
            length = int.from_bytes(data[at : at + width], "little")
            at += width
        value: Any = data[at : at + length]
        at += length
        if encoding is not None:
            value = value.decode(encoding)
        row.append(value if convert is None else convert(value))
    return tuple(row)
