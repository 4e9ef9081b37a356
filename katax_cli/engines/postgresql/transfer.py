"""Whole tables in and out of PostgreSQL: COPY, in a session that writes every value in one form."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from hashlib import blake2b
from io import BytesIO
from itertools import repeat, takewhile
from operator import itemgetter, length_hint
from sys import maxsize
from typing import Any

import psycopg
from psycopg import generators
from psycopg.abc import PQGen
from psycopg.generators import WAIT_R
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult

from katax_cli.core.sql import statement_of
from katax_cli.engines.base import SqlEngine
from katax_cli.engines.parts import EnginePart
from katax_cli.engines.postgresql.guard import check_guarded
from katax_cli.engines.postgresql.session import PostgresConnection
from katax_cli.engines.postgresql.wire import abandon, apply_timeout, check_alive, refusal

# For the transaction only: a pooler's session is not ours. A function, since a read-only connection takes no SET.
_ONE_FORM = """SELECT set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, YMD', true),
    set_config('IntervalStyle', 'iso_8601', true), set_config('bytea_output', 'hex', true),
    set_config('extra_float_digits', '1', true), set_config('lc_monetary', 'C', true)"""
# The process that the server named at the login is not the one that answers behind a pooler.
_CLAIM = "SELECT CASE WHEN pg_backend_pid() = $1::int THEN pg_try_advisory_lock($2::bigint) END"
_RELEASE = "SELECT CASE WHEN pg_backend_pid() = $1::int THEN pg_advisory_unlock($2::bigint) END"
_PLACE = re.compile(r"COPY .*, line (\d+)")
_CHUNK = 2**16
_DATA = itemgetter(1)
_BYTES = (bytes, bytearray, memoryview)
Waiting = Callable[[], AbstractContextManager[object]]


def copy_rows(connection: PostgresConnection, sql: str, rows: Iterable[Sequence[object]]) -> int:
    """Runs `COPY … FROM stdin` in its text format with these values; returns how many the server took."""
    with _cursor(connection, sql) as cursor:
        with cursor.copy(sql.encode()) as copy:
            for row in rows:
                copy.write_row(row)
        return cursor.rowcount


def copy_text(connection: PostgresConnection, sql: str, text: str) -> int:
    """The same with the lines as a dump has them, in whatever format the statement says."""
    return copy_bytes(
        connection, sql, (text[start : start + _CHUNK].encode() for start in range(0, len(text), _CHUNK))
    )


def copy_bytes(connection: PostgresConnection, sql: str, chunks: Iterable[bytes]) -> int:
    """The same with bytes."""
    with _cursor(connection, sql) as cursor:
        with cursor.copy(sql.encode()) as copy:
            for chunk in chunks:
                copy.write(chunk)
        return cursor.rowcount


def _cursor(connection: PostgresConnection, sql: str) -> psycopg.RawCursor[tuple[object, ...]]:
    check_guarded(connection, statement_of(sql, "postgresql"))
    check_alive(connection)
    apply_timeout(connection, None)
    return psycopg.RawCursor(connection)


def refused_row(error: BaseException | None) -> int | None:
    """The row of a COPY that the server refused, counted from 1; None when it does not name one."""
    context = error.diag.context if isinstance(error, psycopg.Error) else None
    place = _PLACE.search(context or "")
    return int(place[1]) if place else None


def lock_number(name: str) -> int:
    """The number of an advisory lock, of 64 bits."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)


