"""Observes the calls on one connection: counted always, passed to listeners and the log on request.

Statements are redacted when they are passed on, and never before; parameters reach only
the log of a dev profile that asks for them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.errors import BreakerOpen, KataxError, PoolClosed, PoolTimeout, Refused
from katax_cli.services.calls.events import EventName, Events
from katax_cli.services.calls.query_metrics import MAX_METRICS, SLOW_MS, QueryMetrics

if TYPE_CHECKING:
    from katax_cli.engines.base import Row, RowStream
    from katax_cli.profiles.model.model import Profile

T = TypeVar("T")
Level = int | None

_log = logging.getLogger("katax.query")
_NEVER_SENT = (BreakerOpen, PoolTimeout, PoolClosed, Refused)
_SHOWN_PARAMS = 1000
_ASKING = {"queries", "slow_query_ms"}


@dataclass(frozen=True)
class QueryLogging:
    """At which level of logging slow statements and all statements are logged; None: not.

    A statement is slow from `slow_ms` milliseconds on. `plain_params`: parameters are logged as they are.
    """

    slow: Level = None
    all: Level = None
    slow_ms: float = SLOW_MS
    plain_params: bool = False


class ObservedCall(NamedTuple):
    """One guarded call that ended: its statement without values, its seconds, and its error, None when it succeeded.

    Calls that were never sent are among them, with the error that says so.
    """

    statement: str
    seconds: float
    error: BaseException | None


def query_logging(profile: Profile, *, one_shot: bool) -> QueryLogging:
    """The query logging of a profile. In a single command, what no file asks for is at debug level."""
    settings = profile.logging
    quiet = one_shot and not any(_ASKING & set(layer.table.get("logging", {})) for layer in profile.layers)
    slow = logging.DEBUG if quiet else logging.WARNING
    every = logging.DEBUG if quiet or profile.role == "dev" else logging.INFO
    return QueryLogging(
        slow=None if settings.queries == "off" else slow,
        all=every if settings.queries == "all" else None,
        slow_ms=settings.slow_query_ms,
        plain_params=settings.query_params == "plain" and profile.role == "dev",
    )


class Observer:
    """Watches the calls of one connection; `redacted` and `fingerprint` turn a statement into text."""

    __slots__ = (
        "_connection",
        "_events",
        "_fingerprint",
        "_redacted",
        "_slow_seconds",
        "log",
        "metrics",
        "monotonic",
    )

    def __init__(
        self,
        connection: str,
        events: Events,
        *,
        redacted: Callable[[Any], str],
        fingerprint: Callable[[Any], str],
        clock: Clock = SYSTEM,
    ) -> None:
        self._connection = connection
        self._events = events
        self._redacted = redacted
        self._fingerprint = fingerprint
        self.monotonic = clock.monotonic
        self.metrics: QueryMetrics | None = QueryMetrics(MAX_METRICS, clock=clock)
        self.set_log(QueryLogging())

    def set_log(self, log: QueryLogging) -> None:
        """Changes what is logged, and from when on a statement is slow."""
        self.log = log
        self._slow_seconds = log.slow_ms / 1000

    def watch(self, statement: Any, params: object = None) -> Watch:
        """Use as `with observer.watch(sql, params):` around the one guarded call of a statement."""
        return Watch(self, statement, params)

    def ended(
        self, statement: Any, params: object, seconds: float, now: float, error: BaseException | None
    ) -> None:
        """Counts a call that ended `now`; one that never went out counts nowhere."""
        heard = self._events.are_heard
        if heard and self._events.wants("call"):
            self._events.emit("call", ObservedCall(self._redacted(statement), seconds, error))
        if error is not None and isinstance(error, _NEVER_SENT):
            return
        if self.metrics is not None:
            self.metrics.add(seconds, ended=now, failed=error is not None)
        every = self.log.all
        logged = every is not None and _log.isEnabledFor(every)
        if logged or seconds >= self._slow_seconds or (heard and self._events.wants("query")):
            self._tell(statement, params, seconds, error)

    def _tell(self, statement: Any, params: object, seconds: float, error: BaseException | None) -> None:
        slow = seconds >= self._slow_seconds
        level = self._level(slow)
        told: tuple[EventName, ...] = ("query", "slow_query") if slow else ("query",)
        if level is None and not any(map(self._events.wants, told)):
            return
        text, duration_ms = self._redacted(statement), seconds * 1000
        if level is not None:
            self._write(level, text, statement, params, duration_ms, error, slow=slow)
        for event in told:
            self._events.emit(event, text, duration_ms)

    def _level(self, slow: bool) -> Level:
        levels = [level for level in (self.log.slow if slow else None, self.log.all) if level is not None]
        level = max(levels, default=None)
        return level if level is not None and _log.isEnabledFor(level) else None

    def _write(
        self,
        level: int,
        text: str,
        statement: Any,
        params: object,
        duration_ms: float,
        error: BaseException | None,
        *,
        slow: bool,
    ) -> None:
        outcome = "ok" if error is None else type(error).__name__
        kind = "slow query" if slow else "query"
        shown = f" with {_shown(params)}" if self.log.plain_params and params else ""
        failed = "" if error is None else f", {outcome}"
        _log.log(
            level,
            "%s on %r took %.1f ms%s: %s%s",
            *(kind, self._connection, duration_ms, failed, text, shown),
            extra={
                "connection": self._connection,
                "duration_ms": round(duration_ms, 3),
                "fingerprint": self._fingerprint(statement),
                "outcome": outcome,
            },
        )


class Watch:
    """The time of one call: that of its `with` block, less what lies between `pause` and `resume`."""

    __slots__ = ("_observer", "_params", "_spent", "_started", "_statement")

    def __init__(self, observer: Observer, statement: Any, params: object) -> None:
        self._observer = observer
        self._statement = statement
        self._params = params
        self._spent: float | None = None

    def __enter__(self) -> Self:
        self._started = self._observer.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        now = self._observer.monotonic()
        if self._spent is None:
            seconds = now - self._started
        else:
            # What is raised while the server is not waited for is the reader's own.
            seconds, error = self._spent, None
        self._observer.ended(self._statement, self._params, seconds, now, error)

    def pause(self) -> None:
        """The caller's own time begins."""
        self._spent = self._observer.monotonic() - self._started

    def resume(self) -> None:
        """The server's time goes on."""
        if self._spent is not None:
            self._started, self._spent = self._observer.monotonic() - self._spent, None


