"""Several statements in one round trip.

`many` sends 50,000 rows with 0.7 of the processor time of psycopg's `executemany`, which asks its socket after
every row (benchmarks/drivers.py).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import suppress

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult

from katax_cli.core.sql import AnySql, Residue, compile_query, statement_of
from katax_cli.engines.base import Params
from katax_cli.engines.postgresql.prepared import StatementKey
from katax_cli.engines.postgresql.session import PostgresConnection
from katax_cli.engines.postgresql.values import Dumped, Dumping
from katax_cli.engines.postgresql.wire import (
    affected,
    apply_timeout,
    check_alive,
    exchange,
    keep_prepared,
    pipelined,
    refusal,
    refuse_copy,
    replied,
)

_BATCH = 1000
_CANCEL_SECONDS = 5.0
_Bound = tuple[AnySql, Params]
_RefusedAt = tuple[int, psycopg.Error]


def together(connection: PostgresConnection, batch: Sequence[_Bound], *, head: str = "") -> _RefusedAt | None:
    """Sends statements without a time limit; after the first that is refused the server skips the rest.

    Each begins with `head`, a comment or nothing. Returns which one that was, and its error. Raises what a broken
    connection raises.
    """
    texts = _ready(connection, batch, head)

    def queue(pgconn: PGconn) -> None:
        _queue(pgconn, texts)
        pgconn.pipeline_sync()

    return _first_refused(connection, exchange(connection, queue, replies=len(batch) + 1))


def in_turn(
    connection: PostgresConnection, last: Sequence[_Bound], then: Sequence[_Bound], *, head: str
) -> Generator[_RefusedAt | None]:
    """Sends what ends a transaction and what begins the next at once, and yields for each what `together` returns.

    `then`, which alone begins with `head`, runs only if all of `last` was accepted. Closed before both were asked
    for, it cancels what runs and closes the connection.
    """
    texts = [_ready(connection, last, ""), _ready(connection, then, head)]
    answers: list[list[PGresult]] = []
    with pipelined(connection, answers) as pgconn:
        _queue(pgconn, texts[0])
        # What is answered is not to wait for what comes after it.
        pgconn.send_flush_request()
        _queue(pgconn, texts[1])
        pgconn.pipeline_sync()
        connection.wait(replied(pgconn, len(last), answers))
        refused = _first_refused(connection, answers)
        if refused is None:
            connection.transaction_follows()
            try:
                yield None
            except GeneratorExit:
                with suppress(psycopg.Error):
                    connection.cancel_safe(timeout=_CANCEL_SECONDS)
                raise
        answers.clear()
        connection.wait(replied(pgconn, len(then) + 1, answers))
        refused = refused or _first_refused(connection, answers)
    yield refused


def _ready(connection: PostgresConnection, batch: Sequence[_Bound], head: str) -> list[tuple[bytes, Dumped]]:
    check_alive(connection)
    apply_timeout(connection, None)
    # What is read and remembered of a statement is known of `BEGIN`, whatever the comment before it.
    statements = [(statement_of(sql, "postgresql"), params) for sql, params in batch]
    bound = [compile_query(one.text, "postgresql").bind_raw(params) for one, params in statements]
    for statement, _ in statements:
        connection.note(statement)
    dumping = Dumping(connection)
    return [((head + sql).encode(), dumping.dumped(values)) for sql, values in bound]


def _queue(pgconn: PGconn, texts: Sequence[tuple[bytes, Dumped]]) -> None:
    for text, (values, types, formats) in texts:
        pgconn.send_query_params(text, values, types, formats)


def _first_refused(
    connection: PostgresConnection, answers: Sequence[Sequence[PGresult]]
) -> _RefusedAt | None:
    for index, (result, *_) in enumerate(answers):
        refuse_copy(connection, result)
        if result.status == ExecStatus.FATAL_ERROR:
            return index, refusal(connection, psycopg.errors.error_from_result(result))
        if result.status != ExecStatus.PIPELINE_SYNC:
            connection.statement_done(result.command_status)
    return None


def many(connection: PostgresConnection, sql: str, rows: Sequence[Params], timeout: float | None) -> int:
    """Runs one statement for each row, all or, outside a transaction, none; returns rows affected.

    Raises the error of the first that is refused, and before anything is sent what no row can be.
    """
    query = compile_query(sql, "postgresql")
    text, dumping = query.bind_raw(rows[0])[0], Dumping(connection)
    values = [dumping.dumped(query.bind_raw(row)[1]) for row in rows]
    check_alive(connection)
    apply_timeout(connection, timeout)
    try:
        return _sent(connection, text.encode(), values)
    except psycopg.Error as error:
        if not connection.prepared.outdated(error):
            raise
        connection.prepared.clear()
        if connection.status != TransactionStatus.IDLE:
            raise
    return _sent(connection, text.encode(), values)


def _sent(connection: PostgresConnection, text: bytes, values: Sequence[Dumped]) -> int:
    sending = _Many(connection, text, values)
    with pipelined(connection, sending.answers):
        connection.wait(sending.exchanged())
    if sending.refused is not None:
        if sending.made:
            # Some of them are prepared on the server.
            connection.residue = max(connection.residue, Residue.RESETTABLE)
        raise refusal(connection, psycopg.errors.error_from_result(sending.refused))
    for key, name in sending.made.items():
        keep_prepared(connection, key, name)
    return sending.affected


class _Many:
    """Rows of one statement on their way: one batch is prepared while the server works on the one before."""

    def __init__(self, connection: PostgresConnection, text: bytes, values: Sequence[Dumped]) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._text = text
        self._values = values
        self._name = b""
        self._types: tuple[int, ...] | None = ()
        self.made: dict[StatementKey, bytes] = {}
        self.answers: list[list[PGresult]] = []
        self.affected = -1
        self.refused: PGresult | None = None

    def exchanged(self) -> PQGen[None]:
        under_way = 0
        for start in range(0, len(self._values), _BATCH):
            queued = self._queue(self._values[start : start + _BATCH])
            self._pgconn.send_flush_request()
            yield from self._taken(under_way)
            under_way = queued
            if self.refused is not None:
                break
        self._pgconn.pipeline_sync()
        yield from self._taken(under_way + 1)

    def _queue(self, batch: Sequence[Dumped]) -> int:
        """Returns how many replies will come: rows may differ in types, as numbers of different length do."""
        parsed = 0
        for values, types, formats in batch:
            if types != self._types:
                self._types = types
                parsed += self._prepare()
            self._pgconn.send_query_prepared(self._name, values, formats)
        return len(batch) + parsed

    def _prepare(self) -> bool:
        """Names the statement of these types; True when the server has to parse it first."""
        prepared, key = self._connection.prepared, (self._text, self._types)
        if known := prepared.name(key) or self.made.get(key):
            self._name = known
            return False
        # Behind a pooler only the unnamed one is this session's for sure.
        self._name = b"" if self._connection.pooled else prepared.new_name()
        if self._name:
            self.made[key] = self._name
        self._pgconn.send_prepare(self._name, self._text, self._types)
        return True

    def _taken(self, count: int) -> PQGen[None]:
        self.answers.clear()
        yield from replied(self._pgconn, count, self.answers)
        for result, *_ in self.answers:
            refuse_copy(self._connection, result)
            if result.status == ExecStatus.FATAL_ERROR and self.refused is None:
                self.refused = result
            if (rows := affected(result)) >= 0:
                self.affected = max(self.affected, 0) + rows
