"""A PostgreSQL connection that remembers what its session is set to."""

from __future__ import annotations

import math
import select
from typing import Any, NamedTuple

import psycopg
from psycopg.adapt import AdaptersMap
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGconn
from psycopg.rows import TupleRow

from katax_cli.core.settings import ConnectionSettings

from .prepared import Prepared
from .values import ADAPTERS

# A session's limit may be this much longer than what a statement has left; the caller's watchdog is exact,
# the server's limit is what ends the statement when the client is gone.
_SLACK = 1.2
_IDLE, _INTRANS, _INERROR = TransactionStatus.IDLE, TransactionStatus.INTRANS, TransactionStatus.INERROR


class Setting(NamedTuple):
    """A SET of the statement timeout: its text, its milliseconds, and whether it ends with the transaction."""

    sql: str
    limit: int
    local: bool


class PostgresConnection(psycopg.Connection[TupleRow]):
    """psycopg's connection in autocommit mode, with the statement timeout that its session has.

    The rule of timeouts: a statement with `t` seconds left is sent as it is when the session's
    statement_timeout is between t and 1.2 t; else a SET (inside a transaction SET LOCAL) to t rounded
    up to two digits goes ahead in the same round trip. A deadline that shrinks from call to call
    therefore costs a SET only now and then, and no statement is ended early.
    """

    _in_session: int | None
    _in_transaction: int | None
    prepared: Prepared
    pooled: bool
    guarded: bool
    arrivals: select.poll

    def __init__(self, pgconn: PGconn, row_factory: Any = psycopg.rows.tuple_row) -> None:
        super().__init__(pgconn, row_factory)
        self._autocommit = True
        self._in_session = self._in_transaction = None
        self.prepared = Prepared()
        self.pooled = self.guarded = False
        self.arrivals = select.poll()
        self.arrivals.register(pgconn.socket, select.POLLIN)

    def prepare(self, settings: ConnectionSettings) -> None:
        """Takes over what the session was started with."""
        self.pooled = settings.pooler is not None
        self.prepare_threshold = None if self.pooled else 5
        self._adapters = AdaptersMap(ADAPTERS)
        if not self.pooled and "statement_timeout" not in settings.options.get("options", ""):
            self._in_session = milliseconds(settings.statement_timeout)

    @property
    def status(self) -> int:
        """A TransactionStatus, without the cost of making one."""
        return self.pgconn.transaction_status

    def missing_setting(self, timeout: float | None) -> Setting | None:
        """The SET that a statement with `timeout` needs; None when there is no need.

        Behind a transaction pooler only a transaction can have settings; a failed one takes none.
        """
        status = self.status
        if status == _INERROR or (self.pooled and status == _IDLE):
            return None
        local = status == _INTRANS
        if not local:
            self._in_transaction = self._in_session
        wanted = 0 if timeout is None else milliseconds(timeout)
        if _serves(self._in_transaction, wanted):
            return None
        limit = _rounded_up(wanted)
        return Setting(f"SET {'LOCAL ' if local else ''}statement_timeout = {limit}", limit, local)

    def setting_taken(self, setting: Setting) -> None:
        """Remembers a SET that the server accepted."""
        self._in_transaction = setting.limit
        if not setting.local:
            self._in_session = setting.limit

    def statement_done(self, command: bytes | None) -> None:
        """Forgets what a statement of the user may have changed; `command` is the server's command tag."""
        if command in _DEALLOCATING:
            self.prepared.clear()
        if command in _UNSETTLING:
            self._in_transaction = None
            if command != b"ROLLBACK":
                self._in_session = None


_DEALLOCATING = frozenset({b"DISCARD ALL", b"DEALLOCATE ALL"})
_UNSETTLING = frozenset({b"SET", b"RESET", b"DISCARD ALL", b"ROLLBACK", b"DO", b"CALL"})


def milliseconds(seconds: float) -> int:
    """For statement_timeout, where 0 means no limit: at least 1."""
    return max(1, math.ceil(seconds * 1000))


def _serves(current: int | None, wanted: int) -> bool:
    if current is None or not wanted:
        return current == wanted
    return wanted <= current <= wanted * _SLACK


def _rounded_up(ms: int) -> int:
    if ms < 100:
        return ms
    step: int = 10 ** (len(str(ms)) - 2)
    return -(-ms // step) * step
