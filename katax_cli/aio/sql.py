"""The SQL databases for tasks: statements, streams and transactions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, overload

from katax_cli.aio.database import AsyncDatabase
from katax_cli.aio.own_loop import OwnLoop
from katax_cli.aio.proxy import awaited
from katax_cli.aio.statements import (
    AsyncCopy,
    AsyncNotifications,
    AsyncQueries,
    AsyncStream,
    SharedConnection,
    taken,
)
from katax_cli.core.interrupts import note_doubt
from katax_cli.core.sql import AnySql
from katax_cli.core.text.duration import Duration
from katax_cli.engines.awaited.calls import wait_for
from katax_cli.engines.base import Params, Text
from katax_cli.services.databases.origin import Isolation
from katax_cli.services.databases.postgresql.copying import CopyData, CopyFormat
from katax_cli.services.databases.session import Session
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.databases.transaction import Transaction, TransactionBlock

P = ParamSpec("P")
T = TypeVar("T")


class AsyncTransaction(SharedConnection[Transaction]):
    """An open transaction on one connection, whose statements run one after the other.

    As a savepoint of another one, a context: released at the end, rolled back on an error.
    """

    async def copy_in(
        self,
        table: str,
        columns: Sequence[str],
        data: CopyData | AsyncIterable[Any],
        *,
        format: CopyFormat = "text",
        idle: Duration | None = None,
    ) -> int:
        """The same as `AsyncSqlDatabase.copy_in`, in this transaction and its time."""
        return await self._call(self._wrapped.copy_in, table, columns, taken(data), format=format, idle=idle)

    def transaction(self) -> AsyncTransaction:
        """A savepoint inside this transaction, for `async with`."""
        return AsyncTransaction(self._wrapped.transaction(), self._home, self._turn)

    async def commit(self) -> None:
        """Makes it last. Raises OutcomeUnknown when the answer does not come, or the task is cancelled meanwhile."""
        await self._call(_committing(self._wrapped.engine.settings.name, self._wrapped.commit))

    rollback = awaited(Transaction.rollback)

    async def __aenter__(self) -> Self:
        await self._call(self._wrapped.__enter__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave(self._wrapped.__exit__, error)

    async def whole(self, work: Callable[[AsyncTransaction], Awaitable[T]]) -> T:
        """The result of `work`, once no other task's statement is under way."""
        try:
            result = await work(self)
        except BaseException as error:
            await self._leave(_nothing, error)
            raise
        await self._leave(_nothing, None)
        return result


def _nothing(*_exit: object) -> None:
    """The end of a block whose transaction is ended by its caller."""


class AsyncTransactionBlock:
    """A transaction for `async with`: commits at the end, rolls back on an error and when the task is cancelled."""

    def __init__(self, block: TransactionBlock, home: OwnLoop) -> None:
        self._block = block
        self._home = home

    async def __aenter__(self) -> AsyncTransaction:
        self._transaction = AsyncTransaction(await self._home.call(self._block.begin), self._home)
        return self._transaction

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transaction._leave(_committing(self._block.connection, self._block.__exit__), error)


def _committing(connection: str, commit: Callable[P, None]) -> Callable[P, None]:
    """A call cancelled after its COMMIT was sent is in doubt, also while its connection is made like new."""

    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            commit(*args, **kwargs)
        except asyncio.CancelledError as cancelled:
            # The end of a block that failed commits nothing.
            if not any(args):
                note_doubt(cancelled, connection, "commit")
            raise

    return run


class AsyncSession(SharedConnection[Session]):
    """One connection for statements that build on each other: what they SET, BEGIN or lock lasts until the end.

    Nothing is repeated, and a transaction that is still open at the end is rolled back.
    """

    @property
    def in_transaction(self) -> bool:
        """True while a statement's own transaction is open."""
        return self._wrapped.in_transaction

    def transaction(self) -> AsyncTransaction:
        """A transaction on this connection, for `async with`; inside one that is open, a savepoint."""
        return AsyncTransaction(self._wrapped.transaction(), self._home, self._turn)


class AsyncSessionBlock:
    """A session for `async with`; its connection goes back to the pool at the end."""

    def __init__(self, block: AbstractContextManager[Session], home: OwnLoop) -> None:
        self._block = block
        self._home = home

    async def __aenter__(self) -> AsyncSession:
        self._session = AsyncSession(await self._home.call(self._block.__enter__), self._home)
        return self._session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session._leave(self._block.__exit__, error)


