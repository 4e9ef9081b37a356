"""The SQL databases for tasks: statements, streams and transactions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from katax_cli.aio.database import AsyncDatabase
from katax_cli.aio.guard import note_doubt
from katax_cli.aio.own_loop import OwnLoop
from katax_cli.core.sql import AnySql
from katax_cli.core.text.duration import Duration
from katax_cli.engines.awaited.calls import wait_for
from katax_cli.engines.base import Params, Result, Row, RowStream, Table, TableDescription, Text
from katax_cli.engines.transfers import CopiedOut
from katax_cli.services.databases.postgresql.copying import CopyData, CopyFormat
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.databases.transaction import Transaction, TransactionBlock

T = TypeVar("T")


class AsyncStream:
    """Rows of one statement in batches as they arrive, in constant memory.

    `async with` ends the statement on the server when the block is left early; `async for` alone does so once its
    iterator is closed.
    """

    def __init__(self, stream: AbstractContextManager[RowStream], home: OwnLoop) -> None:
        self._stream = stream
        self._home = home
        self._rows: RowStream | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns; none before it was opened."""
        return () if self._rows is None else self._rows.columns

    @property
    def affected(self) -> int:
        """Rows that the statement touched, -1 until the server said so."""
        return -1 if self._rows is None else self._rows.affected

    async def __aenter__(self) -> Self:
        self._rows = await self._home.call(self._stream.__enter__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._home.call(self._stream.__exit__, kind, error, trace)

    async def __aiter__(self) -> AsyncIterator[list[Row]]:
        if self._rows is None:
            async with self:
                async for batch in self:
                    yield batch
            return
        batches = iter(self._rows)

        def following() -> list[Row] | None:
            return next(batches, None)

        while (arrived := await self._home.call(following)) is not None:
            yield arrived
            # What arrives faster than it is read would leave no other task its turn.
            await asyncio.sleep(0)


class AsyncCopy:
    """The bytes of a query by COPY, in pieces as they arrive: `async with` and `async for`."""

    def __init__(self, copy: AbstractContextManager[CopiedOut], home: OwnLoop) -> None:
        self._copy = copy
        self._home = home
        self._pieces: CopiedOut | None = None

    @property
    def rows(self) -> int:
        """Rows so far; at the end, what the server counted."""
        return 0 if self._pieces is None else self._pieces.rows

    async def __aenter__(self) -> Self:
        self._pieces = await self._home.call(self._copy.__enter__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._home.call(self._copy.__exit__, kind, error, trace)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._pieces is None:
            raise RuntimeError("copy_out() begins with `async with`")
        pieces = iter(self._pieces)

        def following() -> bytes | None:
            return next(pieces, None)

        while (piece := await self._home.call(following)) is not None:
            yield piece
            await asyncio.sleep(0)


def _taken(data: CopyData | AsyncIterable[Any]) -> CopyData:
    """The data of COPY, which may come from an async iterator."""
    return _awaited(aiter(data)) if isinstance(data, AsyncIterable) else data


def _awaited(pieces: AsyncIterator[Any]) -> Iterator[Any]:
    while True:
        try:
            yield wait_for(anext(pieces))
        except StopAsyncIteration:
            return


class AsyncTransaction:
    """An open transaction on one connection, whose statements run one after the other.

    As a savepoint of another one, a context: released at the end, rolled back on an error.
    """

    def __init__(self, transaction: Transaction, home: OwnLoop, turn: asyncio.Lock | None = None) -> None:
        self._transaction = transaction
        self._home = home
        self._turn = asyncio.Lock() if turn is None else turn

    async def run(self, sql: AnySql, params: Params = None, *, timeout: Duration | None = None) -> Result:
        """Runs one statement and returns columns, rows and rows affected."""
        async with self._turn:
            return await self._home.call(self._transaction.run, sql, params, timeout=timeout)

    async def query(
        self, sql: AnySql, params: Params = None, *, timeout: Duration | None = None
    ) -> list[dict[str, Any]]:
        """The rows of one statement as dicts; columns of the same name become `a`, `a_2`."""
        async with self._turn:
            return await self._home.call(self._transaction.query, sql, params, timeout=timeout)

    async def execute(self, sql: AnySql, params: Params = None, *, timeout: Duration | None = None) -> int:
        """Runs one statement; returns rows affected (-1 when the server does not say)."""
        async with self._turn:
            return await self._home.call(self._transaction.execute, sql, params, timeout=timeout)

    async def execute_many(
        self, sql: AnySql, rows: Sequence[Params], *, timeout: Duration | None = None
    ) -> int:
        """Runs one statement once for each of `rows`; returns rows affected."""
        async with self._turn:
            return await self._home.call(self._transaction.execute_many, sql, rows, timeout=timeout)

    def stream(
        self, sql: AnySql, params: Params = None, *, timeout: Duration | None = None, text: Text = False
    ) -> AsyncStream:
        """Rows in batches as they arrive; one stream at a time, and nothing else while it is open."""
        return AsyncStream(self._transaction.stream(sql, params, timeout=timeout, text=text), self._home)

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
        async with self._turn:
            return await self._home.call(
                self._transaction.copy_in, table, columns, _taken(data), format=format, idle=idle
            )

    def transaction(self) -> AsyncTransaction:
        """A savepoint inside this transaction, for `async with`."""
        return AsyncTransaction(self._transaction.transaction(), self._home, self._turn)

    async def commit(self) -> None:
        """Makes it last. Raises OutcomeUnknown when the answer does not come, or the task is cancelled meanwhile."""
        transaction = self._transaction
        async with self._turn:
            await self._home.call(_committing(transaction.engine.settings.name, transaction.commit))

    async def rollback(self) -> None:
        """Undoes it; with a connection that is lost the server has done so already."""
        async with self._turn:
            await self._home.call(self._transaction.rollback)

    async def __aenter__(self) -> Self:
        async with self._turn:
            await self._home.call(self._transaction.__enter__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._home.call(self._transaction.__exit__, kind, error, trace)


class AsyncTransactionBlock:
    """A transaction for `async with`: commits at the end, rolls back on an error and when the task is cancelled."""

    def __init__(self, block: TransactionBlock, home: OwnLoop) -> None:
        self._block = block
        self._home = home

    async def __aenter__(self) -> AsyncTransaction:
        return AsyncTransaction(await self._home.call(self._block.begin), self._home)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            await self._home.call(self._block.__exit__, kind, error, trace)
            return
        end = partial(self._block.__exit__, None, None, None)
        await self._home.call(_committing(self._block.connection, end))


def _committing(connection: str, commit: Callable[[], None]) -> Callable[[], None]:
    """What is cancelled after a COMMIT was sent is in doubt, also while its connection is made like new."""

    def run() -> None:
        try:
            commit()
        except asyncio.CancelledError as cancelled:
            note_doubt(cancelled, connection, "commit")
            raise

    return run


class AsyncSqlDatabase(AsyncDatabase[SqlDatabase]):
    """PostgreSQL, MySQL/MariaDB or SQLite for tasks.

    Placeholders are `$1`, `?` or `:name`, on every engine.
    """

    async def run(
        self, sql: AnySql, params: Params = None, *, timeout: Duration | None = None, idempotent: bool = False
    ) -> Result:
        """Runs one statement and returns columns, rows and rows affected."""
        return await self._home.call(self._database.run, sql, params, timeout=timeout, idempotent=idempotent)

    async def query(
        self, sql: AnySql, params: Params = None, *, timeout: Duration | None = None, idempotent: bool = False
    ) -> list[dict[str, Any]]:
        """The rows of one statement as dicts; columns of the same name become `a`, `a_2`."""
        return await self._home.call(
            self._database.query, sql, params, timeout=timeout, idempotent=idempotent
        )

    async def execute(
        self, sql: AnySql, params: Params = None, *, timeout: Duration | None = None, idempotent: bool = False
    ) -> int:
        """Runs one statement; returns rows affected (-1 when the server does not say)."""
        return await self._home.call(
            self._database.execute, sql, params, timeout=timeout, idempotent=idempotent
        )

    async def execute_many(
        self, sql: AnySql, rows: Sequence[Params], *, timeout: Duration | None = None
    ) -> int:
        """Runs one statement once for each of `rows`; returns rows affected."""
        return await self._home.call(self._database.execute_many, sql, rows, timeout=timeout)

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
        made = self._database.stream(sql, params, timeout=timeout, idle=idle, text=text)
        return AsyncStream(made, self._home)

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
            self._database.copy_in,
            table,
            columns,
            _taken(data),
            format=format,
            timeout=timeout,
            idle=idle,
        )

    def copy_out(
        self,
        query: AnySql,
        *,
        format: CopyFormat = "text",
        timeout: Duration | None = None,
        idle: Duration | None = None,
    ) -> AsyncCopy:
        """The rows of a query as bytes: `async with db.copy_out(sql) as pieces:` and `async for piece in pieces:`."""
        made = self._database.copy_out(query, format=format, timeout=timeout, idle=idle)
        return AsyncCopy(made, self._home)

    @overload
    def transaction(
        self, work: Callable[[AsyncTransaction], Awaitable[T]], *, timeout: Duration | None = None
    ) -> Awaitable[T]: ...
    @overload
    def transaction(self, work: None = None, *, timeout: Duration | None = None) -> AsyncTransactionBlock: ...
    def transaction(
        self,
        work: Callable[[AsyncTransaction], Awaitable[T]] | None = None,
        *,
        timeout: Duration | None = None,
    ) -> Awaitable[T] | AsyncTransactionBlock:
        """A transaction: for `async with`, or of a coroutine function.

        A coroutine function is run again as a whole when the server rolled it back (serialization failure, deadlock);
        a block raises.
        """
        if work is None:
            return AsyncTransactionBlock(self._database.transaction(timeout=timeout), self._home)
        wanted, home = work, self._home

        def run(transaction: Transaction) -> T:
            return wait_for(wanted(AsyncTransaction(transaction, home)))

        return home.call(self._database.transaction, run, timeout=timeout)

    async def begin(self, *, timeout: Duration | None = None) -> AsyncTransaction:
        """An open transaction, to be ended with `commit()` or `rollback()`."""
        return AsyncTransaction(await self._home.call(self._database.begin, timeout=timeout), self._home)

    async def tables(self, *, timeout: Duration | None = None) -> list[Table]:
        """User tables and views."""
        return await self._home.call(self._database.tables, timeout=timeout)

    async def describe(self, name: str, *, timeout: Duration | None = None) -> TableDescription | None:
        """One table; None when there is none."""
        return await self._home.call(self._database.describe, name, timeout=timeout)