class PostgresTransfer(EnginePart[SqlEngine]):
    """TransferSession and CopiesOut."""

    def prepare(self, connection: PostgresConnection) -> None:
        self._engine.execute(connection, _ONE_FORM)

    def claim(self, connection: PostgresConnection, name: str) -> bool:
        ours = [connection.pgconn.backend_pid, lock_number(name)]
        return self._engine.execute(connection, _CLAIM, ours).rows[0][0] is not False

    def release(self, connection: PostgresConnection, name: str) -> None:
        self._engine.execute(connection, _RELEASE, [connection.pgconn.backend_pid, lock_number(name)])

    def insert(
        self, connection: PostgresConnection, into: str, rows: Sequence[Sequence[object]], tail: str
    ) -> int:
        return copy_rows(connection, f"COPY {into} FROM stdin", rows)

    def copy_in(self, connection: PostgresConnection, sql: str, data: Iterable[bytes]) -> int:
        return copy_bytes(connection, sql, data)

    def refused_row(self, error: BaseException | None) -> int | None:
        return refused_row(error)

    def copied_in(
        self, connection: PostgresConnection, sql: str, data: Iterable[Any], waiting: Waiting
    ) -> int:
        """Rows or bytes, as the first of them is; returns the number of rows in the server's command tag.

        Each wait for the server is inside `waiting()`. What `data` raises ends the COPY, of which nothing lasts.
        """
        with _cursor(connection, sql) as cursor:
            copying = cursor.copy(sql.encode())
            with waiting():
                copy = copying.__enter__()
            try:
                for piece in data:
                    with waiting():
                        copy.write(piece) if isinstance(piece, _BYTES) else copy.write_row(piece)
            except BaseException as error:
                with waiting():
                    copying.__exit__(type(error), error, error.__traceback__)
                raise
            with waiting():
                copying.__exit__(None, None, None)
            return cursor.rowcount

    @contextmanager
    def copied_out(
        self, connection: PostgresConnection, source: str, *, null: str, delimiter: str
    ) -> Iterator[CopyOut]:
        """By the extended protocol, which takes one statement: a query cannot end the bracket that it stands in."""
        from katax_cli.engines.transfers import quoted_text

        if source.startswith("("):
            check_guarded(connection, statement_of(source[1:-1], "postgresql"))
        options = f"FORMAT csv, NULL {quoted_text(null)}, DELIMITER {quoted_text(delimiter)}"
        with self._copied(connection, source, options, nullcontext) as copy:
            yield copy

    def copied_as(
        self, connection: PostgresConnection, query: str, options: str, waiting: Waiting
    ) -> AbstractContextManager[CopyOut]:
        check_guarded(connection, statement_of(query, "postgresql"))
        # A comment of one line may end the query.
        return self._copied(connection, f"({query}\n)", options, waiting)

    @contextmanager
    def _copied(
        self, connection: PostgresConnection, source: str, options: str, waiting: Waiting
    ) -> Iterator[CopyOut]:
        check_alive(connection)
        apply_timeout(connection, None)
        sql = f"COPY {source} TO STDOUT WITH ({options})"
        if "\0" in sql:
            raise psycopg.DataError("the statement holds a NUL character; PostgreSQL has no such text")
        copy = CopyOut(connection, waiting)
        try:
            connection.pgconn.send_query_params(sql.encode(), None)
            with waiting():
                connection.wait(generators.send(connection.pgconn))
                result = connection.wait(generators.fetch(connection.pgconn))
            if result is not None and result.status == ExecStatus.FATAL_ERROR:
                while connection.wait(generators.fetch(connection.pgconn)) is not None:
                    pass
                raise refusal(connection, psycopg.errors.error_from_result(result))
            yield copy
        finally:
            if connection.status == TransactionStatus.ACTIVE:
                copy.abandon()


class CopyOut:
    """CopiedOut; at the end `rows` is what the server's command tag says."""

    def __init__(self, connection: PostgresConnection, waiting: Waiting) -> None:
        self._connection = connection
        self._waiting = waiting
        self._ended = False
        self._first_result: PGresult | None = None
        self.rows = 0

    def __iter__(self) -> Iterator[bytes]:
        while data := self._arrived():
            yield data
        for result in self._results():
            if result.status == ExecStatus.FATAL_ERROR:
                raise refusal(self._connection, psycopg.errors.error_from_result(result))
            if result.command_tuples is not None:
                self.rows = result.command_tuples

    def _results(self) -> Iterator[PGresult]:
        if self._first_result is not None:
            yield self._first_result
        while (result := self._connection.wait(generators.fetch(self._connection.pgconn))) is not None:
            yield result

    def _arrived(self) -> bytes:
        with self._waiting():
            data: bytes = self._connection.wait(self._lines())
        return data

    def _lines(self) -> PQGen[bytes]:
        """Lines that have arrived, about 64 KiB of them; none at the end."""
        lines = BytesIO()
        while not self._ended:
            self._drain_into(lines)
            size = lines.tell()
            if size >= _CHUNK or (size and not self._connection.arrivals.poll(0)):
                break
            if not self._ended:
                if not size:
                    yield WAIT_R
                self._connection.pgconn.consume_input()
        return lines.getvalue()

    def _drain_into(self, lines: BytesIO) -> None:
        """Takes what libpq holds, which is little beside a line. Each line is a message of its own: Python code for
        each of them would take longer than the server."""
        pgconn = self._connection.pgconn
        calls = repeat(1, maxsize)
        lines.writelines(map(_DATA, takewhile(_DATA, map(pgconn.get_copy_data, calls))))
        self.rows += maxsize - length_hint(calls) - 1
        # At the end as at a pause there is no line; while a COPY lasts, libpq has this result of it and no other.
        self._ended = bool(pgconn.is_busy())
        if not self._ended:
            result = pgconn.get_result()
            if result is None or result.status != ExecStatus.COPY_OUT:
                self._ended, self._first_result = True, result

    def abandon(self) -> None:
        """Ends it early and drops what it still sends; closes the connection when that does not work."""
        try:
            self._connection.cancel_safe(timeout=5.0)
            while self._connection.wait(self._lines()):
                pass
        except psycopg.Error:
            self._connection.close()
            return
        abandon(self._connection)


create = PostgresTransfer
