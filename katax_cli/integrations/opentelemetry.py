"""Spans and metrics of guarded calls, by OpenTelemetry's conventions for database clients; the extra `otel`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider

import katax_cli
from katax_cli.aio.container import AsyncKatax
from katax_cli.aio.database import AsyncDatabase
from katax_cli.core.clock import SYSTEM
from katax_cli.core.settings import ConnectionSettings
from katax_cli.services.calls.observer import ObservedCall
from katax_cli.services.databases.database import Database
from katax_cli.services.program.container import Katax

Instrumented = Katax | AsyncKatax | Database | AsyncDatabase[Any]
Attributes = Mapping[str, str | int]

_BUCKETS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0]
_COMMENTS = re.compile(r"\A(?:\s|\(|--[^\n]*\n|/\*.*?\*/)*", re.DOTALL)
_WORD = re.compile(r"[A-Za-z][A-Za-z_.]*")


def instrument(
    target: Instrumented,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> Callable[[], None]:
    """Makes a span and a measurement of every guarded call; returns what ends it.

    `target` is a database, or a container: then every connection of its profile, none of which is opened. Providers are
    OpenTelemetry's global ones unless given. A span lasts as long as the call, waiting for a connection and retries
    included, and is a child of the span that is current where the call is made. Statements carry `?` for every value;
    no parameter, user or password reaches a span.
    """
    tracer = trace.get_tracer("katax", katax_cli.__version__, tracer_provider)
    meter = metrics.get_meter("katax", katax_cli.__version__, meter_provider)
    duration = meter.create_histogram(
        "db.client.operation.duration",
        unit="s",
        description="Duration of database client operations.",
        explicit_bucket_boundaries_advisory=_BUCKETS,
    )
    databases = _databases(target)
    undo = [database.on("call", _CallTracer(database.settings, tracer, duration)) for database in databases]
    gauges = _PoolGauges(databases)
    meter.create_observable_up_down_counter(
        "db.client.connection.count", [gauges.connections], "{connection}", "Connections by state."
    )
    meter.create_observable_up_down_counter(
        "db.client.connection.max", [gauges.largest], "{connection}", "The most connections that may be open."
    )
    meter.create_observable_up_down_counter(
        "db.client.connection.pending_requests",
        [gauges.waiting],
        "{request}",
        "Calls that wait for a connection.",
    )

    def end() -> None:
        gauges.end()
        for remove in undo:
            remove()

    return end


class _CallTracer:
    """Turns a call that ended into a span and a measurement."""

    def __init__(
        self, settings: ConnectionSettings, tracer: trace.Tracer, duration: metrics.Histogram
    ) -> None:
        self._shared = _attributes(settings)
        self._tracer = tracer
        self._duration = duration

    def __call__(self, call: ObservedCall) -> None:
        ended = round(SYSTEM.now() * 1e9)
        operation = operation_of(call.statement)
        attributes = {**self._shared, "db.operation.name": operation}
        if call.error is not None:
            attributes["error.type"] = type(call.error).__qualname__
        span = self._tracer.start_span(
            f"{operation} {self._shared.get('db.namespace', self._shared['db.system.name'])}",
            kind=SpanKind.CLIENT,
            attributes={**attributes, "db.query.text": call.statement},
            start_time=ended - round(call.seconds * 1e9),
        )
        if call.error is not None:
            # Its own words may hold values of the statement.
            span.set_status(Status(StatusCode.ERROR, type(call.error).__qualname__))
        span.end(ended)
        self._duration.record(call.seconds, attributes)


class _PoolGauges:
    """How full the pools are at the moment at which an exporter asks; nothing once they ended."""

    def __init__(self, databases: Iterable[Database]) -> None:
        self._databases = tuple(databases)

    def end(self) -> None:
        self._databases = ()

    def connections(self, _options: CallbackOptions) -> Iterable[Observation]:
        for database in self._databases:
            stats = database.pool_stats()
            for state, number in (("used", stats.active), ("idle", stats.idle)):
                yield Observation(number, {**_pool(database), "db.client.connection.state": state})

    def largest(self, _options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(database.pool_stats().max, _pool(database)) for database in self._databases]

    def waiting(self, _options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(database.pool_stats().waiting, _pool(database)) for database in self._databases]


def operation_of(statement: str) -> str:
    """The verb of a statement or command, past comments: `SELECT`, `GET`, `find`; `OTHER` when there is none."""
    start = _COMMENTS.match(statement)
    word = _WORD.match(statement, start.end() if start else 0)
    return word.group().upper() if word else "OTHER"


def _databases(target: Instrumented) -> list[Database]:
    if isinstance(target, AsyncDatabase):
        return [target.wraps]
    if isinstance(target, Database):
        return [target]
    container = target.wraps if isinstance(target, AsyncKatax) else target
    return [container.database(name) for name in container.profile.connections]


def _attributes(settings: ConnectionSettings) -> Attributes:
    server = {"server.address": settings.host or settings.address}
    port = {} if settings.port is None else {"server.port": settings.port}
    namespace = {} if settings.database is None else {"db.namespace": settings.database}
    return {"db.system.name": settings.type, **server, **port, **namespace}


def _pool(database: Database) -> dict[str, str]:
    return {"db.client.connection.pool.name": database.name}
