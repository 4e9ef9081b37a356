"""Engines whose drivers can only block, for tasks: each call runs in a thread, each connection in one at a time.

Threads run statements only. Waiting for a connection takes none, so those that would free one always find a thread:
there are never more at work than connections, and those that cancel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import copy_context
from functools import partial, wraps
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast
from weakref import finalize, ref

from katax_cli.core.clock import SYSTEM
from katax_cli.core.engine_names import Dialect, EngineName
from katax_cli.core.interrupts import settle_doubt
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.resilience.failure import Failure
from katax_cli.core.settings import ConnectionSettings
from katax_cli.core.sql import AnySql, Residue
from katax_cli.engines.awaited.calls import (
    is_for_a_task,
    run_into,
    settled_within,
    started_in_thread,
    tell,
    wait_for,
)
from katax_cli.engines.base import (
    Engine,
    Introspects,
    Params,
    ReadOnlyGuard,
    ReportsServer,
    Row,
    RowStream,
    SqlEngine,
    SqlFacts,
    Text,
)
from katax_cli.engines.documents import EVERYTHING, Batches, Document, DocumentEngine, DocumentQuery, Pipeline
from katax_cli.engines.registry import load
from katax_cli.errors import PoolTimeout
from katax_cli.snapshot import PoolStats

P = ParamSpec("P")
T = TypeVar("T")
E = TypeVar("E", bound=Engine)
_GRACE = 0.2
"""Seconds that a cancelled statement gets to come back, before its connection is broken from this side."""
_CANCEL_SECONDS = 2.0


WorkQueue = SimpleQueue[Callable[[], None] | None]


class Workers:
    """Daemon threads that are used again and never joined; at most `most` lie idle, which end when this is garbage."""

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self._started = 0
        self._idle: list[WorkQueue] = []
        finalize(self, _dismiss, self._idle)

    def start(self, fn: Callable[[], T]) -> asyncio.Future[T]:
        """Runs `fn` in one of them, in a copy of the caller's context."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        inbox = self._idle.pop() if self._idle else self._new(loop)
        inbox.put(partial(copy_context().run, run_into, future, fn))
        return future

    def _new(self, loop: asyncio.AbstractEventLoop) -> WorkQueue:
        self._started += 1
        inbox: WorkQueue = SimpleQueue()
        name = f"katax-{self._name}-{self._started}"
        Thread(target=_work, args=(inbox, loop, ref(self)), name=name, daemon=True).start()
        return inbox

    def rest(self, inbox: WorkQueue) -> None:
        """Takes a thread that has nothing to do."""
        if len(self._idle) < self._most:
            self._idle.append(inbox)
        else:
            inbox.put(None)


def _work(inbox: WorkQueue, loop: asyncio.AbstractEventLoop, workers: ref[Workers]) -> None:
    while (run := inbox.get()) is not None:
        run()
        del run
        owner = workers()
        if owner is None or loop.is_closed():
            return
        tell(loop, partial(owner.rest, inbox))
        del owner


def _dismiss(idle: list[WorkQueue]) -> None:
    for inbox in idle:
        inbox.put(None)


