"""The common part of all databases for tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from katax_cli.aio.own_loop import OwnLoop
from katax_cli.aio.proxy import AsyncProxy, awaited
from katax_cli.core.callables import plain
from katax_cli.core.resilience.breaker import CallBreaker
from katax_cli.core.settings import ConnectionSettings
from katax_cli.core.text.duration import Duration
from katax_cli.engines.awaited.calls import in_thread
from katax_cli.services.calls.events import EventName
from katax_cli.services.calls.query_metrics import SLOW_MS
from katax_cli.services.databases.database import Database
from katax_cli.snapshot import PoolStats

D = TypeVar("D", bound=Database)


class AsyncDatabase(AsyncProxy[D]):
    """A named connection for the tasks of one event loop: opened when first used, guarded, observed, closed.

    `timeout` parameters are seconds for the whole call: waiting, connecting, retrying and the statement. Errors
    are those of `katax_cli.errors`. A task that is cancelled cancels its statement on the server; a write that was
    sent and not refused is OutcomeUnknown then.
    """

    @property
    def home(self) -> OwnLoop:
        """The event loop that owns its connections."""
        return self._home

    @property
    def name(self) -> str:
        """The connection's name."""
        return self._wrapped.name

    @property
    def settings(self) -> ConnectionSettings:
        """The connection's settings."""
        return self._wrapped.settings

    @property
    def breaker(self) -> CallBreaker | None:
        """The breaker that stops calls to a server that is gone."""
        return self._wrapped.breaker

    @property
    def is_connected(self) -> bool:
        """True while a connection is open (no round trip: it may have died since)."""
        return self._wrapped.is_connected

    @property
    def closed(self) -> bool:
        """True after `close`."""
        return self._wrapped.closed

    def pool_stats(self) -> PoolStats:
        """The pool at this moment."""
        return self._wrapped.pool_stats()

    def on(self, event: EventName, listener: Callable[..., Any]) -> Callable[[], None]:
        """Calls `listener`, a plain function, at every `query`, `slow_query`, `call`, `connection_error` or change
        of the `breaker`, on the event loop; returns what removes it."""
        return self._wrapped.on(event, self._home.told(plain(listener, f"on({event!r})")))

    def enable_query_logging(self, slow: bool = True, *, slow_ms: float = SLOW_MS, all: bool = False) -> None:
        """Logs slow statements, and with `all` every statement, to the logger `katax.query`."""
        self._wrapped.enable_query_logging(slow, slow_ms=slow_ms, all=all)

    async def connect(self, *, timeout: Duration | None = None) -> None:
        """Opens a connection unless there is one, also after `close`. Raises Unavailable or ConfigError."""
        await self._call(self._wrapped.connect, timeout=timeout)

    ping = awaited(Database.ping)
    health_check = awaited(Database.health_check)

    async def close(self, *, timeout: Duration = 0.0) -> tuple[str, ...]:
        """Closes everything; waits up to `timeout` seconds for what is in use and names what was not returned."""
        name, database = f"katax-close-{self.name}", self._wrapped
        return await self._home.call(in_thread, name, lambda: database.close(timeout=timeout))
