"""Transactions on one connection: a block, a callable, begin and commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from math import inf
from typing import Any

from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.sql import Statement, statement_of
from katax_cli.core.text.duration import Duration, in_seconds
from katax_cli.engines.base import CopiesIn, Introspects, TableDescription
from katax_cli.errors import KataxError, QueryError, RolledBack
from katax_cli.services.calls.guard import Safety, Sent
from katax_cli.services.calls.observer import Watch
from katax_cli.services.databases.lease import IdleLimit
from katax_cli.services.databases.origin import TransactionOrigin
from katax_cli.services.databases.postgresql.copying import CopyData, CopyFormat, copy_in
from katax_cli.services.databases.statements import ConnectionQueries, Queries


class RowRefused(Exception):
    """The server refused one row of several, the one with this `number` (from 1), because of `why`."""

    def __init__(self, number: int, why: QueryError) -> None:
        super().__init__(number, why)
        self.number = number
        self.why = why


class _TransactionFate:
    """The common state of a transaction and its savepoints.

    `ended_by` is the error with which the server rolled it back by itself, None: it did not. SQLite does so on a full
    disk, MySQL in a deadlock; what came next would be committed statement by statement. `cut_at` is the lowest level at
    which a statement was interrupted: whether that one was done is not known, so only going back before it goes on.
    """

    __slots__ = ("cut_at", "ended_by")

    def __init__(self) -> None:
        self.ended_by: BaseException | None = None
        self.cut_at = inf


class Transaction(ConnectionQueries):
    """An open transaction on one connection. A context manager: commits at the end, rolls back on an error.

    Once the server rolled it back by itself, or a statement was interrupted (a task cancelled, Ctrl-C), every call
    raises KataxError but `rollback`.
    """

    _again = "begin another"

    def __init__(
        self,
        origin: TransactionOrigin,
        connection: Any,
        deadline: Deadline,
        sent: Sent,
        level: int = 0,
        outer: Queries | None = None,
    ) -> None:
        super().__init__(origin, connection, deadline)
        self._outer = outer
        self._fate: _TransactionFate = outer._fate if isinstance(outer, Transaction) else _TransactionFate()
        self._sent = sent
        self._level = level
        self._at_end = ExitStack()
        self.open = False

    @property
    def ended(self) -> bool:
        """True after its end, and that of what it is in; the connection is somebody else's then."""
        return not self.open or self.is_inherited or (self._outer is not None and self._outer.ended)

    @property
    def is_lost(self) -> bool:
        """True once the server rolled it back by itself."""
        return self._fate.ended_by is not None

    def limit_idling(self, seconds: int) -> None:
        """Lets the server end it when nothing is sent for so many seconds, where the server can."""
        limit = self.engine.facts.idle_limit
        if limit is not None:
            self.run(limit.format(seconds=seconds))

    def when_ended(self, call: Callable[[], None]) -> None:
        """Calls `call` once the transaction has ended, however it ended."""
        self._at_end.callback(call)

    def __enter__(self) -> Transaction:
        facts = self.engine.facts
        if not self._origin.read_only:
            begin = (facts.savepoint.format(name=self._savepoint),) if self._level else self._origin.begin
            for sql in begin:
                self._send(sql)
        elif not self._level:
            with self._translating("transaction"):
                self._at_end.enter_context(self._origin.reading(self._connection))
        self.open = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if not self.open:
            return
        if error is None:
            self.commit()
        else:
            self._roll_back_quietly(error)

    @property
    def copies_in(self) -> bool:
        """True where `copy_rows` works."""
        return isinstance(self.engine, CopiesIn)

    def copy_rows(self, sql: str, rows: Sequence[Sequence[object]]) -> int:
        """Runs `COPY … FROM stdin` with these values. Raises RowRefused when the server names the row."""
        assert isinstance(self.engine, CopiesIn)
        try:
            with self._statement(statement_of(sql, self.dialect), None):
                return self.engine.copy_rows(self._connection, sql, rows)
        except RolledBack:
            raise
        except QueryError as error:
            number = self.engine.refused_row(error.__cause__)
            if number is None or number > len(rows):
                raise
            raise RowRefused(number, error) from error

    def copy_in(
        self,
        table: str,
        columns: Sequence[str],
        data: CopyData,
        *,
        format: CopyFormat = "text",
        idle: Duration | None = None,
    ) -> int:
        """The same as `SqlDatabase.copy_in`, in this transaction and its time."""
        seconds = None if idle is None else in_seconds(idle)
        limit = IdleLimit(self.engine, self._connection, seconds, "COPY")
        return copy_in(self, table, columns, data, format=format, waiting=limit.waiting)

    def copied(self, sql: str, copying: Callable[[Any], int]) -> int:
        """The result of `copying(connection)`, observed and guarded as this statement."""
        with self._statement(statement_of(sql, self.dialect), None):
            return copying(self._connection)

    @contextmanager
    def using(self, doing: str) -> Iterator[Any]:
        """The driver's connection, for code of its engine; the driver's errors are translated."""
        with self._translating(doing):
            yield self._connection

    def describe(self, name: str) -> TableDescription | None:
        """One table as this transaction sees it; None when there is none."""
        assert isinstance(self.engine, Introspects)
        self._refuse_to_go_on()
        with self._translating(f"describing {name!r}"):
            return self.engine.describe(self._connection, name, self.deadline.within(None))

    def transaction(self) -> Transaction:
        """A savepoint inside this transaction, as a `with` block."""
        self._refuse_to_go_on()
        return Transaction(
            self._origin, self._connection, self.deadline, self._sent, self._level + 1, outer=self
        )

    def commit(self) -> None:
        """Makes it last. Raises OutcomeUnknown when the answer does not come, KataxError after its end.

        One of which a statement was interrupted is rolled back, and KataxError raised.
        """
        self._refuse_after_end()
        if self._fate.cut_at < inf:
            self.rollback()
            raise KataxError(
                f"{self.engine.settings.name!r} rolled the transaction back instead of committing it: "
                "a statement in it was interrupted"
            )
        self._end(self.engine.facts.release.format(name=self._savepoint) if self._level else "COMMIT")

    def rollback(self) -> None:
        """Undoes it; with a connection that is lost the server has done so already. After its end, nothing.

        Raises QueryError for changes that the server kept: those of MySQL's tables without transactions.
        """
        if self.ended:
            return
        if self._fate.ended_by is not None or self.engine.is_broken(self._connection):
            self._end("")
        elif self._level:
            self._end(self.engine.facts.rollback_to.format(name=self._savepoint))
            if self._level <= self._fate.cut_at:
                self._fate.cut_at = inf
        else:
            self.open = False
            with self._at_end, self._translating("rollback"):
                if not self._origin.read_only:
                    self.engine.undo(self._connection)

    def _refuse_to_go_on(self) -> None:
        """After its end, and after a statement that was interrupted."""
        self._refuse_after_end()
        if self._fate.cut_at < inf:
            name = self.engine.settings.name
            raise KataxError(
                f"a statement of the transaction on {name!r} was interrupted, and may have been done; roll it back"
            )

    @property
    def _savepoint(self) -> str:
        return f"katax_{self._level}"

    def _end(self, sql: str) -> None:
        self.open = False
        with self._at_end:
            if sql and not self._origin.read_only:
                self._send(sql)

    def _send(self, sql: str) -> None:
        committing = sql == "COMMIT"
        with self._translating("commit" if committing else "transaction", committing=committing):
            self.engine.execute(self._connection, sql, None, self.deadline.within(None))

    def _roll_back_quietly(self, error: BaseException) -> None:
        """The error that ended the block is the one that the caller must see."""
        try:
            self.rollback()
        except KataxError as second:
            error.add_note(f"and rolling back failed: {second}")

    @contextmanager
    def _statement(
        self, statement: Statement, params: object, timeout: Duration | None = None
    ) -> Iterator[tuple[Watch, float | None]]:
        self._refuse_to_go_on()
        self._origin.refuse_unless_reading(statement)
        deadline = self.deadline.shorter(timeout)
        deadline.check(self.engine.settings.name, "query")
        with (
            self._origin.observer.watch(statement.text, params) as watch,
            self._translating("query", deadline=deadline),
        ):
            yield watch, deadline.within(None)

    @contextmanager
    def _translating(
        self, doing: str, *, deadline: Deadline | None = None, committing: bool = False
    ) -> Iterator[None]:
        """Translates errors: before COMMIT the server rolled back; only COMMIT itself can be unknown."""
        refuse_rolled_back(self.engine.settings.name, self._fate.ended_by)
        self._sent.sent = committing
        safety = Safety.WRITE if committing else Safety.PART
        was_open = self.open and self.engine.in_transaction(self._connection)
        try:
            ends = deadline or self.deadline
            with self._origin.guard.translating(deadline=ends, safety=safety, doing=doing):
                yield
        except GeneratorExit:
            # Whoever read the rows let them go, perhaps when the connection was closed long since.
            raise
        except BaseException as error:
            if was_open and not self.engine.in_transaction(self._connection):
                self._fate.ended_by = error
            elif not isinstance(error, Exception):
                # An end of a savepoint leaves its doubt to what is around it.
                self._fate.cut_at = min(self._fate.cut_at, self._level if self.open else self._level - 1)
            raise


