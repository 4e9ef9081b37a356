"""A health report as bytes, for each format. Pure: report in, text out."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from katax_cli.cli.display import people
from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.output import GREEN, RED, YELLOW, Manner, Output
from katax_cli.core.measure.health import HealthPolicy
from katax_cli.core.measure.openmetrics import escaped
from katax_cli.core.text.text import to_json
from katax_cli.services.health.probe import as_dict
from katax_cli.snapshot import ConnectionHealth, Depth, HealthReport, HealthStatus

if TYPE_CHECKING:
    from katax_cli.services.state.store import HealthRecord

EXTRA_FORMATS = ("nagios", "prometheus")
Gauge = Callable[[ConnectionHealth], float | None]

COLUMNS = ("connection", "status", "latency_ms", "connect_ms", "pool", "server", "message")

DEPTH = ("connection", "kind", "name", "status", "latency_ms", "message")

SHADES = {"status": {"healthy": GREEN, "degraded": YELLOW, "unhealthy": RED}}

HISTORY = ("timestamp", "connection", "status", "latency_ms", "connect_ms", "message")

_EXIT: dict[HealthStatus, ExitCode] = {
    "healthy": ExitCode.DONE,
    "degraded": ExitCode.NO,
    "unhealthy": ExitCode.UNAVAILABLE,
}
_NAGIOS: dict[HealthStatus, tuple[int, str]] = {
    "healthy": (0, "OK"),
    "degraded": (1, "WARNING"),
    "unhealthy": (2, "CRITICAL"),
}


def exit_code(report: HealthReport, format: str, fail_on: str) -> ExitCode:
    """0 healthy, 1 degraded, 3 unhealthy; `nagios` has codes of its own: 0 OK, 1 WARNING, 2 CRITICAL."""
    if format == "nagios":
        return ExitCode(_NAGIOS[report.status][0])
    if report.status == "degraded" and fail_on == "unhealthy":
        return ExitCode.DONE
    return _EXIT[report.status]


def view(out: Output, report: HealthReport, policy: HealthPolicy) -> bytes:
    """The report in the format that `out` is set to."""
    if out.format == "json":
        return to_json(as_dict(report)).encode() + b"\n"
    if out.format == "nagios":
        return nagios(report, policy).encode()
    if out.format == "prometheus":
        return "".join(_prometheus(report)).encode()
    buffer = io.BytesIO()
    deep = any(connection.depth for connection in report.connections.values())
    header, rows = (DEPTH, deep_rows(report)) if deep else (COLUMNS, _rows(report))
    replace(out, stream=buffer, pager=None).rows(header, [rows], Manner(shades=SHADES, below="message"))
    return buffer.getvalue()


def _rows(report: HealthReport) -> list[tuple[object, ...]]:
    return [row(*one) for one in report.connections.items()]


def deep_rows(report: HealthReport) -> list[tuple[object, ...]]:
    """A row for each layer, then for what may get scarce, then for what to do about it."""
    return [(name, *row) for name, health in report.connections.items() for row in _deep(health)]


def _deep(health: ConnectionHealth) -> Iterator[tuple[object, ...]]:
    depth = health.depth or Depth()
    for check in health.checks:
        is_first = check.name == depth.first_failing_layer and depth.likely_cause
        told = (
            f"{check.message or check.status}; likely cause: {depth.likely_cause}"
            if is_first
            else check.message
        )
        yield "layer", check.name, check.status, check.latency_ms, told
    for room in depth.headroom:
        of = f"{room.used / room.limit:.1%} of {_amount(room.limit, room.unit)}" if room.limit else None
        yield "headroom", room.name, None, None, of or _amount(room.used, room.unit)
    for text in depth.recommendations:
        yield "recommendation", None, None, None, text
    if health.maintenance:
        yield "maintenance", None, None, None, health.maintenance


def _amount(count: float, unit: str) -> str:
    if unit == "bytes":
        return people.size(round(count))
    return people.duration(count) if unit == "seconds" else f"{count:,.0f} {unit}"


def row(name: str, health: ConnectionHealth) -> tuple[object, ...]:
    pool = health.pool
    return (
        name,
        health.status,
        health.latency_ms,
        health.connect_ms,
        f"{pool.active}/{pool.total}/{pool.max}" if pool else None,
        health.server.get("version"),
        "; ".join(filter(None, (health.maintenance, *health.errors))) or _remarks(health),
    )


def _remarks(health: ConnectionHealth) -> str | None:
    """The remarks of a probe that was answered, as one line; None without any."""
    return "; ".join(f"{check.name} {check.message}" for check in health.checks if check.message) or None


def history_row(record: HealthRecord) -> tuple[object, ...]:
    at = datetime.fromtimestamp(round(record.happened_at, 3)).astimezone()
    return (
        at,
        record.connection,
        record.status,
        record.latency_ms,
        record.connect_ms,
        record.message,
    )


def nagios(report: HealthReport, policy: HealthPolicy) -> str:
    """One line with performance data, as the Nagios plugin guidelines write it."""
    bad = [
        f"{name} {_why(one)}"
        for name, one in report.connections.items()
        if one.status != "healthy" or one.maintenance
    ]
    summary = ", ".join(bad) or f"{len(report.connections)} healthy"
    perfdata = " ".join(
        f"'{name}'={one.latency_ms:g}ms;{policy.degraded_ms:g};{policy.unhealthy_ms:g};0"
        for name, one in report.connections.items()
        if one.latency_ms is not None
    )
    return f"KATAX {_NAGIOS[report.status][1]} - {report.profile}: {summary} | {perfdata}\n"


def _why(health: ConnectionHealth) -> str:
    """The status and its reason, in one line without the `|` that begins the performance data."""
    if health.maintenance:
        return f"under maintenance ({health.maintenance})".replace("|", "/")
    reason = next(iter(health.errors), None) or _remarks(health)
    return " ".join(f"{health.status} ({reason})".replace("|", "/").split()) if reason else health.status


_GAUGES: tuple[tuple[str, str, Gauge], ...] = (
    ("katax_up", "1 when the connection is not unhealthy.", lambda one: float(one.status != "unhealthy")),
    ("katax_degraded", "1 when the connection is degraded.", lambda one: float(one.status == "degraded")),
    ("katax_ping_seconds", "Latency of a ping on an open connection.", lambda one: _seconds(one.latency_ms)),
    ("katax_connect_seconds", "Time to open a connection.", lambda one: _seconds(one.connect_ms)),
)


def _prometheus(report: HealthReport) -> Iterator[str]:
    """Prometheus text exposition format 0.0.4; labels are connection names only."""
    profile = escaped(report.profile)
    for name, text, value in _GAUGES:
        yield f"# HELP {name} {text}\n# TYPE {name} gauge\n"
        for connection, health in report.connections.items():
            number = value(health)
            if number is not None:
                yield f'{name}{{profile="{profile}",connection="{escaped(connection)}"}} {number:g}\n'


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1000
