"""The metrics of `health serve`; docs/metrics.md names them all. Labels are names of the profile's own things."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from katax_cli.core.measure.openmetrics import Family, Sample, gauge
from katax_cli.snapshot import ConnectionHealth

if TYPE_CHECKING:
    from katax_cli.services.health.rounds import OtherReports, Round

_DAY = 86400.0
Number = float | None


def families(profile: str, last: Round | None, *, age: float | None, ready: bool) -> Iterator[Family]:
    """All that is known; before the first round only that nothing is."""
    yield gauge("katax_ready", "1 when /ready answers 200.", float(ready))
    if last is None or age is None:
        return
    yield gauge("katax_health_age_seconds", "Time since the last round of checks ended.", age)
    yield Family("katax_health_rounds", "counter", "Rounds of checks so far.", [Sample(last.number)])
    yield from _health(profile, last.report.connections)
    yield from _loads(profile, last.loads)
    yield gauge("katax_state_up", "1 when the state database could be read.", float(not last.others.trouble))
    yield from _others(profile, last.others)


_OF_A_CONNECTION: Sequence[tuple[str, str, Callable[[ConnectionHealth], Number]]] = (
    ("katax_up", "1 when the connection is not unhealthy.", lambda one: float(one.status != "unhealthy")),
    ("katax_degraded", "1 when the connection is degraded.", lambda one: float(one.status == "degraded")),
    (
        "katax_maintenance",
        "1 while an operator refuses calls to the server, with a reason.",
        lambda one: float(one.maintenance is not None),
    ),
    ("katax_ping_seconds", "Latency of a ping on an open connection.", lambda one: _seconds(one.latency_ms)),
    ("katax_connect_seconds", "Time to log in.", lambda one: _seconds(one.connect_ms)),
    (
        "katax_certificate_expiry_seconds",
        "Time until the server's certificate ends.",
        lambda one: one.depth.certificate_days * _DAY if one.depth and one.depth.certificate_days else None,
    ),
)


def _health(profile: str, connections: Mapping[str, ConnectionHealth]) -> Iterator[Family]:
    for name, text, value in _OF_A_CONNECTION:
        found = ((_labels(profile, each), value(one)) for each, one in connections.items())
        yield Family(name, "gauge", text, _known(found))
    deep = {name: one.depth for name, one in connections.items() if one.depth is not None}
    failing = [
        Sample(1, {**_labels(profile, name), "layer": depth.first_failing_layer})
        for name, depth in deep.items()
        if depth.first_failing_layer
    ]
    yield Family("katax_failing_layer", "gauge", "1 for the first layer that fails.", failing)
    rooms = [
        ({**_labels(profile, name), "resource": room.name, "unit": room.unit}, room)
        for name, depth in deep.items()
        for room in depth.headroom
    ]
    used = _known((labels, room.used) for labels, room in rooms)
    yield Family("katax_headroom_used", "gauge", "Used amount of a resource.", used)
    limits = _known((labels, room.limit) for labels, room in rooms)
    yield Family("katax_headroom_limit", "gauge", "Limit of a resource.", limits)


def _loads(profile: str, loads: Mapping[str, Mapping[str, object]]) -> Iterator[Family]:
    queries = {name: load.get("queries") for name, load in loads.items()}
    known = [(_labels(profile, name), one) for name, one in queries.items() if isinstance(one, Mapping)]
    counts = _known((labels, one.get("count")) for labels, one in known)
    yield Family("katax_server_queries", "counter", "Statements that the server counted.", counts)
    means = _known((labels, _seconds(one.get("avg_ms"))) for labels, one in known)
    yield Family("katax_server_query_mean_seconds", "gauge", "Average time of a statement.", means)


def _others(profile: str, others: OtherReports) -> Iterator[Family]:
    pools = [(_labels(profile, pool.connection), pool) for pool in others.pools]
    in_pools = [
        Sample(value, {**labels, "state": state})
        for labels, pool in pools
        for state, value in (("active", pool.active), ("idle", pool.idle))
    ]
    yield Family("katax_pool_connections", "gauge", "Connections of the pool that reported last.", in_pools)
    most = [Sample(pool.max, labels) for labels, pool in pools]
    yield Family("katax_pool_max", "gauge", "Largest number of connections that the pool opens.", most)
    waiting = [Sample(pool.waiting, labels) for labels, pool in pools]
    yield Family("katax_pool_waiting", "gauge", "Callers that wait for a connection of the pool.", waiting)
    states = Counter((breaker.connection, breaker.state) for breaker in others.breakers)
    breakers = [
        Sample(count, {**_labels(profile, name), "state": state}) for (name, state), count in states.items()
    ]
    yield Family("katax_breakers", "gauge", "Processes whose breaker is in this state.", breakers)
    yield from _jobs(profile, others)


def _jobs(profile: str, others: OtherReports) -> Iterator[Family]:
    labelled = [({"profile": profile, "job": run.job}, run) for run in others.jobs]
    worked = [Sample(float(run.state == "ran"), labels) for labels, run in labelled]
    yield Family("katax_job_up", "gauge", "1 when the latest finished run succeeded.", worked)
    ends = [Sample(run.finished_at / 1000, labels) for labels, run in labelled if run.finished_at is not None]
    yield Family("katax_job_finished_timestamp_seconds", "gauge", "When that run ended.", ends)
    spent = _known((labels, _seconds(run.duration_ms)) for labels, run in labelled)
    yield Family("katax_job_duration_seconds", "gauge", "How long that run took.", spent)


def _labels(profile: str, connection: str) -> dict[str, str]:
    return {"profile": profile, "connection": connection}


def _known(pairs: Iterable[tuple[Mapping[str, str], Number]]) -> list[Sample]:
    return [Sample(value, labels) for labels, value in pairs if value is not None]


def _seconds(ms: Number) -> Number:
    return None if ms is None else ms / 1000
