"""What all five engines offer to applications and commands: one object for one named connection."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from katax_cli.core.deadline import Deadline
from katax_cli.core.failure import Failure, FailureKind
from katax_cli.errors import KataxError
from katax_cli.services.bounded import bounded
from katax_cli.services.events import Event, Events
from katax_cli.services.guard import Guard, Safety, Sent

if TYPE_CHECKING:
    from katax_cli.core.settings import ConnectionSettings
    from katax_cli.engines.base import Engine
    from katax_cli.snapshot import PoolStats

T = TypeVar("T")

MakeDeadline = Callable[[float | None], Deadline]
Work = Callable[[Any, float | None], T]


def statement_deadline(settings: ConnectionSettings) -> MakeDeadline:
    """The deadline of one call of the API: what the caller says, else the connection's statement timeout."""
    return lambda seconds: Deadline(settings.statement_timeout if seconds is None else seconds)


class Database(ABC):
    """A named connection: opened when first used, guarded, observed, closed once.

    `timeout` parameters are seconds for the whole call: waiting, connecting, retrying and the statement.
    Errors are those of `katax_cli.errors`.
    """

    def __init__(self, engine: Engine, guard: Guard, make_deadline: MakeDeadline | None = None) -> None:
        self.engine = engine
        self.settings = engine.settings
        self.name = engine.settings.name
        self.guard = guard
        self.events = Events()
        self._deadline = make_deadline or statement_deadline(engine.settings)

    def connect(self, *, timeout: float | None = None) -> None:
        """Opens a connection unless there is one. Raises Unavailable or ConfigError."""
        self._on_connection(
            lambda _connection, _seconds: None, safety=Safety.READ, timeout=timeout, doing="connecting"
        )

    def ping(self, *, timeout: float | None = None) -> None:
        """One round trip to the server."""
        self._on_connection(self.engine.ping, safety=Safety.READ, timeout=timeout, doing="ping")

    def health_check(self, *, timeout: float | None = None) -> bool:
        """True if the server answers a ping in time."""
        try:
            self.ping(timeout=timeout)
        except KataxError:
            return False
        return True

    def server(self, *, timeout: float | None = None) -> Mapping[str, object]:
        """What server it is; empty when the engine cannot say."""
        from katax_cli.engines.base import ReportsServer

        engine = self.engine
        if not isinstance(engine, ReportsServer):
            return {}
        return self._on_connection(
            engine.server, safety=Safety.READ, timeout=timeout, doing="asking for the version"
        )

    def on(self, event: Event, listener: Callable[..., Any]) -> Callable[[], None]:
        """Calls `listener` at every `query`, `slow_query` (sql, duration_ms) or `connection_error` (error).

        Returns what removes it. SQL is redacted and parameters are never handed on.
        """
        return self.events.on(event, listener)

    @property
    def is_connected(self) -> bool:
        """True while a connection is open (no round trip: it may have died since)."""
        return self.pool_stats().total > 0

    @abstractmethod
    def pool_stats(self) -> PoolStats:
        """The pool at this moment."""

    @abstractmethod
    def cancel_running(self) -> None:
        """Ends what runs on the server for this object, from another thread; never raises."""

    @abstractmethod
    def close(self, *, timeout: float = 0.0) -> tuple[str, ...]:
        """Closes everything; waits up to `timeout` seconds for what is in use and names what was not returned."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self.settings.type} at {self.settings.address}>"

    def _on_connection(self, work: Work[T], *, safety: Safety, timeout: float | None, doing: str) -> T:
        """Runs `work(connection, seconds left)` as a guarded call."""
        deadline = self._deadline(timeout)
        return self.guard.call(
            lambda sent: self._attempt(work, sent, deadline), deadline=deadline, safety=safety, doing=doing
        )

    def _attempt(self, work: Work[T], sent: Sent, deadline: Deadline) -> T:
        with self._lease(deadline) as connection:
            sent.sent = True
            return work(connection, deadline.within(None))

    @abstractmethod
    def _lease(self, deadline: Deadline) -> AbstractContextManager[Any]:
        """A connection for one attempt, watched by the deadline."""


def open_bounded(engine: Engine, timeout: float | None) -> Any:
    """`engine.connect` that returns in time even when a name lookup hangs; raises TimeoutError then."""
    settings = engine.settings
    limit = settings.connect_timeout * max(1, len(settings.nodes))
    seconds = limit if timeout is None else min(limit, timeout)
    return bounded(
        lambda: engine.connect(seconds),
        timeout=seconds,
        name=f"katax-connect-{settings.name}",
        discard=engine.close,
    )


def classify_with(engine: Engine) -> Callable[[BaseException], Failure]:
    """The engine's classification, and ours of a connect that did not come back."""

    def classify(error: BaseException) -> Failure:
        if type(error) is TimeoutError:
            return Failure(FailureKind.UNREACHABLE, f"no answer from {engine.settings.address} in time")
        return engine.classify(error)

    return classify