def refuse_rolled_back(connection: str, ended_by: BaseException | None) -> None:
    """Raises KataxError for what would run outside the transaction that the server rolled back by itself."""
    if ended_by is not None:
        raise KataxError(
            f"{connection!r} rolled the transaction back by itself, and nothing more was run in it; after: "
            f"{str(ended_by) or type(ended_by).__name__}"
        ) from ended_by


class TransactionBlock:
    """A transaction that leases its own connection for the length of a block, or until it is ended."""

    def __init__(self, origin: TransactionOrigin, deadline: Deadline) -> None:
        self._origin = origin
        self._deadline = deadline

    @property
    def connection(self) -> str:
        """The name of its connection."""
        return self._origin.engine.settings.name

    def begin(self) -> Transaction:
        """Opens it; nothing has been asked of it yet, so a broken connection is replaced."""
        self._transaction = self._origin.guard.call(
            self._open, deadline=self._deadline, safety=Safety.READ, doing="begin"
        )
        return self._transaction

    def _open(self, sent: Sent) -> Transaction:
        with ExitStack() as stack:
            connection = stack.enter_context(self._origin.lease(self._deadline))
            transaction = Transaction(self._origin, connection, self._deadline, sent).__enter__()
            transaction.when_ended(stack.pop_all().close)
            return transaction

    __enter__ = begin

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._transaction.__exit__(kind, error, trace)