class AsyncSqlDatabase(AsyncDatabase[SqlDatabase], AsyncQueries[SqlDatabase]):
    """PostgreSQL, MySQL/MariaDB or SQLite for tasks.

    Placeholders are `$1`, `?` or `:name`, on every engine.
    """

    def __init__(self, database: SqlDatabase, home: OwnLoop) -> None:
        super().__init__(database, home)
        self._replicas: dict[SqlDatabase, AsyncSqlDatabase] = {}

    notify = awaited(SqlDatabase.notify)
    tables = awaited(SqlDatabase.tables)
    describe = awaited(SqlDatabase.describe)

    def stream(
        self,
        sql: AnySql,
        params: Params = None,
        *,
        timeout: Duration | None = None,
        idle: Duration | None = None,
        text: Text = False,
    ) -> AsyncStream:
        """Rows in batches: `async with db.stream(sql) as rows:` and `async for batch in rows:`."""
        return AsyncStream(partial(self._wrapped.stream, sql, params, idle=idle, text=text), self, timeout)

    async def copy_in(
        self,
        table: str,
        columns: Sequence[str],
        data: CopyData | AsyncIterable[Any],
        *,
        format: CopyFormat = "text",
        timeout: Duration | None = None,
        idle: Duration | None = None,
    ) -> int:
        """Fills a table of PostgreSQL by COPY with rows, or with bytes; returns how many rows the server took.

        `data` may be an async iterator too. All of it or nothing; see `SqlDatabase.copy_in`.
        """
        return await self._home.call(
            self._wrapped.copy_in,
            table,
            columns,
            taken(data),
            format=format,
            timeout=timeout,
            idle=idle,
        )

    def listen(
        self,
        *channels: str,
        timeout: Duration | None = None,
        connect_timeout: Duration | None = None,
    ) -> AsyncNotifications:
        """The notifications of channels on PostgreSQL; `timeout`: the loop ends when nothing came for so long."""
        made = self._wrapped.listen(*channels, timeout=timeout, connect_timeout=connect_timeout)
        return AsyncNotifications(made, self._home, timeout)

    def copy_out(
        self,
        query: AnySql,
        *,
        format: CopyFormat = "text",
        timeout: Duration | None = None,
        idle: Duration | None = None,
    ) -> AsyncCopy:
        """The rows of a query as bytes: `async with db.copy_out(sql) as pieces:` and `async for piece in pieces:`."""
        return AsyncCopy(partial(self._wrapped.copy_out, query, format=format, idle=idle), self, timeout)

    @overload
    def transaction(
        self,
        work: Callable[[AsyncTransaction], Awaitable[T]],
        *,
        timeout: Duration | None = None,
        isolation: Isolation | None = None,
        read_only: bool = False,
        deferrable: bool = False,
    ) -> Awaitable[T]: ...
    @overload
    def transaction(
        self,
        work: None = None,
        *,
        timeout: Duration | None = None,
        isolation: Isolation | None = None,
        read_only: bool = False,
        deferrable: bool = False,
    ) -> AsyncTransactionBlock: ...
    def transaction(
        self,
        work: Callable[[AsyncTransaction], Awaitable[T]] | None = None,
        *,
        timeout: Duration | None = None,
        isolation: Isolation | None = None,
        read_only: bool = False,
        deferrable: bool = False,
    ) -> Awaitable[T] | AsyncTransactionBlock:
        """A transaction: for `async with`, or of a coroutine function.

        A coroutine function is run again as a whole when the server rolled it back (serialization failure, deadlock);
        a block raises. The parameters are those of `SqlDatabase.transaction`.
        """
        begun = partial(
            self._wrapped.transaction,
            timeout=timeout,
            isolation=isolation,
            read_only=read_only,
            deferrable=deferrable,
        )
        if work is None:
            return AsyncTransactionBlock(begun(), self._home)
        wanted, home = work, self._home

        def run(transaction: Transaction) -> T:
            return wait_for(AsyncTransaction(transaction, home).whole(wanted))

        return home.call(begun, run)

    async def begin(
        self,
        *,
        timeout: Duration | None = None,
        isolation: Isolation | None = None,
        read_only: bool = False,
        deferrable: bool = False,
    ) -> AsyncTransaction:
        """An open transaction, to be ended with `commit()` or `rollback()`; see `transaction`."""
        begin = partial(
            self._wrapped.begin,
            timeout=timeout,
            isolation=isolation,
            read_only=read_only,
            deferrable=deferrable,
        )
        return AsyncTransaction(await self._home.call(begin), self._home)

    def session(self, *, timeout: Duration | None = None) -> AsyncSessionBlock:
        """One connection for statements that build on each other: `async with db.session() as session:`.

        `timeout` is seconds for all of it.
        """
        return AsyncSessionBlock(self._wrapped.session(timeout=timeout), self._home)

    async def replica(self, *, timeout: Duration | None = None) -> AsyncSqlDatabase:
        """One of the connection's replicas that can be reached, for reading; it is closed with this database.

        The primary never stands in. Raises ConfigError when there are none, Unavailable when none answers.
        """
        chosen = await self._home.call(self._wrapped.replica, timeout=timeout)
        if chosen not in self._replicas:
            self._replicas[chosen] = AsyncSqlDatabase(chosen, self._home)
        return self._replicas[chosen]
