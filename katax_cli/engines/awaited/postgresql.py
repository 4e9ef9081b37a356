"""PostgreSQL for tasks: psycopg's generators, driven by the event loop instead of a blocking poll.

The reader of a connection stays registered and drives the generator itself, so a statement costs one future and no
change of the loop's selector: less processor time than psycopg's `wait_async` (`benchmarks/aio.py`).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import Any

import psycopg
from psycopg import waiting
from psycopg.abc import PQGen
from psycopg.pq import ExecStatus, TransactionStatus

from katax_cli.core.interrupts import settle_doubt
from katax_cli.core.settings import ConnectionSettings
from katax_cli.engines.awaited.calls import (
    in_thread,
    is_for_a_task,
    set_result,
    settled_within,
    tell,
    wait_for,
)
from katax_cli.engines.postgresql.engine import PostgresEngine
from katax_cli.engines.postgresql.session import PostgresConnection

_READ, _WRITE = int(waiting.Wait.R), int(waiting.Wait.W)
SETTLE_SECONDS = 0.2
"""How long the reply to a cancelled statement is waited for; its connection is closed when it does not come."""
_CANCEL_SECONDS = 2.0


class AwaitedConnection(PostgresConnection):
    """A connection whose waits let the event loop go on; in a thread it blocks as ever."""

    _loop: asyncio.AbstractEventLoop | None = None
    _fd = -1
    _waiter: asyncio.Future[Any] | None = None
    _reading = _writing = _is_given_up = False
    _cancelling: asyncio.Task[None] | None = None

    def wait(self, gen: PQGen[Any], *args: Any, **options: Any) -> Any:
        if not is_for_a_task():
            return super().wait(gen, *args, **options)
        try:
            state = next(gen)
        except StopIteration as end:
            return end.value
        try:
            return self._resume(gen, state)
        except asyncio.CancelledError as cancelled:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self._end_statement(gen, cancelled)
            raise

    def hear(self, gen: PQGen[Any], seconds: float) -> Any:
        if not is_for_a_task():
            return super().hear(gen, seconds)
        try:
            state = next(gen)
        except StopIteration as end:
            return end.value
        return self._resume(gen, state, seconds)

    def _resume(self, gen: PQGen[Any], state: int, seconds: float | None = None) -> Any:
        """Waits for the end of a generator that waits for the socket; None when `seconds` pass."""
        if self._waiter is not None:
            raise psycopg.ProgrammingError("another task waits for a statement on this connection")
        self._gen = gen
        waiter = self._waiter = self._watched().create_future()
        if state & _WRITE:
            self._watch_writing()
        timer = None if seconds is None else waiter.get_loop().call_later(seconds, set_result, waiter, None)
        try:
            return wait_for(waiter)
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _watched(self) -> asyncio.AbstractEventLoop:
        """The loop, which from now on looks at the socket."""
        if not self._reading:
            self._loop, self._fd = asyncio.get_running_loop(), self.pgconn.socket
            self._loop.add_reader(self._fd, self._is_ready, _READ)
            self._reading = True
        assert self._loop is not None
        return self._loop

    def _watch_writing(self) -> None:
        assert self._loop is not None
        self._loop.add_writer(self._fd, self._is_ready, _WRITE)
        self._writing = True

    def _is_ready(self, ready: int) -> None:
        """Called by the loop: takes in what arrived, and answers the waiter at the end."""
        waiter = self._waiter
        if ready == _WRITE:
            self._stop_writing()
        if waiter is None or waiter.done():
            # No statement waits: the server ended the session, or sends notices. The next statement reads them.
            self._stop_watching()
            return
        try:
            state = self._gen.send(ready)
        except StopIteration as end:
            waiter.set_result(end.value)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits
            waiter.set_exception(error)
        else:
            if state & _WRITE:
                self._watch_writing()

    def _stop_writing(self) -> None:
        if self._writing and self._loop is not None:
            self._loop.remove_writer(self._fd)
            self._writing = False

    def _stop_watching(self) -> None:
        self._stop_writing()
        if self._reading and self._loop is not None:
            self._loop.remove_reader(self._fd)
            self._reading = False

    def _end_statement(self, gen: PQGen[Any], cancelled: asyncio.CancelledError) -> None:
        """Cancels on the server and reads the reply; closes the connection when it does not come.

        When the server refused the statement nothing of it was done.
        """
        self._cancelling = asyncio.get_running_loop().create_task(self._send_cancel())
        try:
            results = self._settled_results(gen)
            answered = results is not None or self.pgconn.transaction_status != TransactionStatus.ACTIVE
            settled = answered and settled_within(self._cancelling, SETTLE_SECONDS)
        except BaseException:
            # Cancelled once more.
            self.close()
            raise
        if not settled:
            # A cancellation under way would meet the connection's next statement.
            self.close()
        if isinstance(results, list) and results[0].status == ExecStatus.FATAL_ERROR:
            settle_doubt(cancelled)

    def _settled_results(self, gen: PQGen[Any]) -> Any:
        try:
            return self._resume(gen, _READ, SETTLE_SECONDS)
        except psycopg.Error:
            return None

    async def _send_cancel(self) -> None:
        order = self._cancel_gen()
        with suppress(psycopg.Error, OSError, TimeoutError):
            async with asyncio.timeout(_CANCEL_SECONDS) as limit:
                try:
                    await waiting.wait_conn_async(order, interval=0.1)
                except asyncio.CancelledError:
                    if limit.expired():
                        raise
                    # The event loop ends, and waits for what goes on: the server would go on with the statement.
                    await waiting.wait_conn_async(order, interval=0.1)

    def cancel_safe(self, *, timeout: float = 30.0) -> None:
        cancel = partial(super().cancel_safe, timeout=timeout)
        in_thread("katax-cancel", cancel) if is_for_a_task() else cancel()

    def close(self) -> None:
        loop = self._loop
        if loop is None or not (self._reading or self._writing) or loop.is_closed():
            super().close()
        elif asyncio._get_running_loop() is loop:
            self._stop_watching()
            super().close()
            if self._waiter is not None and not self._waiter.done():
                # Closed under a statement: the socket is no longer watched, so it will not wake its task.
                self._waiter.set_exception(psycopg.OperationalError("the connection was closed"))
        else:
            # The selector must forget the socket before its number is used again.
            self._is_given_up = True
            tell(loop, self.close)

    def __del__(self, *args: Any) -> None:
        if self._is_given_up:
            # Its loop ended before it came to that.
            super().close()
        super().__del__(*args)


class AwaitedEngine(PostgresEngine):
    """The engine of connections that tasks use."""

    connection_class = AwaitedConnection

    def cancel(self, connection: PostgresConnection, timeout: float) -> None:
        # A task that was cancelled has ended its statement already; a second order could meet the next one.
        if not is_for_a_task() or connection.status == TransactionStatus.ACTIVE:
            super().cancel(connection, timeout)


def create(settings: ConnectionSettings) -> AwaitedEngine:
    """The engine of one connection; connects nowhere yet."""
    return AwaitedEngine(settings)
