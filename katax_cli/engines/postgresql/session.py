"""A PostgreSQL connection that remembers what its session is set to."""

from __future__ import annotations

import math
import re
import select
import time
from functools import lru_cache
from string import ascii_lowercase
from sys import maxsize
from typing import Any, NamedTuple, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.adapt import AdaptersMap
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGconn
from psycopg.rows import TupleRow

from katax_cli.core.settings import ConnectionSettings
from katax_cli.core.sql import Residue, Statement
from katax_cli.engines.postgresql.prepared import Prepared
from katax_cli.engines.postgresql.values import ADAPTERS

# A session's limit may be this much longer than what a statement has left; the caller's watchdog is exact,
# the server's limit is what ends the statement when the client is gone.
_SLACK = 1.2
_MOST_MS = 2**31 - 1
# What is longer sets no limits, and is not worth keeping.
_LONGEST_SET = 16_384
_IDLE, _INTRANS, _INERROR = TransactionStatus.IDLE, TransactionStatus.INTRANS, TransactionStatus.INERROR


T = TypeVar("T")


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
    therefore costs a SET only now and then, and no statement is ended early. A shorter limit that the role,
    the database or a statement of the user set (`own_limit`, 0 is none) stands.
    """

    _in_session: int | None
    _in_transaction: int | None
    residue: Residue
    own_limit: int
    asks_limit: bool
    prepared: Prepared
    pooled: bool
    guarded: bool
    arrivals: select.poll

    def __init__(self, pgconn: PGconn, row_factory: Any = psycopg.rows.tuple_row) -> None:
        super().__init__(pgconn, row_factory)
        self._autocommit = True
        self._in_session = self._in_transaction = None
        self._ours: set[int] = set()
        self._sets_limit = self._asks_at_end = False
        self._first_limit = 0
        self.residue = Residue.NONE
        self.own_limit = 0
        self.asks_limit = False
        self.prepared = Prepared()
        self.pooled = self.guarded = self._decimals = False
        self.arrivals = select.poll()
        self.arrivals.register(pgconn.socket, select.POLLIN)

    def prepare(self, settings: ConnectionSettings) -> None:
        """Takes over what the session was started with."""
        self.pooled = settings.pooler is not None
        self._decimals = settings.decimals

    def hear(self, gen: PQGen[T], seconds: float) -> T | None:
        """The value of a generator that waits for what arrives; None when so many seconds pass before."""
        ends = time.monotonic() + seconds
        while True:
            try:
                next(gen)
            except StopIteration as end:
                value: T = end.value
                return value
            if not self.arrivals.poll(max(0.0, ends - time.monotonic()) * 1000):
                gen.close()
                return None

    def note(self, statement: Statement) -> None:
        """Remembers what the statement, which is about to be sent, may leave in the session."""
        if left := statement.residue:
            self.residue = max(self.residue, left)
        self._sets_limit = len(statement.text) <= _LONGEST_SET and _may_set_limit(statement.text)

    def forget(self, limit: bytes | None, usual: int | None) -> None:
        """Takes the session for new: the server discarded all that it held.

        `limit` is the statement_timeout that it began with, None if that is known; `usual` the one that it has
        now, in milliseconds.
        """
        self.residue = Residue.NONE
        self._asks_at_end = False
        self._ours.clear()
        self._forget_prepared()
        self._restore_driver()
        if limit is None:
            self.limit_unseen()
        else:
            self.limit_seen(limit)
            self._first_limit = self.own_limit
        if usual is not None:
            self.setting_taken(Setting("", usual, local=False))

    def limit_seen(self, text: bytes) -> None:
        """Takes note of the session's statement_timeout as SHOW writes it."""
        limit = _parsed_limit(text.decode())
        self.asks_limit = False
        self._in_transaction = limit
        if self.status == _IDLE:
            self._in_session = limit
        if limit not in self._ours:
            self.own_limit = limit

    def limit_unseen(self) -> None:
        """Outside a transaction a pooler's session is anyone's: the limit is the one that it began with."""
        self.asks_limit = False
        self.own_limit = self._first_limit

    def _restore_driver(self) -> None:
        """Resets settings of psycopg that a caller may have changed on the connection."""
        self._autocommit, self._begin_statement = True, b""
        self._isolation_level = self._read_only = self._deferrable = None
        self.row_factory = psycopg.rows.tuple_row
        self.cursor_factory, self.server_cursor_factory = psycopg.Cursor, psycopg.ServerCursor
        self.prepare_threshold = None if self.pooled else 5
        self._adapters = AdaptersMap(ADAPTERS[self._decimals])
        self._notice_handlers.clear()
        self._notify_handlers.clear()

    def _forget_prepared(self) -> None:
        self.prepared.clear()
        # psycopg would deallocate what is gone; its counter of names goes on.
        for known in (self._prepared._names, self._prepared._counts, self._prepared._to_flush):
            known.clear()

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
        own = self.own_limit
        if own and not 0 < wanted < own:
            if self._in_transaction == own:
                return None
            limit = own
        elif _serves(self._in_transaction, wanted):
            return None
        else:
            limit = min(_rounded_up(wanted), own or maxsize)
        return Setting(f"SET {'LOCAL ' if local else ''}statement_timeout = {limit}", limit, local)

    def setting_sent(self, setting: Setting) -> None:
        """Forgets the limit until the server answers: who waits may be interrupted before."""
        self._in_transaction = None
        if not setting.local:
            self._in_session = None

    def setting_taken(self, setting: Setting) -> None:
        """Remembers a SET that the server accepted."""
        self._in_transaction = setting.limit
        if setting.limit != self.own_limit:
            self._ours.add(setting.limit)
        if not setting.local:
            self._in_session = setting.limit

    def transaction_follows(self) -> None:
        """Takes note that a transaction ended and another was begun at once: it has the session's limit."""
        self._in_transaction = self._in_session

    def statement_done(self, command: bytes | None) -> None:
        """Forgets what a statement of the user may have changed; `command` is the server's command tag."""
        if command in _DEALLOCATING:
            self._forget_prepared()
        if self._sets_limit:
            self._sets_limit = False
            self.asks_limit = self._asks_at_end = True
        elif command in _ENDING:
            self._in_transaction = None
            self.asks_limit = self.asks_limit or self._asks_at_end
        if self._asks_at_end and self.status == _IDLE:
            self._asks_at_end = False


