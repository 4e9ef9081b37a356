"""The statements of a database, a session and an open transaction alike, for tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from katax_cli.aio.own_loop import OwnLoop, Turn
from katax_cli.aio.proxy import AsyncBatches, AsyncProxy, awaited, exit_of
from katax_cli.core.sql import AnySql
from katax_cli.core.text.duration import Duration
from katax_cli.engines.awaited.calls import wait_for
from katax_cli.engines.base import Params, Row, RowStream, Text
from katax_cli.engines.transfers import CopiedOut
from katax_cli.errors import KataxError, OutcomeUnknown
from katax_cli.services.databases.postgresql.copying import CopyData
from katax_cli.services.databases.postgresql.notifications import (
    Notification,
    NotificationGap,
    Notifications,
)
from katax_cli.services.databases.session import Session
from katax_cli.services.databases.statements import PreparedStatement, Queries
from katax_cli.services.databases.transaction import Transaction

if TYPE_CHECKING:
    from katax_cli.aio.builder import AsyncBuilder

P = ParamSpec("P")
T = TypeVar("T")
Q = TypeVar("Q", bound=Queries)
C = TypeVar("C", bound=Session | Transaction)


class AsyncStream(AsyncBatches[RowStream, list[Row]]):
    """Rows of one statement."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns; none before it was opened."""
        return () if self._batches is None else self._batches.columns

    @property
    def affected(self) -> int:
        """Rows that the statement touched, -1 until the server said so."""
        return -1 if self._batches is None else self._batches.affected


class AsyncCopy(AsyncBatches[CopiedOut, bytes]):
    """The bytes of a query by COPY, in pieces."""

    @property
    def rows(self) -> int:
        """Rows so far; at the end, what the server counted."""
        return 0 if self._batches is None else self._batches.rows


def taken(data: CopyData | AsyncIterable[Any]) -> CopyData:
    """The data of COPY, which may come from an async iterator."""
    return _awaited(aiter(data)) if isinstance(data, AsyncIterable) else data


def _awaited(pieces: AsyncIterator[Any]) -> Iterator[Any]:
    while True:
        try:
            yield wait_for(anext(pieces))
        except StopAsyncIteration:
            return


class AsyncNotifications(AsyncProxy[Notifications]):
    """The notifications of some channels: `async with db.listen("jobs") as events:` and `async for event in events:`.

    See `Notifications`: a lost connection is reported as a gap, and the loop ends when the database is closed.
    """

    def __init__(self, notifications: Notifications, home: OwnLoop, timeout: Duration | None) -> None:
        super().__init__(notifications, home)
        self._timeout = timeout

    async def __aenter__(self) -> Self:
        await self._call(self._wrapped.__enter__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends it; a loop over it ends within a second."""
        await self._call(self._wrapped.close)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Notification | NotificationGap:
        event = await self.receive(self._timeout)
        if event is None:
            raise StopAsyncIteration
        return event

    async def receive(self, timeout: Duration | None = None) -> Notification | NotificationGap | None:
        """The next one; None when `timeout` seconds pass without any, and after `close`."""
        return await self._call(self._wrapped.receive, timeout)


class AsyncQueries(AsyncProxy[Q]):
    """The methods of `Queries`, awaited: statements, however they are run.

    Placeholders are `$1`, `?` or `:name`, on every engine. `timeout` is seconds for the whole call.
    """

    run = awaited(Queries.run)
    query = awaited(Queries.query)
    execute = awaited(Queries.execute)
    one = awaited(Queries.one)
    scalar = awaited(Queries.scalar)
    raw = awaited(Queries.raw)
    execute_many = awaited(Queries.execute_many)

    def table(self, name: str, alias: str | None = None) -> AsyncBuilder:
        """A query on a table, built by calls; see `AsyncBuilder`. Raises ValueError for what is no name."""
        from katax_cli.aio.builder import AsyncBuilder

        return AsyncBuilder(self._wrapped.table(name, alias), self._home, self._turn)

    def prepare(self, sql: AnySql) -> AsyncPreparedStatement:
        """A statement to be executed again and again; the driver prepares it on the server where it pays."""
        return AsyncPreparedStatement(self._wrapped.prepare(sql), self)

    async def run_sync(self, work: Callable[[Q], T]) -> T:
        """Calls the plain function `work` with what runs these statements in threads, and lets the event loop go on.

        The calls of katax that it makes wait as those of tasks do: models, repositories and builders work in it.
        Anything else in it that blocks blocks the event loop.
        """
        return await self._call(work, self._wrapped)


class SharedConnection(AsyncQueries[C]):
    """Statements on one connection, which run one after the other."""

    def __init__(self, statements: C, home: OwnLoop, turn: Turn | None = None) -> None:
        super().__init__(statements, home)
        self._turn: Turn = Turn(statements.engine.settings.name) if turn is None else turn

    async def _call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._turn.call(self._home, fn, *args, **kwargs)

    async def _leave(
        self, leave: Callable[[Any, BaseException | None, Any], T], error: BaseException | None
    ) -> T:
        """Waits for the statement of another task; cancelled, it breaks the connection under that one.

        The connection has to come back, and a COMMIT may not go out then. What fails after a cancellation is its cause:
        `asyncio.timeout` and `TaskGroup` have to see their own.
        """
        cancelled = error if isinstance(error, asyncio.CancelledError) else None
        if cancelled is not None and self._turn.locked():
            self._wrapped.interrupt()
        while True:
            try:
                await self._turn.acquire()
                break
            except asyncio.CancelledError as again:
                cancelled = again
                self._wrapped.interrupt()
        try:
            left = await self._home.call(leave, *exit_of(cancelled or error))
        except KataxError as failed:
            if cancelled is None or isinstance(failed, OutcomeUnknown):
                raise
            raise cancelled from failed
        finally:
            self._turn.release()
        if cancelled is not error and cancelled is not None:
            raise cancelled
        return left

    def stream(
        self, sql: AnySql, params: Params = None, *, timeout: Duration | None = None, text: Text = False
    ) -> AsyncStream:
        """Rows in batches as they arrive; one stream at a time, and nothing else while it is open."""
        return AsyncStream(partial(self._wrapped.stream, sql, params, text=text), self, timeout)


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