def _threaded(
    method: Callable[Concatenate[Any, Any, P], T],
) -> Callable[Concatenate[_ThreadedEngine[Any], Any, P], T]:
    """The method of this name of the engine that blocks, run in a thread."""
    name = method.__name__

    @wraps(method)
    def run(engine: _ThreadedEngine[Any], connection: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        blocking: Callable[..., T] = getattr(engine._engine, name)
        return engine._run(connection, partial(blocking, connection, *args, **kwargs))

    return run


class _ThreadedEngine(Generic[E]):
    """Engine, Introspects and ReportsServer, for tasks."""

    ping = _threaded(Engine.ping)
    server = _threaded(ReportsServer.server)
    tables = _threaded(Introspects.tables)
    describe = _threaded(Introspects.describe)

    def __init__(self, engine: E) -> None:
        self.name: EngineName = engine.name
        self.settings = engine.settings
        self._engine = engine
        self._workers = Workers(engine.settings.name, engine.settings.pool.max)
        self._unsettled: dict[Any, asyncio.Future[Any]] = {}
        """Connections whose thread, or the cancellation of its statement, was not seen to end."""

    def connect(self, timeout: float | None) -> Any:
        return self._engine.connect(timeout)

    def close(self, connection: Any) -> None:
        running = self._unsettled.pop(connection, None)
        if running is None:
            self._engine.close(connection)
        else:
            # The driver does not bear that a connection is closed under its thread.
            close = partial(running.add_done_callback, lambda _: self._engine.close(connection))
            tell(running.get_loop(), close)

    def classify(self, error: BaseException) -> Failure:
        return self._engine.classify(error)

    def _run(self, connection: Any, fn: Callable[[], T]) -> T:
        return self._awaited(connection, self._workers.start(fn)) if is_for_a_task() else fn()

    def _awaited(self, connection: Any, running: asyncio.Future[T]) -> T:
        try:
            return wait_for(asyncio.shield(running))
        except (asyncio.CancelledError, GeneratorExit) as error:
            if not running.done():
                self._end(connection, running, error)
            raise

    def _end(self, connection: Any, running: asyncio.Future[Any], error: BaseException) -> None:
        """Leaves a call behind that nothing can interrupt."""


class ThreadedSqlEngine(_ThreadedEngine[SqlEngine]):
    """SqlEngine and ReadOnlyGuard over an engine that blocks."""

    execute = _threaded(SqlEngine.execute)
    execute_many = _threaded(SqlEngine.execute_many)
    undo = _threaded(SqlEngine.undo)
    reset = _threaded(SqlEngine.reset)

    def __init__(self, engine: SqlEngine) -> None:
        super().__init__(engine)
        self.dialect: Dialect = engine.dialect
        self.facts: SqlFacts = engine.facts

    @contextmanager
    def stream(
        self,
        connection: Any,
        sql: AnySql,
        params: Params = None,
        timeout: float | None = None,
        *,
        text: Text = False,
    ) -> Iterator[RowStream]:
        stream = self._engine.stream(connection, sql, params, timeout, text=text)
        with self._across(connection, stream) as rows:
            yield _ThreadedStream(rows, partial(self._run, connection))

    @contextmanager
    def _across(self, connection: Any, context: AbstractContextManager[T]) -> Iterator[T]:
        """A context that is entered and left in threads; also when its task is cancelled as its thread enters it."""
        try:
            yield self._run(connection, context.__enter__)
        except BaseException as error:
            leave = partial(context.__exit__, type(error), error, error.__traceback__)
            # Under a thread that still runs it cannot be left; the connection is closed after that.
            if connection in self._unsettled or not self._run(connection, leave):
                raise
        else:
            self._run(connection, lambda: context.__exit__(None, None, None))

    def in_transaction(self, connection: Any) -> bool:
        return self._engine.in_transaction(connection)

    def mark(self, connection: Any, residue: Residue) -> None:
        self._engine.mark(connection, residue)

    def needs_reset(self, connection: Any) -> bool:
        return self._engine.needs_reset(connection)

    def is_broken(self, connection: Any) -> bool:
        return connection in self._unsettled or self._engine.is_broken(connection)

    def cancel(self, connection: Any, timeout: float) -> None:
        # A task that was cancelled has ended its statement already.
        if not is_for_a_task():
            self._engine.cancel(connection, timeout)

    def interrupt(self, connection: Any) -> None:
        self._engine.interrupt(connection)

    def read_only(self, connection: Any, characteristics: str = "") -> AbstractContextManager[None]:
        guard = cast("ReadOnlyGuard", self._engine).read_only(connection, characteristics)
        return self._across(connection, guard)

    def _end(self, connection: Any, running: asyncio.Future[Any], error: BaseException) -> None:
        """Cancels the statement on the server; breaks the connection when its reply does not come.

        A further cancellation ends this too, so the connection counts as broken until all was seen to end.
        """
        self._unsettled[connection] = running
        try:
            if isinstance(error, GeneratorExit):
                # The coroutine was closed, and may wait for nothing more.
                return
            if self._is_cancelled(connection, running):
                del self._unsettled[connection]
        finally:
            if connection in self._unsettled:
                self._engine.interrupt(connection)

    def _is_cancelled(self, connection: Any, running: asyncio.Future[Any]) -> bool:
        """True when the statement, and what cancels it, came back in time: it would meet the next statement."""
        cancel = partial(self._engine.cancel, connection, _CANCEL_SECONDS)
        cancelling = started_in_thread("katax-cancel", cancel)
        if not settled_within(running, _GRACE):
            self._engine.interrupt(connection)
            settled_within(running, _GRACE)
        return running.done() and settled_within(cancelling, _GRACE)


class _ThreadedStream:
    """RowStream whose batches are fetched in threads."""

    def __init__(self, rows: RowStream, run: Callable[[Callable[[], Any]], Any]) -> None:
        self._rows = rows
        self._run = run
        self.columns = rows.columns
        self.affected = rows.affected

    def __iter__(self) -> Iterator[list[Row]]:
        batches = iter(self._rows)
        while (batch := self._run(lambda: next(batches, None))) is not None:
            self.affected = self._rows.affected
            yield batch
        self.affected = self._rows.affected


class ThreadedDocumentEngine(_ThreadedEngine[DocumentEngine]):
    """DocumentEngine over an engine that blocks.

    A call waits for its turn before it takes a thread: in the queue of the driver's pool no cancellation reaches it.
    """

    command = _threaded(DocumentEngine.command)
    count = _threaded(DocumentEngine.count)
    insert = _threaded(DocumentEngine.insert)
    update = _threaded(DocumentEngine.update)
    delete = _threaded(DocumentEngine.delete)

    def __init__(self, engine: DocumentEngine) -> None:
        super().__init__(engine)
        self._free = asyncio.Semaphore(engine.settings.pool.max)
        self._waiting = 0

    def _run(self, client: Any, fn: Callable[[], T]) -> T:
        if not is_for_a_task():
            return fn()
        limit: float | None = fn.keywords.get("timeout") if isinstance(fn, partial) else None
        deadline = Deadline(limit)
        if self._free.locked():
            self._wait_for_turn(client, deadline)
            if limit is not None:
                fn = partial(cast("Callable[..., T]", fn), timeout=deadline.remaining())
        else:
            wait_for(self._free.acquire())
        try:
            running = self._workers.start(fn)
        except BaseException:
            self._free.release()
            raise
        running.add_done_callback(lambda _: self._free.release())
        return self._awaited(client, running)

    def _wait_for_turn(self, client: Any, deadline: Deadline) -> None:
        async def turn() -> None:
            async with asyncio.timeout(deadline.within(self.settings.pool.timeout)):
                await self._free.acquire()

        began = SYSTEM.monotonic()
        self._waiting += 1
        try:
            wait_for(turn())
        except TimeoutError:
            now = self.pool_stats(client)
            waited = SYSTEM.monotonic() - began
            raise PoolTimeout(
                self.settings.name, waited=waited, active=now.active, max=now.max, waiting=now.waiting
            ) from None
        except asyncio.CancelledError as cancelled:
            # Nothing was sent.
            settle_doubt(cancelled)
            raise
        finally:
            self._waiting -= 1

    def only_reads(self, spec: Document) -> bool:
        return self._engine.only_reads(spec)

    def find(
        self,
        client: Any,
        collection: str,
        query: DocumentQuery = EVERYTHING,
        *,
        timeout: float | None = None,
    ) -> Batches:
        return self._across(client, partial(self._engine.find, client, collection, query, timeout=timeout))

    def aggregate(
        self, client: Any, collection: str, pipeline: Pipeline, *, timeout: float | None = None
    ) -> Batches:
        opens = partial(self._engine.aggregate, client, collection, pipeline, timeout=timeout)
        return self._across(client, opens)

    def _across(self, client: Any, opens: partial[Batches]) -> Batches:
        """Batches that are fetched, and their cursor closed, in threads; a task that is cancelled waits for neither."""
        turn, opened = Lock(), list[Batches]()

        def following(timeout: float | None) -> list[Any] | None:
            with turn:
                if not opened:
                    opened.append(opens(timeout=timeout))
                return next(opened[0], None)

        def close() -> None:
            with turn:
                for batches in opened:
                    batches.close()

        try:
            while (batch := self._run(client, partial(following, **opens.keywords))) is not None:
                yield batch
        except asyncio.CancelledError:
            self._workers.start(close)
            raise
        except BaseException:
            super()._run(client, close)
            raise

    def cancel(self, client: Any, timeout: float) -> None:
        self._engine.cancel(client, timeout)

    def attempt(self, client: Any, timeout: float | None) -> AbstractContextManager[None]:
        """The driver's errors of a block as the engine classifies them; the engine's other modules ask by it."""
        return cast("AbstractContextManager[None]", cast("Any", self._engine).attempt(client, timeout))

    def opened(self, client: Any) -> int:
        return self._engine.opened(client)

    def pool_stats(self, client: Any) -> PoolStats:
        stats = self._engine.pool_stats(client)
        return stats._replace(waiting=stats.waiting + self._waiting)


def create(settings: ConnectionSettings) -> Engine:
    """The engine of one connection; connects nowhere yet."""
    engine = load(settings)
    if isinstance(engine, SqlEngine):
        return ThreadedSqlEngine(engine)
    return ThreadedDocumentEngine(cast("DocumentEngine", engine))
