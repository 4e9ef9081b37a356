"""Statements on the wire: always the extended protocol, which takes exactly one statement at a time.

psycopg's cursors use the simple protocol for statements without values, where `COMMIT; INSERT …` in one
string would run; so statements are sent through `psycopg.pq` itself. That also lets a SET go ahead in the
same round trip, and is quicker: a SELECT takes 27 µs of processor against 30 by a prepared `RawCursor`, which
needs the SET as a round trip of its own; benchmarks/drivers.py has the whole call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from time import monotonic

import psycopg
from psycopg import generators
from psycopg.abc import PQGen
from psycopg.generators import WAIT_R
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, TransactionStatus, version
from psycopg.pq.abc import PGconn, PGresult

from katax_cli.core.sql import CompiledQuery
from katax_cli.engines.base import Params, Row, Text
from katax_cli.engines.postgresql.failures import PostgresNotSent, StandbyRefused
from katax_cli.engines.postgresql.prepared import StatementKey
from katax_cli.engines.postgresql.session import PostgresConnection, Setting
from katax_cli.engines.postgresql.values import Dumped, Dumping, Values

_BATCH = 1000
_COPYING = (ExecStatus.COPY_IN, ExecStatus.COPY_OUT, ExecStatus.COPY_BOTH)
_QUIET = (TransactionStatus.IDLE, TransactionStatus.INTRANS)
_OK = ConnStatus.OK
_CANCELS = 5
_CANCEL_SECONDS = 5.0
_HAS_CHUNKS = version() >= 170000


def run(
    connection: PostgresConnection, query: CompiledQuery, params: Params, timeout: float | None
) -> PGresult:
    """Runs one statement with at most `timeout` seconds on the server; raises psycopg's errors."""
    statement = _SentStatement(connection, query, params)
    check_alive(connection)
    statement.prepare()
    try:
        return _run(connection, statement, timeout)
    except psycopg.Error as error:
        if not connection.prepared.outdated(error):
            raise
        connection.prepared.clear()
        if connection.status != TransactionStatus.IDLE:
            raise
    statement.name = None
    return _run(connection, statement, timeout)


def _run(connection: PostgresConnection, statement: _SentStatement, timeout: float | None) -> PGresult:
    try:
        if connection.asks_limit:
            ask_limit(connection)
        setting = connection.missing_setting(timeout)
        if setting is None:
            statement.send()
            results = connection.wait(generators.execute(connection.pgconn))
        else:
            results = _run_after(connection, setting, statement)
    except GeneratorExit:
        # The coroutine was closed, and may wait for nothing more.
        connection.close()
        raise
    except BaseException:
        # psycopg cancels where it waits; an interrupt may come between sending and waiting.
        if connection.status == TransactionStatus.ACTIVE:
            abandon(connection)
        raise
    # A session that is ended adds a second error, "server closed the connection", which has no code.
    return _checked(connection, results[0])


@contextmanager
def streamed(
    connection: PostgresConnection,
    query: CompiledQuery,
    params: Params,
    timeout: float | None,
    *,
    text: Text,
) -> Iterator[PostgresStream]:
    """Runs one statement and hands out its rows as they arrive; what is left at the end is cancelled."""
    statement = _SentStatement(connection, query, params)
    check_alive(connection)
    apply_timeout(connection, timeout)
    pgconn = connection.pgconn
    try:
        statement.send()
        pgconn.set_chunked_rows_mode(_BATCH) if _HAS_CHUNKS else pgconn.set_single_row_mode()
        connection.wait(generators.send(pgconn))
        yield PostgresStream(connection, text=text)
    finally:
        if connection.status == TransactionStatus.ACTIVE:
            abandon(connection)


class PostgresStream:
    """Rows of one statement in batches; holds one batch at a time."""

    def __init__(self, connection: PostgresConnection, *, text: Text) -> None:
        self._connection = connection
        self._values = Values(connection, text=text)
        self._next = self._fetch()
        self.columns = columns(self._next) if self._next else ()
        self.affected = -1

    def __iter__(self) -> Iterator[list[Row]]:
        first = True
        while (result := self._next) is not None:
            # libpq puts the count on the last chunk, and says nothing more with the result after it.
            self.affected = max(self.affected, affected(result))
            if result.ntuples:
                yield self._values.rows(result, first=first)
                first = False
            self._next = self._fetch()

    def _fetch(self) -> PGresult | None:
        result: PGresult | None = self._connection.wait(generators.fetch(self._connection.pgconn))
        return None if result is None else _checked(self._connection, result)


