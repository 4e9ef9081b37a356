"""PostgreSQL through psycopg: `create(settings)` gives the engine."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress

import psycopg
from psycopg.pq import TransactionStatus

from katax_cli.core.engine_names import Dialect, EngineName
from katax_cli.core.resilience.failure import Failure
from katax_cli.core.settings import ConnectionSettings
from katax_cli.core.sql import AnySql, Residue, statement_of
from katax_cli.engines.base import Params, Result, RowStream, SqlFacts, Table, TableDescription, Text
from katax_cli.engines.greeting import greeted
from katax_cli.engines.postgresql import catalog
from katax_cli.engines.postgresql.connect import SSL_REQUEST, ask_for_tls, open_connection, reset_session
from katax_cli.engines.postgresql.failures import StandbyRefused, classify, on_standby
from katax_cli.engines.postgresql.guard import check_guarded, read_only_transaction
from katax_cli.engines.postgresql.pipeline import many
from katax_cli.engines.postgresql.session import PostgresConnection
from katax_cli.engines.postgresql.transfer import copy_rows, copy_text, refused_row
from katax_cli.engines.postgresql.values import Values
from katax_cli.engines.postgresql.wire import (
    affected,
    check_alive,
    columns,
    hung_up,
    run,
    streamed,
)

# A shorter limit of the role's or the session's own stands; 0 is none.
_IDLE_LIMIT = (
    "SELECT set_config(name, least({seconds} * 1000, nullif(setting::bigint, 0))::text, true) "
    "FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'"
)
# Only these may be answered with ROLLBACK: to COMMIT it is how the server refuses, and no error.
_ROLLING_BACK = ("ROLLBACK", "ABORT")


class PostgresEngine:
    """Engine, SqlEngine, CopiesIn, ReadOnlyGuard, Introspects and ReportsServer for one PostgreSQL connection."""

    name: EngineName = "postgresql"
    dialect: Dialect = "postgresql"
    facts = SqlFacts(
        begin="BEGIN",
        begin_read_only="BEGIN READ ONLY",
        now_ms="CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)",
        now_us="CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)",
        idle_limit=_IDLE_LIMIT,
        begin_as=("BEGIN {}",),
        deferrable=True,
    )
    connection_class = PostgresConnection

    def __init__(self, settings: ConnectionSettings) -> None:
        self.settings = settings

    def connect(self, timeout: float | None) -> PostgresConnection:
        return open_connection(self.settings, timeout, self.connection_class)

    def ping(self, connection: PostgresConnection, timeout: float | None) -> None:
        # An empty statement is the least that a server answers; its time limit is the caller's watchdog.
        check_alive(connection)
        connection.execute("")

    def ask_for_tls(self, wire: socket.socket) -> None:
        ask_for_tls(wire)

    def close(self, connection: PostgresConnection) -> None:
        with suppress(psycopg.Error):
            connection.close()

    def classify(self, error: BaseException) -> Failure:
        failure = classify(error)
        if not isinstance(error, StandbyRefused):
            return failure
        return on_standby(failure, other_hosts=len(self.settings.nodes) > 1 or bool(self.settings.replicas))

    def execute(
        self, connection: PostgresConnection, sql: AnySql, params: Params = None, timeout: float | None = None
    ) -> Result:
        statement = statement_of(sql, "postgresql")
        check_guarded(connection, statement)
        connection.note(statement)
        result = run(connection, statement.query, params, timeout)
        if result.command_status == b"ROLLBACK" and statement.effect.verb not in _ROLLING_BACK:
            raise psycopg.errors.InFailedSqlTransaction(
                f"{statement.effect.verb} was answered with ROLLBACK, since a statement before it had failed"
            )
        rows = Values(connection).rows(result) if result.ntuples else []
        return Result(columns(result), rows, affected(result))

    def execute_many(
        self,
        connection: PostgresConnection,
        sql: AnySql,
        rows: Sequence[Params],
        timeout: float | None = None,
    ) -> int:
        """All rows in one pipeline: outside a transaction they are applied together or not at all."""
        statement = statement_of(sql, "postgresql")
        check_guarded(connection, statement)
        if not rows:
            return 0
        connection.note(statement)
        return many(connection, statement.text, rows, timeout)

    def copy_rows(self, connection: PostgresConnection, sql: str, rows: Iterable[Sequence[object]]) -> int:
        return copy_rows(connection, sql, rows)

    def copy_text(self, connection: PostgresConnection, sql: str, text: str) -> int:
        return copy_text(connection, sql, text)

    def refused_row(self, error: BaseException | None) -> int | None:
        return refused_row(error)

    def stream(
        self,
        connection: PostgresConnection,
        sql: AnySql,
        params: Params = None,
        timeout: float | None = None,
        *,
        text: Text = False,
    ) -> AbstractContextManager[RowStream]:
        statement = statement_of(sql, "postgresql")
        check_guarded(connection, statement)
        connection.note(statement)
        return streamed(connection, statement.query, params, timeout, text=text)

    def in_transaction(self, connection: PostgresConnection) -> bool:
        return connection.status in (TransactionStatus.INTRANS, TransactionStatus.INERROR)

    def transaction_failed(self, connection: PostgresConnection) -> bool:
        return bool(connection.status == TransactionStatus.INERROR)

    def undo(self, connection: PostgresConnection) -> None:
        # An idle one that died meanwhile is found out before the next statement is sent.
        if connection.pgconn.transaction_status != TransactionStatus.IDLE:
            check_alive(connection)
            connection.rollback()
            connection.statement_done(b"ROLLBACK")

    def mark(self, connection: PostgresConnection, residue: Residue) -> None:
        connection.residue = max(connection.residue, residue)

    def needs_reset(self, connection: PostgresConnection) -> bool:
        return bool(connection.residue) or connection.status != TransactionStatus.IDLE

    def reset(self, connection: PostgresConnection) -> None:
        if connection.residue:
            reset_session(connection, self.settings)
        else:
            self.undo(connection)

    def is_broken(self, connection: PostgresConnection) -> bool:
        return bool(connection.closed) or hung_up(connection)

    def cancel(self, connection: PostgresConnection, timeout: float) -> None:
        with suppress(psycopg.Error):
            connection.cancel_safe(timeout=timeout)

    def interrupt(self, connection: PostgresConnection) -> None:
        # A duplicate descriptor, so that its closing leaves libpq's own alone.
        with (
            suppress(psycopg.Error, OSError),
            socket.socket(fileno=os.dup(connection.pgconn.socket)) as wire,
        ):
            wire.shutdown(socket.SHUT_RDWR)

    def greets(self, connection: PostgresConnection, seconds: float) -> bool:
        """A pooler answers for itself, be its pool full or the server behind it frozen."""
        try:
            wire = connection.pgconn.socket
        except psycopg.Error:
            # Closed meanwhile: whoever used it knows.
            return True
        return greeted(wire, SSL_REQUEST, seconds)

    def read_only(
        self, connection: PostgresConnection, characteristics: str = ""
    ) -> AbstractContextManager[None]:
        return read_only_transaction(connection, self.settings.name, characteristics)

    def tables(self, connection: PostgresConnection, timeout: float | None = None) -> list[Table]:
        return catalog.tables(self, connection, timeout)

    def describe(
        self, connection: PostgresConnection, name: str, timeout: float | None = None
    ) -> TableDescription | None:
        return catalog.describe(self, connection, name, timeout)

    def server(self, connection: PostgresConnection, timeout: float | None = None) -> Mapping[str, object]:
        return catalog.server(self, connection, timeout)


def create(settings: ConnectionSettings) -> PostgresEngine:
    """The engine of one connection; connects nowhere yet."""
    return PostgresEngine(settings)
