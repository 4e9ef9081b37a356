"""The content of each panel: pure functions from a Snapshot to rows. `tui/layout.py` says which panels there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from rich.text import Text

from katax_cli.core.roles import Tier
from katax_cli.snapshot import (
    ConnectionHealth,
    Happening,
    JobRun,
    JobStatus,
    Part,
    PoolTrail,
    SlowCall,
    Snapshot,
    SocketServer,
    Traffic,
    Watched,
)
from katax_cli.tui.circuit_tree import circuit_rows
from katax_cli.tui.glyphs import (
    BAD,
    FADED,
    ODD,
    ago,
    alarming,
    clock,
    is_fresh,
    number,
    pool_bar,
    pool_trail,
    said,
    spark,
    state,
    symbol,
    trail_cells,
    until,
)
from katax_cli.tui.session_list import session_rows
from katax_cli.tui.table import Column, PanelContent, TableRow, faded

R = TypeVar("R")

_URGENCY: dict[str | None, int] = {"unhealthy": 0, "degraded": 1, None: 2, "healthy": 3}
"""Unhealthy rows are on top, where a small screen shows them."""
_BAD_ENDS = ("failed", "killed", "missed")


class Action(NamedTuple):
    """The katax command of a key for the row under the cursor; `tier` is the confirmation it needs."""

    name: str
    key: str
    label: str
    words: tuple[str, ...]
    options: str = ""
    tier: Tier | None = None


class Panel(NamedTuple):
    """`screen`: the full screen that it is on; `minor` ones give way in a small overview.

    `is_stream`: its newest row is the first, and the view follows it until the user scrolls.
    `reads`: the katax command that prints more about a row, given its key.
    """

    name: str
    title: str
    screen: str
    columns: tuple[Column, ...]
    draw: Callable[[Snapshot, int], PanelContent]
    actions: tuple[Action, ...] = ()
    minor: bool = False
    is_stream: bool = False
    reads: tuple[str, ...] = ()


def connections(snapshot: Snapshot, width: int) -> PanelContent:
    rows = [_connection(name, watched, snapshot, width) for name, watched in snapshot.watched.items()]
    rows.sort(key=lambda row: _urgency(snapshot, row.subject))
    return PanelContent(
        tuple(rows),
        _oldest(snapshot),
        empty="the profile names no connections; see katax profile show",
    )


def _oldest(snapshot: Snapshot) -> str:
    """The time since the check of the connection that was checked least recently."""
    known = [seen.checked_at for seen in snapshot.watched.values() if seen.checked_at is not None]
    return ago(min(known, default=None), snapshot.taken_at)


def _urgency(snapshot: Snapshot, name: str) -> int:
    """A connection that hangs is as urgent as one that failed, whatever was known of it before."""
    health = snapshot.health.connections.get(name)
    return 0 if snapshot.watched[name].late else _URGENCY.get(health.status if health else None, 0)


def _connection(name: str, watched: Watched, snapshot: Snapshot, width: int) -> TableRow:
    health = snapshot.health.connections.get(name)
    is_doubtful = watched.late is not None and health is not None and health.status != "unhealthy"
    ping = health.latency_ms if health else None
    depth = health.depth if health else None
    cells = (
        said(name, "bold"),
        state(health.status) if health and not is_doubtful else Text("? unknown", FADED),
        number(ping),
        spark(watched.latencies_ms, trail_cells(width)),
        said(depth.first_failing_layer or "" if depth else "", BAD),
        Text(ago(watched.checked_at, snapshot.taken_at), justify="right"),
        said(watched.late or _remark(health)),
        said(str(health.server.get("version", "")) if health else ""),
    )
    return TableRow(name, name, faded(cells) if watched.late else cells)


def _remark(health: ConnectionHealth | None) -> str:
    """The operator's reason for maintenance, the error with its likely cause, or the remark of a probe."""
    if health is None:
        return ""
    cause = health.depth.likely_cause if health.depth else None
    strange = () if health.errors else tuple(check.message for check in health.checks)
    return "; ".join(filter(None, (health.maintenance, cause, *health.errors, *strange)))


def pools(snapshot: Snapshot, width: int) -> PanelContent:
    rows = sorted(snapshot.pools.rows, key=lambda trail: not trail.samples[-1].waiting)
    part = snapshot.pools._replace(rows=tuple(rows))
    return _part(snapshot, part, lambda trail: _pool(trail, snapshot.taken_at, width))


def _pool(trail: PoolTrail, now: float, width: int) -> TableRow:
    pool = trail.samples[-1]
    cells = (
        said(trail.connection, "bold"),
        pool_bar(pool, 10),
        Text(f"{pool.active}/{pool.idle}/{pool.max}", justify="right"),
        number(pool.waiting),
        pool_trail(trail.samples, trail_cells(width)),
        said(trail.process),
        Text(ago(trail.seen_at, now), justify="right"),
    )
    key = f"{trail.connection} {trail.process}"
    return TableRow(key, trail.connection, cells if is_fresh(trail.seen_at, now) else faded(cells))


def circuits(snapshot: Snapshot, _width: int) -> PanelContent:
    part = snapshot.circuits
    rows = tuple(circuit_rows(part.rows, snapshot.taken_at))
    return _part(snapshot, Part(rows, part.source, part.seen_at, part.missing), lambda row: row)