def columns(result: PGresult) -> tuple[str, ...]:
    """Names of the columns, as the server gave them: duplicates and all."""
    return tuple([(result.fname(index) or b"").decode() for index in range(result.nfields)])


def affected(result: PGresult) -> int:
    """Rows that the server says it touched, or -1."""
    count = result.command_tuples
    return -1 if count is None else count


def check_alive(connection: PostgresConnection) -> None:
    """Raises PostgresNotSent if the server has hung up already: then the statement is certain not to have run."""
    if connection.closed or hung_up(connection):
        connection.close()
        raise PostgresNotSent("the server closed the connection before the statement was sent")


def hung_up(connection: PostgresConnection) -> bool:
    """True when the server has closed an idle connection; no round trip."""
    pgconn = connection.pgconn
    if pgconn.transaction_status in _QUIET and connection.arrivals.poll(0):
        _take_in(connection)
    return pgconn.status != _OK


def _take_in(connection: PostgresConnection) -> None:
    pgconn = connection.pgconn
    with suppress(psycopg.OperationalError):
        while pgconn.status == _OK and connection.arrivals.poll(0):
            pgconn.consume_input()
            pgconn.is_busy()


def abandon(connection: PostgresConnection) -> None:
    """Ends the statement under way and drops what it still sends; closes when that does not work.

    A server passes over the cancel of a statement that it has not begun, so it is asked again.
    """
    try:
        with suppress(psycopg.Error):
            for _ in range(_CANCELS):
                connection.cancel_safe(timeout=_CANCEL_SECONDS)
                if connection.hear(_rest(connection.pgconn, 1.0), 1.0):
                    break
    except BaseException:
        # Interrupted once more.
        connection.close()
        raise
    if connection.status not in (*_QUIET, TransactionStatus.INERROR):
        connection.close()


def _rest(pgconn: PGconn, seconds: float) -> PQGen[bool]:
    """Drops what arrives within so many seconds; True when that was all."""
    given_up = monotonic() + seconds
    while monotonic() < given_up:
        if pgconn.is_busy():
            yield WAIT_R
            pgconn.consume_input()
        elif pgconn.get_result() is None:
            return True
    return False


class _SentStatement:
    """A statement bound to its values, ready to be sent."""

    def __init__(self, connection: PostgresConnection, query: CompiledQuery, params: Params) -> None:
        text, values = query.bind_raw(params)
        if "\0" in text:
            # libpq would silently end the statement there.
            raise psycopg.DataError("the statement holds a NUL character; PostgreSQL has no such text")
        self._connection = connection
        self._sql = text.encode()
        dumped: Dumped = Dumping(connection).dumped(values) if values else (None, None, None)
        self._values, self._types, self._formats = dumped
        self.name: bytes | None = None

    def prepare(self) -> None:
        """Takes the prepared statement, or makes it when this one recurs. Raises what the server says to it."""
        connection, prepared = self._connection, self._connection.prepared
        if connection.pooled or connection.status == TransactionStatus.INERROR:
            return
        key = (self._sql, self._types)
        self.name = prepared.name(key)
        if self.name is None and prepared.is_due(key):
            name = prepared.new_name()
            connection.pgconn.send_prepare(name, self._sql, self._types)
            _checked(connection, connection.wait(generators.execute(connection.pgconn))[0])
            keep_prepared(connection, key, name)
            self.name = name

    def send(self) -> None:
        pgconn = self._connection.pgconn
        if self.name is not None:
            pgconn.send_query_prepared(self.name, self._values, self._formats)
        else:
            pgconn.send_query_params(self._sql, self._values, self._types, self._formats)


def keep_prepared(connection: PostgresConnection, key: StatementKey, name: bytes) -> None:
    """Keeps what the server has prepared, and frees the one that was not used for longest when there are too many."""
    connection.prepared.add(key, name)
    if (old := connection.prepared.surplus()) is not None:
        connection.pgconn.send_query_params(b"DEALLOCATE " + old, None)
        connection.wait(generators.execute(connection.pgconn))