_DEALLOCATING = frozenset({b"DISCARD ALL", b"DEALLOCATE ALL", b"DEALLOCATE"})
_ENDING = frozenset({b"ROLLBACK", b"COMMIT"})
_UNITS = {"": 1, "ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


_SETS_LIMIT = re.compile(
    r"(?is)\bset\b.*\bstatement_timeout|set_config\s*\(\s*[^'\s]|\A\s*(?:do|call|reset|discard)\b"
)


@lru_cache(maxsize=1024)
def _may_set_limit(sql: str) -> bool:
    return _SETS_LIMIT.search(sql) is not None


def _parsed_limit(text: str) -> int:
    """Milliseconds of `400ms`, `30s`, `5min`, `0`."""
    number = text.rstrip(ascii_lowercase)
    return int(number) * _UNITS[text[len(number) :]]


def milliseconds(seconds: float) -> int:
    """For statement_timeout, where 0 means no limit: at least 1, and no more than the server takes."""
    return min(max(1, math.ceil(seconds * 1000)), _MOST_MS)


def _serves(current: int | None, wanted: int) -> bool:
    if current is None or not wanted:
        return current == wanted
    return wanted <= current <= wanted * _SLACK


def _rounded_up(ms: int) -> int:
    if ms < 100:
        return ms
    step: int = 10 ** (len(str(ms)) - 2)
    return -(-ms // step) * step