def queries(snapshot: Snapshot, width: int) -> PanelContent:
    rows = sorted(snapshot.traffic.rows, key=lambda traffic: not traffic.failed)
    part = snapshot.traffic._replace(rows=tuple(rows))
    return _part(snapshot, part, lambda traffic: _traffic(traffic, snapshot.taken_at, width))


def _traffic(traffic: Traffic, now: float, width: int) -> TableRow:
    cells = (
        said(traffic.connection, "bold"),
        number(traffic.per_second),
        spark(traffic.trail, trail_cells(width)),
        number(traffic.p95_ms),
        alarming(traffic.slow, ODD),
        alarming(traffic.failed, BAD),
        said(traffic.source),
        Text(ago(traffic.seen_at, now), justify="right"),
    )
    return TableRow(f"{traffic.connection} {traffic.source}", traffic.connection, cells)


def slow(snapshot: Snapshot, _width: int) -> PanelContent:
    calls = sorted(snapshot.slow.rows, key=lambda call: call.duration_ms, reverse=True)
    part = snapshot.slow._replace(rows=tuple(calls))
    return _part(snapshot, part, lambda call: _slow(call, snapshot.taken_at))


def _slow(call: SlowCall, now: float) -> TableRow:
    cells = (
        number(call.duration_ms),
        said(call.connection, "bold"),
        Text(ago(call.happened_at, now), justify="right"),
        said(call.statement),
        said(call.process),
    )
    return TableRow(f"{call.happened_at} {call.process} {call.statement}", call.connection, cells)


def jobs(snapshot: Snapshot, _width: int) -> PanelContent:
    rows = sorted(snapshot.jobs.rows, key=lambda job: job.last_state not in _BAD_ENDS)
    part = snapshot.jobs._replace(rows=tuple(rows))
    return _part(snapshot, part, lambda job: _job(job, snapshot.taken_at))


def _job(job: JobStatus, now: float) -> TableRow:
    is_on = (
        Text("▶ running" if job.running == 1 else f"▶ {job.running} running") if job.running else Text("on")
    )
    cells = (
        said(job.name, "bold"),
        is_on if job.enabled or job.running else Text("○ off", ODD),
        Text(until(job.next_at, now)),
        state(job.last_state) if job.last_state else Text("never", FADED),
        Text(ago(job.last_finished_at, now), justify="right"),
        said(job.schedule),
        said(job.timezone),
        said(job.last_reason or ""),
    )
    return TableRow(job.name, job.name, cells)


def runs(snapshot: Snapshot, _width: int) -> PanelContent:
    return _part(snapshot, snapshot.runs, lambda run: _run(run, snapshot.taken_at))


def _run(run: JobRun, now: float) -> TableRow:
    cells = (
        said(run.job, "bold"),
        state(run.state),
        Text(ago(run.started_at or run.scheduled_at, now), justify="right"),
        number(run.duration_ms),
        said(run.reason or ""),
        said(run.host),
        said(run.run_id[:8]),
    )
    return TableRow(run.run_id, run.job, cells)


def sockets(snapshot: Snapshot, _width: int) -> PanelContent:
    rows = sorted(snapshot.sockets.rows, key=lambda server: not server.trouble)
    part = snapshot.sockets._replace(rows=tuple(rows))
    return _part(snapshot, part, lambda server: _server(server, snapshot.taken_at))


def _server(server: SocketServer, now: float) -> TableRow:
    cells = (
        said(server.name, "bold"),
        number(server.clients),
        number(server.rooms),
        number(server.received_per_second),
        number(server.emitted_per_second),
        alarming(server.refused, ODD),
        said(server.process),
        Text(ago(server.seen_at, now), justify="right"),
        said(server.trouble or "", BAD),
    )
    return TableRow(f"{server.name} {server.process}", server.name, cells)


def activity(snapshot: Snapshot, _width: int) -> PanelContent:
    part = snapshot.activity
    rows = tuple(session_rows(part.rows, snapshot.taken_at))
    return _part(snapshot, Part(rows, part.source, part.seen_at, part.missing), lambda row: row)


def log(snapshot: Snapshot, _width: int) -> PanelContent:
    """The newest first."""
    part = snapshot.log._replace(rows=snapshot.log.rows[::-1])
    return _part(snapshot, part, _happening)


def _happening(happening: Happening) -> TableRow:
    cells = (
        Text(clock(happening.happened_at)),
        symbol(happening.level),
        said(happening.subject, "bold"),
        said(happening.text),
    )
    return TableRow(f"{happening.happened_at} {happening.subject} {happening.text}", happening.subject, cells)


def _part(snapshot: Snapshot, part: Part[R], row: Callable[[R], TableRow]) -> PanelContent:
    """Rows of a part that may be missing: without any it says why, with old ones how old they are."""
    rows = tuple(map(row, part.rows))
    if not rows or part.missing is None:
        return PanelContent(rows, ago(part.seen_at, snapshot.taken_at), empty=part.missing or "nothing yet")
    old = tuple(each._replace(cells=faded(each.cells)) for each in rows)
    return PanelContent(old, f"{ago(part.seen_at, snapshot.taken_at)} old: {part.missing}", stale=True)