def exchange(
    connection: PostgresConnection, queue: Callable[[PGconn], None], *, replies: int
) -> list[list[PGresult]]:
    """Sends what `queue` puts into a pipeline in one go, and waits for its replies (a Sync is one too)."""
    answers: list[list[PGresult]] = []
    with pipelined(connection, answers) as pgconn:
        queue(pgconn)
        connection.wait(replied(pgconn, replies, answers))
        for results in answers:
            refuse_copy(connection, results[0])
    return answers


@contextmanager
def pipelined(connection: PostgresConnection, answers: Sequence[Sequence[PGresult]]) -> Iterator[PGconn]:
    """Pipeline mode for the block, which ends with a Sync and takes all `answers`."""
    pgconn = connection.pgconn
    pgconn.enter_pipeline_mode()
    try:
        yield pgconn
        pgconn.exit_pipeline_mode()
    except BaseException as error:
        # Half of a pipeline is no state to go on from.
        connection.close()
        if isinstance(error, psycopg.OperationalError) and answers:
            _raise_last_words(answers[-1][0])
        raise


def _raise_last_words(result: PGresult) -> None:
    """Raises the server's error at the end of the session, which says more than the closed socket."""
    if result.error_field(DiagnosticField.SEVERITY_NONLOCALIZED) in (b"FATAL", b"PANIC"):
        raise psycopg.errors.error_from_result(result)


def replied(pgconn: PGconn, count: int, answers: list[list[PGresult]]) -> PQGen[None]:
    """Sends what is queued, and adds so many replies to `answers`; stops at a COPY."""
    yield from generators.send(pgconn)
    for _ in range(count):
        results: list[PGresult] = yield from generators.fetch_many(pgconn)
        answers.append(results)
        if results[0].status in _COPYING:
            # The server sends nothing more before it gets data of COPY.
            return


def _run_after(connection: PostgresConnection, setting: Setting, statement: _SentStatement) -> list[PGresult]:
    """Sends SET and statement together, each with a Sync of its own: no transaction spans both."""

    def queue(pgconn: PGconn) -> None:
        pgconn.send_query_params(setting.sql.encode(), None)
        pgconn.pipeline_sync()
        statement.send()
        pgconn.pipeline_sync()

    taken, _, results, _ = exchange(connection, queue, replies=4)
    if taken[0].status == ExecStatus.COMMAND_OK:
        connection.setting_taken(setting)
    return results


def apply_timeout(connection: PostgresConnection, timeout: float | None) -> None:
    """Sends the SET that a statement with `timeout` needs, alone."""
    if connection.asks_limit:
        ask_limit(connection)
    setting = connection.missing_setting(timeout)
    if setting is None:
        return
    connection.setting_sent(setting)
    connection.pgconn.send_query_params(setting.sql.encode(), None)
    result = connection.wait(generators.execute(connection.pgconn))[-1]
    if result.status == ExecStatus.COMMAND_OK:
        connection.setting_taken(setting)


def ask_limit(connection: PostgresConnection) -> None:
    """Asks which limit of statements is set that katax did not set. A transaction that failed cannot say."""
    if connection.status == TransactionStatus.INERROR:
        return
    if connection.pooled and connection.status == TransactionStatus.IDLE:
        connection.limit_unseen()
        return
    connection.pgconn.send_query_params(b"SHOW statement_timeout", None)
    result = connection.wait(generators.execute(connection.pgconn))[-1]
    if result.status == ExecStatus.FATAL_ERROR:
        raise psycopg.errors.error_from_result(result)
    connection.limit_seen(result.get_value(0, 0) or b"0")


def _checked(connection: PostgresConnection, result: PGresult) -> PGresult:
    if result.status == ExecStatus.FATAL_ERROR:
        raise refusal(connection, psycopg.errors.error_from_result(result))
    refuse_copy(connection, result)
    connection.statement_done(result.command_status)
    return result


def refusal(connection: PostgresConnection, error: psycopg.Error) -> psycopg.Error:
    """The error, or that a server in recovery refused a write (PostgreSQL 14 and later report that they are)."""
    if not isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        return error
    if connection.pgconn.parameter_status(b"in_hot_standby") != b"on":
        return error
    refused = StandbyRefused(error.diag.message_primary or str(error))
    refused.__cause__ = error
    return refused


def refuse_copy(connection: PostgresConnection, result: PGresult) -> None:
    """Closes the connection when a statement began a COPY."""
    if result.status in _COPYING:
        # libpq hands out such results for ever; the way back would be to speak COPY to the end.
        connection.close()
        raise psycopg.NotSupportedError("COPY from or to the client is no statement; use import or export")
