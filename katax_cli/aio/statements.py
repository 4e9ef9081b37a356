"""The statements of a database, a session and an open transaction alike, for tasks."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar

from katax_cli.aio.own_loop import OwnLoop
from katax_cli.core.sql import AnySql
from katax_cli.core.text.duration import Duration
from katax_cli.engines.awaited.calls import wait_for
from katax_cli.engines.base import Params, Result, Row, RowStream
from katax_cli.engines.transfers import CopiedOut
from katax_cli.services.databases.postgresql.copying import CopyData
from katax_cli.services.databases.postgresql.notifications import (
    Notification,
    NotificationGap,
    Notifications,
)
from katax_cli.services.databases.statements import PreparedStatement, Queries

if TYPE_CHECKING:
    from katax_cli.aio.builder import AsyncBuilder

P = ParamSpec("P")
T = TypeVar("T")
Q = TypeVar("Q", bound=Queries)


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


def taken(data: CopyData | AsyncIterable[Any]) -> CopyData:
    """The data of COPY, which may come from an async iterator."""
    return _awaited(aiter(data)) if isinstance(data, AsyncIterable) else data


def _awaited(pieces: AsyncIterator[Any]) -> Iterator[Any]:
    while True:
        try:
            yield wait_for(anext(pieces))
        except StopAsyncIteration:
            return


class AsyncNotifications:
    """The notifications of some channels: `async with db.listen("jobs") as events:` and `async for event in events:`.

    See `Notifications`: a gap in them is told, and the end of the database is the loop's.
    """

    def __init__(self, notifications: Notifications, home: OwnLoop, timeout: Duration | None) -> None:
        self._notifications = notifications
        self._home = home
        self._timeout = timeout

    async def __aenter__(self) -> Self:
        await self._home.call(self._notifications.__enter__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends it; a loop over it ends within a second."""
        await self._home.call(self._notifications.close)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Notification | NotificationGap:
        event = await self.receive(self._timeout)
        if event is None:
            raise StopAsyncIteration
        return event

    async def receive(self, timeout: Duration | None = None) -> Notification | NotificationGap | None:
        """The next one; None when `timeout` seconds pass without any, and after `close`."""
        return await self._home.call(self._notifications.receive, timeout)


class AsyncQueries(ABC, Generic[Q]):
    """Statements, however they are run.

    Placeholders are `$1`, `?` or `:name`, on every engine. `timeout` is seconds for the whole call.
    """

    _statements: Q
    _home: OwnLoop
    _turn: asyncio.Lock | None = None
    """Statements that share a connection take turns."""

    async def run(
        self, sql: AnySql, params: Params = None, *, timeout: Duration | None = None, idempotent: bool = False
    ) -> Result:
        """Runs one statement and returns columns, rows and rows affected."""
        return await self._call(self._statements.run, sql, params, timeout=timeout, idempotent=idempotent)

    async def query(
        self, sql: AnySql, params: Params = None, *, timeout: Duration | None = None, idempotent: bool = False
    ) -> list[dict[str, Any]]:
        """The rows of one statement as dicts; columns of the same name become `a`, `a_2`."""
        return await self._call(self._statements.query, sql, params, timeout=timeout, idempotent=idempotent)

    async def execute(
        self, sql: AnySql, params: Params = None, *, timeout: Duration | None = None, idempotent: bool = False
    ) -> int:
        """Runs one statement; returns rows affected (-1 when the server does not say)."""
        return await self._call(self._statements.execute, sql, params, timeout=timeout, idempotent=idempotent)

    async def one(
        self, sql: AnySql, params: Params = None, *, timeout: Duration | None = None, idempotent: bool = False
    ) -> dict[str, Any] | None:
        """The only row of one statement; None when there is none.

        Raises ValueError when there are several; what the statement wrote is written then.
        """
        return await self._call(self._statements.one, sql, params, timeout=timeout, idempotent=idempotent)

    async def scalar(
        self, sql: AnySql, params: Params = None, *, timeout: Duration | None = None, idempotent: bool = False
    ) -> Any:
        """The only value of one statement; None when there is no row.

        Raises ValueError when there are several rows or columns; what the statement wrote is written then.
        """
        return await self._call(self._statements.scalar, sql, params, timeout=timeout, idempotent=idempotent)

    async def raw(
        self, sql: AnySql, params: Params = None, *, timeout: Duration | None = None
    ) -> list[dict[str, Any]]:
        """The same as `query`, for SQL that no builder writes."""
        return await self.query(sql, params, timeout=timeout)

    async def execute_many(
        self, sql: AnySql, rows: Sequence[Params], *, timeout: Duration | None = None
    ) -> int:
        """Runs one statement once for each of `rows`; returns rows affected."""
        return await self._call(self._statements.execute_many, sql, rows, timeout=timeout)

    def table(self, name: str, alias: str | None = None) -> AsyncBuilder:
        """A query on a table, built by calls; see `AsyncBuilder`. Raises ValueError for what is no name."""
        from katax_cli.aio.builder import AsyncBuilder

        return AsyncBuilder(self._statements.table(name, alias), self._home, self._turn)

    def prepare(self, sql: AnySql) -> AsyncPreparedStatement:
        """A statement to be executed again and again; the driver prepares it on the server where it pays."""
        return AsyncPreparedStatement(self._statements.prepare(sql), self)

    async def run_sync(self, work: Callable[[Q], T]) -> T:
        """Calls the plain function `work` with what runs these statements in threads, and lets the event loop go on.

        The calls of katax that it makes wait as those of tasks do: models, repositories and builders work in it.
        Anything else in it that blocks blocks the event loop.
        """
        return await self._call(work, self._statements)

    @abstractmethod
    def _call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Returns what `fn` returns."""


class SharedConnection(AsyncQueries[Q]):
    """Statements on one connection, which run one after the other."""

    def __init__(self, statements: Q, home: OwnLoop, turn: asyncio.Lock | None = None) -> None:
        self._statements = statements
        self._home = home
        self._turn: asyncio.Lock = asyncio.Lock() if turn is None else turn

    async def _call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        async with self._turn:
            return await self._home.call(fn, *args, **kwargs)


class AsyncPreparedStatement:
    """A statement bound to where it runs."""

    def __init__(self, prepared: PreparedStatement, on: AsyncQueries[Any]) -> None:
        self._prepared = prepared
        self._on = on

    async def execute(
        self, params: Params = None, *, timeout: Duration | None = None
    ) -> list[dict[str, Any]]:
        """Its rows with these parameters."""
        return await self._on.query(self._prepared.sql, params, timeout=timeout)
