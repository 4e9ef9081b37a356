"""MySQL and MariaDB as an engine."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress

import pymysql

from katax_cli.core.engine_names import Dialect, EngineName
from katax_cli.core.resilience.failure import Failure, FailureKind
from katax_cli.core.settings import ConnectionSettings
from katax_cli.core.sql import AnySql, Residue, Statement, compile_query, statement_of
from katax_cli.engines.base import Params, Result, RowStream, SqlFacts, Table, TableDescription, Text
from katax_cli.engines.greeting import greeted
from katax_cli.engines.mysql import catalog
from katax_cli.engines.mysql.connect import open_session, session_settings
from katax_cli.engines.mysql.failures import classify, refused_by_server
from katax_cli.engines.mysql.rows import fetched
from katax_cli.engines.mysql.session import MysqlSession
from katax_cli.engines.mysql.stream import streamed
from katax_cli.engines.mysql.tls import ask_for_tls
from katax_cli.engines.refusals import not_read_only
from katax_cli.errors import KataxError, Refused

_KILL_TIMEOUT = 2.0
# What ends or divides a transaction changes nothing about who may write.
_HARMLESS_VERBS = frozenset({"COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE"})

# MySQL itself has no such limit, and reads MariaDB's part as a comment. 0 is none.
_IDLE_LIMIT = (
    "SET @katax_idle = {seconds} /*M!100300 , SESSION idle_transaction_timeout = "
    "IF(@@idle_transaction_timeout = 0, {seconds}, LEAST({seconds}, @@idle_transaction_timeout)) */"
)


class MysqlEngine:
    """MySQL or MariaDB.

    MariaDB ends every statement at its timeout. MySQL itself ends SELECT only, and up to twice as late: there
    the caller's watchdog uses `cancel`.
    """

    name: EngineName = "mysql"
    dialect: Dialect = "mysql"
    facts = SqlFacts(
        begin="START TRANSACTION",
        begin_read_only="START TRANSACTION READ ONLY",
        now_ms="CAST(unix_timestamp(now(3)) * 1000 AS signed)",
        now_us="CAST(unix_timestamp(now(6)) * 1000000 AS unsigned)",
        idle_limit=_IDLE_LIMIT,
        begin_as=("SET TRANSACTION {}", "START TRANSACTION"),
    )

    def __init__(self, settings: ConnectionSettings) -> None:
        self.settings = settings

    def connect(self, timeout: float | None) -> MysqlSession:
        session = open_session(self.settings, timeout)
        if self.settings.read_only:
            try:
                self._make_read_only(session)
            except BaseException:
                session.drop()
                raise
        return session

    def _make_read_only(self, session: MysqlSession) -> None:
        session.query("SET SESSION TRANSACTION READ ONLY")
        variable = "tx_read_only" if session.is_mariadb else "transaction_read_only"
        [(seen,)] = fetched(session, f"SELECT @@SESSION.{variable}").rows
        if seen != 1:
            raise not_read_only(self.settings.name)

    def ping(self, connection: MysqlSession, timeout: float | None) -> None:
        connection.check_alive()
        connection.give(timeout)
        connection.ping()

    def ask_for_tls(self, wire: socket.socket) -> None:
        ask_for_tls(wire)

    def close(self, connection: MysqlSession) -> None:
        connection.say_goodbye()

    def classify(self, error: BaseException) -> Failure:
        failure = classify(error)
        if not refused_by_server(failure):
            return failure
        # With others to ask, the one that takes writes is one of them, and is not available.
        kind = FailureKind.UNREACHABLE if self.settings.replicas else failure.kind
        return failure._replace(
            kind=kind, message=f"the server is read-only, as a standby is: {failure.message}"
        )

    def execute(
        self, connection: MysqlSession, sql: AnySql, params: Params = None, timeout: float | None = None
    ) -> Result:
        """The first result; a procedure's others are dropped."""
        statement = statement_of(sql, "mysql")
        self._check_guarded(connection, statement)
        connection.note(statement)
        return fetched(connection, statement, params, timeout)

    def execute_many(
        self, connection: MysqlSession, sql: AnySql, rows: Sequence[Params], timeout: float | None = None
    ) -> int:
        """All rows or, outside a transaction of the caller's, none; INSERT sends many rows at once."""
        statement = statement_of(sql, "mysql")
        self._check_guarded(connection, statement)
        if not rows:
            return 0
        connection.note(statement)
        if connection.in_transaction:
            return _each(connection, statement.text, rows, timeout)
        connection.send(self.facts.begin, timeout=timeout)
        try:
            affected = _each(connection, statement.text, rows, timeout)
            connection.send("COMMIT", timeout=timeout)
        except BaseException:
            self._roll_back(connection)
            raise
        return affected

    def stream(
        self,
        connection: MysqlSession,
        sql: AnySql,
        params: Params = None,
        timeout: float | None = None,
        *,
        text: Text = False,
    ) -> AbstractContextManager[RowStream]:
        """Streams rows; closing early ends the rest by KILL QUERY, connection and transaction stay usable."""
        statement = statement_of(sql, "mysql")
        self._check_guarded(connection, statement)
        connection.note(statement)
        return streamed(
            connection,
            statement,
            params,
            timeout,
            text=text,
            kill=lambda: self._kill(connection, _KILL_TIMEOUT),
        )

    def in_transaction(self, connection: MysqlSession) -> bool:
        return connection.in_transaction

    def undo(self, connection: MysqlSession) -> None:
        if connection.in_transaction or not connection.open:
            connection.send("ROLLBACK", timeout=self.settings.connect_timeout)
            connection.check_undone()

    def mark(self, connection: MysqlSession, residue: Residue) -> None:
        connection.give(self.settings.connect_timeout)
        connection.mark(residue)

    def needs_reset(self, connection: MysqlSession) -> bool:
        return bool(connection.residue) or connection.in_transaction or not connection.open

    def reset(self, connection: MysqlSession) -> None:
        if not connection.residue:
            self.undo(connection)
            return
        connection.give(self.settings.connect_timeout)
        connection.renew(session_settings(self.settings))
        if self.settings.read_only:
            self._make_read_only(connection)

    def is_broken(self, connection: MysqlSession) -> bool:
        return connection.has_hung_up()

    def cancel(self, connection: MysqlSession, timeout: float) -> None:
        self._kill(connection, timeout)

    def _kill(self, connection: MysqlSession, timeout: float) -> bool:
        """A connection says nothing while its statement runs, so a second one ends it."""
        with suppress(pymysql.Error, KataxError, OSError):
            other = open_session(self.settings, timeout)
            try:
                other.query(f"KILL QUERY {connection.server_thread_id[0]}")
                return True
            finally:
                other.say_goodbye()
        return False

    def interrupt(self, connection: MysqlSession) -> None:
        with suppress(OSError):
            connection.shut_down()

    def greets(self, connection: MysqlSession, seconds: float) -> bool:
        """The server sends first; that it is full, or blocks this host, is an answer too."""
        wire = connection._sock
        return wire is None or greeted(wire.fileno(), b"", seconds)

    @contextmanager
    def read_only(self, connection: MysqlSession, characteristics: str = "") -> Iterator[None]:
        if characteristics:
            connection.send(f"SET TRANSACTION {characteristics}", timeout=self.settings.connect_timeout)
        connection.send(self.facts.begin_read_only, timeout=self.settings.connect_timeout)
        try:
            if not connection.in_read_only_transaction:
                raise not_read_only(self.settings.name)
            connection.guarded = True
            yield
        finally:
            connection.guarded = False
            self._roll_back(connection)

    def _roll_back(self, connection: MysqlSession) -> None:
        try:
            connection.send("ROLLBACK", timeout=self.settings.connect_timeout)
        except pymysql.Error:
            connection.drop()

    def _check_guarded(self, connection: MysqlSession, statement: Statement) -> None:
        """A read-only transaction lets SET GLOBAL, KILL, INTO OUTFILE and its own end pass; this does not."""
        if not connection.guarded and not self.settings.read_only:
            return
        effect = statement.effect
        if effect.kind == "read":
            return
        ends = effect.kind == "transaction" and effect.verb in _HARMLESS_VERBS
        if connection.guarded or not (ends or statement.text == self.facts.begin_read_only):
            what = effect.reason or effect.verb or "this statement"
            raise Refused(f"{what} on {self.settings.name!r}, which is read-only")

    def tables(self, connection: MysqlSession, timeout: float | None = None) -> list[Table]:
        return catalog.tables(connection, timeout)

    def describe(
        self, connection: MysqlSession, name: str, timeout: float | None = None
    ) -> TableDescription | None:
        return catalog.describe(connection, name, timeout)

    def server(self, connection: MysqlSession, timeout: float | None = None) -> Mapping[str, object]:
        return catalog.server(connection, timeout)


def _each(session: MysqlSession, sql: str, rows: Sequence[Params], timeout: float | None) -> int:
    query = compile_query(sql, "mysql")
    bound = [query.bind(row) for row in rows]
    session.give(timeout)
    with session.cursor() as cursor:
        return cursor.executemany(bound[0][0], [values or () for _, values in bound]) or 0
