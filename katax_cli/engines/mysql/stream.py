"""Rows as they arrive, and the end of streams that are not read to their end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pymysql
from pymysql.constants import ER

from katax_cli.core.sql import AnySql
from katax_cli.engines.base import Params, Row, Text
from katax_cli.engines.mysql.rows import read_rows
from katax_cli.engines.mysql.session import MysqlSession

BATCH = 1000
_SETTLING = 5.0
# The server gives up on a client that does not read for a minute; who pauses longer is slow, not gone.
_PATIENCE = "SET SESSION net_write_timeout=3600"
_KILLED = (ER.QUERY_INTERRUPTED, ER.QUERY_TIMEOUT, ER.STATEMENT_TIMEOUT)


class MysqlStream:
    """Rows of one statement in batches; holds one batch at a time."""

    def __init__(self, session: MysqlSession, result: Any) -> None:
        self._session = session
        self.columns = tuple(column[0] for column in result.description or ())
        self.affected = -1 if self.columns else result.affected_rows

    def __iter__(self) -> Iterator[list[Row]]:
        while self.columns and (rows := read_rows(self._session, BATCH)):
            yield rows


@contextmanager
def streamed(
    session: MysqlSession,
    sql: AnySql,
    params: Params,
    timeout: float | None,
    *,
    text: Text,
    kill: Callable[[], bool],
) -> Iterator[MysqlStream]:
    """Runs one statement; `kill` ends it on the server when not all of its rows were read."""
    if not session.waits_for_readers and not session.in_transaction:
        session.send(_PATIENCE, timeout=timeout)
        session.waits_for_readers = True
    session.hand_out_texts(text=text)
    try:
        result = session.start(sql, params, timeout)
    finally:
        session.hand_out_texts(text=False)
    try:
        yield MysqlStream(session, result)
    finally:
        _finish(session, kill)


def _finish(session: MysqlSession, kill: Callable[[], bool]) -> None:
    if not session.is_streaming:
        session.drain()
        return
    if not session.open or not kill():
        session.drop()
        return
    session.give(_SETTLING)
    try:
        _swallow_kill(session.drain)
        # The statement may have ended by itself before; then the kill waits for the next one.
        _swallow_kill(lambda: session.query("DO 0"))
    except pymysql.Error:
        session.drop()


def _swallow_kill(act: Callable[[], object]) -> None:
    try:
        act()
    except pymysql.err.OperationalError as error:
        if error.args[0] not in _KILLED:
            raise
