"""Whole tables in and out of MySQL and MariaDB: strict INSERTs, which refuse what LOAD DATA would only warn of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pymysql

from katax_cli.core.sql import Residue
from katax_cli.engines.base import SqlEngine
from katax_cli.engines.mysql.session import MysqlSession
from katax_cli.engines.mysql.sessions import lock_name
from katax_cli.engines.parts import EnginePart
from katax_cli.engines.transfers import NULL_CELL

_ONE_FORM = """SET SESSION time_zone = '+00:00', net_write_timeout = 3600, net_read_timeout = 3600,
    sql_mode = concat_ws(',', @@sql_mode, 'STRICT_ALL_TABLES', 'NO_AUTO_VALUE_ON_ZERO')"""
_NO_BACKSLASH_ESCAPES = 0x0200
_LARGEST = 2**20
"""Bytes of one INSERT: more makes it no faster."""
_ROOM = 1024
"""Bytes of a packet that are left for what the protocol adds."""


class MysqlTransfer(EnginePart[SqlEngine]):
    """TransferSession and InsertsCells."""

    def prepare(self, connection: MysqlSession) -> None:
        self._engine.mark(connection, Residue.RESETTABLE)
        connection.give(None)
        connection.query(_ONE_FORM)
        connection.waits_for_readers = True

    def claim(self, connection: MysqlSession, name: str) -> bool:
        self._engine.mark(connection, Residue.RESETTABLE)
        return bool(
            self._engine.execute(connection, "SELECT GET_LOCK(?, 0)", [lock_name(self._engine, name)]).rows[
                0
            ][0]
        )

    def release(self, connection: MysqlSession, name: str) -> None:
        self._engine.execute(connection, "SELECT RELEASE_LOCK(?)", [lock_name(self._engine, name)])

    def insert(self, connection: MysqlSession, into: str, rows: Sequence[Sequence[Any]], tail: str) -> int:
        connection.check_alive()
        connection.give(None)
        head, end = f"INSERT INTO {into} VALUES ".encode(), tail.encode()
        most = min(_LARGEST, self._packet(connection)) - len(head) - len(end)
        backslash = not connection.server_status & _NO_BACKSLASH_ESCAPES
        batch: list[bytes] = []
        size = 0
        for row in rows:
            text = _tuple_of(row, backslash)
            if batch and size + len(text) > most:
                _send(connection, head + b",".join(batch) + end)
                batch, size = [], 0
            batch.append(text)
            size += len(text) + 1
        if batch:
            _send(connection, head + b",".join(batch) + end)
        # No trigger of MySQL drops a row; the count of an upsert is another one.
        return len(rows)

    def insert_cells(
        self, connection: MysqlSession, into: str, pieces: Iterable[list[str]], width: int
    ) -> None:
        connection.check_alive()
        connection.give(None)
        head = f"INSERT INTO {into} VALUES ".encode()
        backslash = not connection.server_status & _NO_BACKSLASH_ESCAPES
        most = self._packet(connection)

        def statements() -> Iterator[bytes]:
            for cells in pieces:
                sql = head + _tuples_of(cells, width, backslash)
                if len(sql) > most:
                    raise ValueError(f"a statement of {len(sql)} bytes, and the server takes {most}")
                yield sql

        try:
            connection.run_ahead(statements())
        except pymysql.err.OperationalError as error:
            connection.note_rollback(error)
            raise

    def _packet(self, connection: MysqlSession) -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@max_allowed_packet")
            [size] = cursor.fetchone() or (_LARGEST,)
        return int(size) - _ROOM


def _send(connection: MysqlSession, sql: bytes) -> None:
    try:
        connection.query(sql)
    except pymysql.err.OperationalError as error:
        connection.note_rollback(error)
        raise


def _tuple_of(row: Sequence[Any], backslash: bool) -> bytes:
    try:
        text = "','".join(row)
    except TypeError:
        return b"(" + b",".join([_literal(value, backslash) for value in row]) + b")"
    if "\\" in text or text.count("'") != 2 * (len(row) - 1):
        return b"(" + b",".join([_literal(value, backslash) for value in row]) + b")"
    return b"('" + text.encode() + b"')"


def _tuples_of(cells: list[str], width: int, backslash: bool) -> bytes:
    """The same of many rows at once, without a look at each: line ends, which no cell holds, stand between them until
    they are escaped."""
    cells[::width] = ["\r" + cell for cell in cells[::width]]
    text = "\n".join(cells)
    if "'" in text:
        text = text.replace("'", "''")
    if backslash and "\\" in text:
        text = text.replace("\\", "\\\\")
    text = text.replace("\n\r", "'),('").replace("\n", "','")
    return f"('{text[1:]}')".replace(f"'{NULL_CELL}'", "NULL").encode()


def _literal(value: bytes | int | str | None, backslash: bool) -> bytes:
    if value is None:
        return b"NULL"
    if isinstance(value, bytes):
        return b"x'" + value.hex().encode() + b"'" if value else b"''"
    if isinstance(value, int):
        return str(value).encode()
    text = value.replace("'", "''")
    if backslash:
        text = text.replace("\\", "\\\\")
    return b"'" + text.encode() + b"'"


create = MysqlTransfer
