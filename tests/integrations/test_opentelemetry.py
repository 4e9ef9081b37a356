"""Spans and metrics of guarded calls, with the SDK's exporters in memory: on every engine, in threads and in tasks."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from katax_cli import Katax, MongoDatabase, RedisDatabase, SqlDatabase
from katax_cli.aio import AsyncKatax
from katax_cli.errors import KataxError, Unavailable, UniqueViolation
from katax_cli.integrations.opentelemetry import instrument, operation_of
from katax_cli.profiles.load import load_profile
from tests.servers.fixtures import MakeProxy, Target
from tests.services.runtimes import QUICK, patient, write_profile

SECRET = "s3cr3t-value"


class Telemetry:
    """Providers of one test, and what they were told."""

    def __init__(self) -> None:
        self._spans, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers, self.meters = TracerProvider(), MeterProvider([self._reader])
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._spans.get_finished_spans())

    def points(self, name: str) -> list[Any]:
        data = self._reader.get_metrics_data()
        assert data is not None
        found = [
            metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]
        return [point for metric in found if metric.name == name for point in metric.data.data_points]

    def providers(self) -> dict[str, Any]:
        return {"tracer_provider": self.tracers, "meter_provider": self.meters}


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    made = Telemetry()
    yield made
    made.tracers.shutdown()
    made.meters.shutdown()


def use(database: Any) -> None:
    if isinstance(database, SqlDatabase):
        database.query(f"select '{SECRET}' as a")
    elif isinstance(database, RedisDatabase):
        database.redis("SET", "k", SECRET)
    else:
        assert isinstance(database, MongoDatabase)
        database.count("people", {"name": SECRET})


def test_a_call_of_each_engine(tmp_path: Path, engine: Target, telemetry: Telemetry) -> None:
    write_profile(tmp_path, main=patient(engine.url))
    with Katax(load_profile("test", cwd=str(tmp_path))) as katax:
        end = instrument(katax, **telemetry.providers())
        with telemetry.tracers.get_tracer("test").start_as_current_span("request") as request:
            use(katax.database("main"))
        call = next(span for span in telemetry.spans if span.name != "request")
        facts = dict(call.attributes or {})
        assert (call.kind, facts["db.system.name"]) == (SpanKind.CLIENT, katax.database("main").settings.type)
        assert call.parent is not None
        assert call.parent.span_id == request.get_span_context().span_id
        assert call.name.startswith(f"{facts['db.operation.name']} ")
        assert facts["server.address"]
        assert SECRET not in repr((facts, call.name, call.status.description))
        assert call.start_time is not None
        assert call.end_time is not None
        assert call.start_time <= call.end_time
        [point] = telemetry.points("db.client.operation.duration")
        assert (point.count, point.attributes["db.operation.name"]) == (1, facts["db.operation.name"])
        states = {
            point.attributes["db.client.connection.state"]
            for point in telemetry.points("db.client.connection.count")
        }
        assert states == {"used", "idle"}

        before = len(telemetry.spans)
        end()
        use(katax.database("main"))
        assert len(telemetry.spans) == before
        assert telemetry.points("db.client.connection.max") == []


def test_what_failed_and_what_was_never_sent(
    tmp_path: Path, postgresql_url: str, proxy: MakeProxy, telemetry: Telemetry
) -> None:
    wire = proxy(postgresql_url)
    write_profile(tmp_path, QUICK, main=patient(wire.url))
    with Katax(load_profile("test", cwd=str(tmp_path))) as katax:
        main = katax.database("main", type="postgresql")
        main.execute("create table people (name text primary key)")
        main.execute("insert into people values ($1)", [SECRET])
        instrument(main, **telemetry.providers())
        with pytest.raises(UniqueViolation):
            main.execute("insert into people values ($1)", [SECRET])
        wire.refuse()
        wire.cut()
        with pytest.raises(Unavailable):
            main.query("select 1")
    errors = [(span.attributes or {})["error.type"] for span in telemetry.spans]
    assert errors[0] == "UniqueViolation"
    assert issubclass(getattr(__import__("katax_cli.errors", fromlist=["x"]), str(errors[-1])), KataxError)
    assert all(span.status.status_code is StatusCode.ERROR for span in telemetry.spans)
    assert SECRET not in "".join(span.to_json() for span in telemetry.spans)


def test_tasks_have_their_own_parents(tmp_path: Path, postgresql_url: str, telemetry: Telemetry) -> None:
    write_profile(tmp_path, main=patient(postgresql_url))
    tracer = telemetry.tracers.get_tracer("test")

    async def request(katax: AsyncKatax, number: int) -> None:
        with tracer.start_as_current_span(f"request {number}"):
            await katax.database("main").query(f"select {number} as n, pg_sleep(0.01)")

    async def main() -> None:
        async with AsyncKatax(load_profile("test", cwd=str(tmp_path))) as katax:
            instrument(katax, **telemetry.providers())
            await asyncio.gather(*(request(katax, number) for number in range(20)))

    asyncio.run(main())
    parents = {
        span.context.span_id for span in telemetry.spans if span.name.startswith("request") and span.context
    }
    children = [
        span.parent.span_id for span in telemetry.spans if span.kind is SpanKind.CLIENT and span.parent
    ]
    assert sorted(children) == sorted(parents)
    assert len(children) == 20


def test_the_verb_of_a_statement() -> None:
    statements = {
        "select 1": "SELECT",
        "  -- why\n /* and\n how */ (Insert into t": "INSERT",
        "GET ?": "GET",
        "people.find": "PEOPLE.FIND",
        "?": "OTHER",
        "": "OTHER",
        "/* never closed": "OTHER",
    }
    assert {text: operation_of(text) for text in statements} == statements


def test_unused_it_is_not_imported() -> None:
    code = (
        "import sys; from katax_cli import Katax; import katax_cli.aio; print('opentelemetry' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
