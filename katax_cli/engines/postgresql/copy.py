"""COPY from the client: rows as fast as psql's `\\copy` sends them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import psycopg

from katax_cli.core.sql import statement_of
from katax_cli.engines.postgresql.guard import check_guarded
from katax_cli.engines.postgresql.session import PostgresConnection
from katax_cli.engines.postgresql.wire import apply_timeout, check_alive

_PLACE = re.compile(r"COPY .*, line (\d+)")
_CHUNK = 2**16


def copy_rows(connection: PostgresConnection, sql: str, rows: Iterable[Sequence[object]]) -> int:
    """Runs `COPY … FROM stdin` in its text format with these values; returns how many rows there were."""
    with _cursor(connection, sql) as cursor:
        with cursor.copy(sql.encode()) as copy:
            for row in rows:
                copy.write_row(row)
        return cursor.rowcount


def copy_text(connection: PostgresConnection, sql: str, text: str) -> int:
    """The same with the lines as a dump has them, in whatever format the statement says."""
    with _cursor(connection, sql) as cursor:
        with cursor.copy(sql.encode()) as copy:
            for start in range(0, len(text), _CHUNK):
                copy.write(text[start : start + _CHUNK].encode())
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