def timed(batches: Iterator[T], watch: Watch) -> Iterator[T]:
    """Batches that are waited for on the watch; what their reader does between them is not."""
    while True:
        watch.resume()
        batch = next(batches, None)
        watch.pause()
        if batch is None:
            return
        yield batch


class WatchedStream:
    """Rows whose batches are waited for on the watch; what their reader does between them is not.

    A context: after its end the rows are those of another caller, and reading them raises KataxError.
    """

    def __init__(
        self,
        rows: RowStream,
        watch: Watch,
        waiting: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._rows = rows
        self._watch = watch
        self._waiting = waiting
        self.columns = rows.columns
        self.affected = rows.affected
        self._has_ended = False
        watch.pause()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._has_ended = True

    def __iter__(self) -> Iterator[list[Row]]:
        for batch in timed(self._batches(), self._watch):
            self.affected = self._rows.affected
            yield batch
        self.affected = self._rows.affected

    def _batches(self) -> Iterator[list[Row]]:
        batches = iter(self._rows)
        while True:
            if self._has_ended:
                raise KataxError("this stream has ended; read it within its block")
            with self._waiting():
                batch = next(batches, None)
            if batch is None:
                return
            yield batch


def _shown(params: object) -> str:
    text = repr(params)
    return text if len(text) <= _SHOWN_PARAMS else text[: _SHOWN_PARAMS - 1] + "…"
