"""Rows and bytes that do not fit into memory: streams of a database, limited by the silence of its server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from katax_cli.core.resilience.deadline import NEVER, Deadline
from katax_cli.core.sql import AnySql, statement_of
from katax_cli.core.text.duration import Duration, in_seconds
from katax_cli.engines.base import Params, RowStream, SqlEngine, Text
from katax_cli.services.calls.guard import Safety, Sent
from katax_cli.services.calls.observer import WatchedStream
from katax_cli.services.databases.database import TabularDatabase
from katax_cli.services.databases.lease import IdleLimit
from katax_cli.services.databases.origin import TransactionOrigin
from katax_cli.services.databases.postgresql.copying import (
    CopyData,
    CopyFormat,
    check_copy_out,
    copied_out,
    copy_in,
)
from katax_cli.services.databases.transaction import Transaction

if TYPE_CHECKING:
    from katax_cli.engines.transfers import CopiedOut


class StreamingDatabase(TabularDatabase):
    """The streams of a SQL database, each on a connection of the pool for as long as it lasts."""

    engine: SqlEngine
    _origin: TransactionOrigin

    @contextmanager
    def stream(
        self,
        sql: AnySql,
        params: Params = None,
        *,
        timeout: Duration | None = None,
        idle: Duration | None = None,
        text: Text = False,
    ) -> Iterator[RowStream]:
        """Rows in batches as they arrive, in constant memory; leaving early ends the statement on the server.

        A reader may take its time. `idle` is how many seconds the server may send nothing, by default as long as a
        statement may take; `timeout` limits all of it, reading too, and then there is no other limit unless `idle` is
        given. Raises DeadlineExceeded.
        """
        deadline, silence = self._stream_limits(timeout, idle)
        statement = statement_of(sql, self.engine.dialect)
        safety = self._origin.safety(statement)
        with self.observer.watch(statement.text, params) as watch, ExitStack() as stack:

            def open_stream(sent: Sent) -> RowStream:
                with ExitStack() as opening:
                    connection = opening.enter_context(self._lease(deadline))
                    limit = IdleLimit(self.engine, connection, silence, "waiting for rows")
                    with limit.waiting():
                        opening.enter_context(self._origin.guarded(connection, statement))
                        sent.sent = True
                        seconds = deadline.within(None)
                        opened = self.engine.stream(connection, statement, params, seconds, text=text)
                        rows = opening.enter_context(opened)
                    watched = opening.enter_context(WatchedStream(rows, watch, limit.waiting))
                    stack.enter_context(opening.pop_all())
                    return watched

            rows = self.guard.call(open_stream, deadline=deadline, safety=safety, doing="query")
            with self.guard.translating(deadline=deadline, safety=safety, doing="query"):
                yield rows

    def _stream_limits(
        self, timeout: Duration | None, idle: Duration | None
    ) -> tuple[Deadline, float | None]:
        """The deadline of all of a stream, and the seconds that its server may be silent; None for no limit."""
        if timeout is not None:
            return self._deadline(timeout), None if idle is None else in_seconds(idle)
        deadline = self.callers_deadline()
        if idle is not None:
            return deadline, in_seconds(idle)
        if deadline is NEVER:
            return deadline, self.settings.statement_timeout
        # Whoever limits all of it, as a command does, waits for one statement no longer than the connection allows.
        return self._deadline(None), None

    def copy_in(
        self,
        table: str,
        columns: Sequence[str],
        data: CopyData,
        *,
        format: CopyFormat = "text",
        timeout: Duration | None = None,
        idle: Duration | None = None,
    ) -> int:
        """Fills a table of PostgreSQL by COPY and returns the number of rows that the server's command tag says.

        `data` are rows of values, or bytes in any pieces as `format` says; no `columns` are all of the table. All of it
        or nothing: what the server refuses, what `data` raises and a lost connection leave the table as before, and a
        connection that is lost at the end raises OutcomeUnknown. `timeout` and `idle` are those of `stream`.
        """
        deadline, silence = self._stream_limits(timeout, idle)

        def begin(sent: Sent) -> tuple[Transaction, IdleLimit]:
            with ExitStack() as opening:
                connection = opening.enter_context(self._lease(deadline))
                limit = IdleLimit(self.engine, connection, silence, "COPY")
                transaction = Transaction(self._origin, connection, deadline, sent)
                with limit.waiting():
                    transaction.__enter__()
                transaction.when_ended(opening.pop_all().close)
                return transaction, limit

        transaction, limit = self.guard.call(begin, deadline=deadline, safety=Safety.READ, doing="begin")
        try:
            count = copy_in(transaction, table, columns, data, format=format, waiting=limit.waiting)
        except BaseException as error:
            with limit.deciding():
                transaction.__exit__(type(error), error, error.__traceback__)
            raise
        with limit.deciding():
            transaction.commit()
        return count

    @contextmanager
    def copy_out(
        self,
        query: AnySql,
        *,
        format: CopyFormat = "text",
        timeout: Duration | None = None,
        idle: Duration | None = None,
    ) -> Iterator[CopiedOut]:
        """The rows of a query on PostgreSQL as bytes, by COPY, in pieces as they arrive: whole lines, or binary.

        It takes no parameters: COPY has none. `rows` of what it gives counts the rows, at the end as the server
        counted them. `timeout` and `idle` are those of `stream`; leaving early ends the statement on the server.
        """
        check_copy_out(self.engine, format)
        deadline, silence = self._stream_limits(timeout, idle)
        statement = statement_of(query, self.engine.dialect)
        safety = self._origin.safety(statement)
        with self.observer.watch(statement.text) as watch, ExitStack() as stack:

            def open_copy(sent: Sent) -> CopiedOut:
                with ExitStack() as opening:
                    connection = opening.enter_context(self._lease(deadline))
                    limit = IdleLimit(self.engine, connection, silence, "waiting for COPY")
                    with limit.waiting():
                        opening.enter_context(self._origin.guarded(connection, statement))
                    sent.sent = True
                    copy = opening.enter_context(
                        copied_out(self.engine, connection, statement, format=format, waiting=limit.waiting)
                    )
                    stack.enter_context(opening.pop_all())
                    return copy

            copy = self.guard.call(open_copy, deadline=deadline, safety=safety, doing="query")
            with self.guard.translating(deadline=deadline, safety=safety, doing="query"):
                watch.pause()
                yield copy
