"""The health of a profile: every connection probed by itself, at the same time, within its own deadline.

A probe holds at most one connection, asks no breaker, retries nothing and leaves no session behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.measure.health import ROLE_CAUSES, HealthPolicy, Hysteresis, role_check, worst
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.engines.registry import part
from katax_cli.errors import KataxError, QueryError, RolledBack
from katax_cli.services.calls.left_behind import Running, start
from katax_cli.services.databases.database import Database
from katax_cli.services.runtime.decisions import OperatorDecision
from katax_cli.snapshot import Check, ConnectionHealth, Depth, HealthReport, HealthStatus, ServerStanding

if TYPE_CHECKING:
    from katax_cli.engines.headroom import ReportsHeadroom

PROBE_SECONDS = 5.0
GRACE = 0.3
"""Seconds that a probe gets after its deadline to say itself why it failed."""


Prober = Callable[[Deadline], ConnectionHealth]


@dataclass
class _Probe:
    """One connection under observation: how, what runs for it now, and what was shown last."""

    database: Database
    look: Prober
    hysteresis: Hysteresis | None
    running: Running | None = None


class HealthChecker:
    """Checks the connections of one profile, once or again and again; a mapping gives them other names.

    `steady` shows a change of status only when it lasts (for `--watch`). The databases come from a Runtime that
    is `probing`: without a breaker, with one attempt and one connection. `prober` makes what looks at each of
    them; None: a ping. `tripped(name)` is an operator's decision to refuse calls to a connection; see `judged`.
    `backup(name)` is a check of its backups.
    """

    def __init__(
        self,
        profile: str,
        databases: Sequence[Database] | Mapping[str, Database],
        *,
        policy: HealthPolicy,
        steady: bool = False,
        prober: Callable[[Database], Prober] | None = None,
        tripped: Callable[[str], OperatorDecision | None] = lambda _: None,
        backup: Callable[[str], Check | None] = lambda _: None,
        clock: Clock = SYSTEM,
    ) -> None:
        self._profile = profile
        self._policy = policy
        self._tripped = tripped
        self._backup = backup
        self._clock = clock
        look = prober or self._pinger
        named = databases if isinstance(databases, Mapping) else {one.name: one for one in databases}
        self._probes = {
            name: _Probe(database, look(database), Hysteresis() if steady else None)
            for name, database in named.items()
        }

    def check(self, *, seconds: float = PROBE_SECONDS) -> HealthReport:
        """Probes all connections in parallel; takes at most `seconds` and a moment, whatever hangs."""
        deadline = Deadline(seconds, clock=self._clock)
        for name, probe in self._probes.items():
            if probe.running is None:
                probe.running = start(f"katax-probe-{name}", partial(probe.look, deadline))
        found = {
            name: judged(with_check(self._result(probe, deadline), self._backup(name)), self._tripped(name))
            for name, probe in self._probes.items()
        }
        status = overall(found.values())
        now = datetime.fromtimestamp(self._clock.now()).astimezone()
        return HealthReport(status, now, self._profile, found)

    def _pinger(self, database: Database) -> Prober:
        return lambda deadline: probe(database, self._policy, deadline, clock=self._clock)

    def _result(self, probe: _Probe, deadline: Deadline) -> ConnectionHealth:
        running = probe.running
        assert running is not None
        if not running.ended(deadline.remaining() + GRACE):
            since = self._clock.monotonic() - running.started
            return unseen(probe.database, f"no answer for {since:.1f} s; the probe still waits")
        probe.running, outcome = None, running.outcome
        health = outcome if isinstance(outcome, ConnectionHealth) else broken(probe.database, outcome)
        if probe.hysteresis is None:
            return health
        return steadied(health, probe.hysteresis.seen(health.status))


def steadied(health: ConnectionHealth, shown: HealthStatus) -> ConnectionHealth:
    """The health with the status that lasted; a failure that may be an accident is degraded, never healthy."""
    if shown == health.status:
        return health
    if shown == "healthy" and health.errors:
        shown = "degraded"
    wait = Check("steady", shown, message=f"the last check found it {health.status}, which may not last")
    return replace(health, status=shown, checks=(*health.checks, wait))


def judged(health: ConnectionHealth, trip: OperatorDecision | None) -> ConnectionHealth:
    """The health with its check `circuit`, which is degraded while an operator refuses calls to the connection.

    With a reason that is maintenance: what the probe found is shown and does not count.
    """
    if trip is None:
        return health
    circuit = Check("circuit", "degraded", message=trip.sentence)
    checked = replace(health, checks=(*health.checks, circuit))
    if trip.reason:
        return replace(checked, maintenance=trip.sentence)
    return replace(checked, status=worst((health.status, "degraded")))


def with_check(health: ConnectionHealth, check: Check | None) -> ConnectionHealth:
    """The health with one more check, if there is one, whose failure is one of its errors."""
    if check is None or check.status == "skipped":
        return health if check is None else replace(health, checks=(*health.checks, check))
    errors = health.errors
    if check.status != "healthy" and check.message:
        errors = (*errors, check.message)
    status = worst((health.status, check.status))
    return replace(health, status=status, checks=(*health.checks, check), errors=errors)


def overall(connections: Iterable[ConnectionHealth]) -> HealthStatus:
    """The worst of all; a connection under maintenance counts as degraded."""
    return worst("degraded" if connection.maintenance else connection.status for connection in connections)


def probe(
    database: Database,
    policy: HealthPolicy,
    deadline: Deadline,
    *,
    known: Mapping[str, object] | None = None,
    clock: Clock = SYSTEM,
) -> ConnectionHealth:
    """Connects unless connected, pings, and asks what server it is unless that is `known`.

    Failures are part of the answer.
    """
    checks: list[Check] = []
    server = known or {}
    try:
        connect_ms = _timed(lambda: database.connect(timeout=deadline.within(None), probing=True), clock)
        checks.append(Check("connect", "healthy", connect_ms))
        latency_ms = _timed(lambda: database.ping(timeout=deadline.within(None)), clock)
        checks.append(Check("ping", policy.verdict(latency_ms), latency_ms, policy.remark(latency_ms)))
        server = server or database.server(timeout=deadline.within(None))
        checks += parts_check(database, deadline)
    except KataxError as error:
        name = ("connect", "ping", "server")[len(checks)]
        checks.append(Check(name, "unhealthy", message=str(error)))
        return ConnectionHealth(
            "unhealthy", None, None, tuple(checks), database.pool_stats(), {}, (str(error),)
        )
    role = _role(database, deadline)
    errors = [check.message for check in checks[2:] if check.message and check.status != "skipped"]
    if role.status == "unhealthy":
        errors.append(f"{role.message}; {ROLE_CAUSES[database.settings.expected]}")
    checks.append(role)
    status = worst(check.status for check in checks if check.status != "skipped")
    return ConnectionHealth(
        status, latency_ms, connect_ms, tuple(checks), database.pool_stats(), server, tuple(errors)
    )


def _role(database: Database, deadline: Deadline) -> Check:
    """The check `write_role`; skipped where this user may not ask."""
    rooms: ReportsHeadroom = part(database.engine, "headroom")
    try:
        standing: ServerStanding = database.examine(
            rooms.standing, timeout=deadline.within(None), doing="asking for its role"
        )
    except KataxError as error:
        return Check("write_role", "skipped", message=str(error))
    return role_check(standing, database.settings.expected, None)


def parts_check(database: Database, deadline: Deadline) -> list[Check]:
    """A cluster's report on its parts, as a check; none for a single server. Raises what asking raises."""
    began = SYSTEM.monotonic()
    try:
        serving = database.serving(timeout=deadline.within(None))
    except RolledBack:
        raise
    except QueryError as error:
        return [Check("cluster", "skipped", None, str(error))]  # a restricted user may not ask
    if serving is None:
        return []
    return [Check("cluster", serving.status, ms_since(began), serving.message)]


def ping_ms(database: Database) -> float:
    """Milliseconds of a ping on an open connection. Raises what connecting and pinging raise."""
    database.connect(probing=True)
    return _timed(database.ping, SYSTEM)


def as_dict(report: HealthReport) -> dict[str, object]:
    """The report with the keys of `katax health -f json`."""
    return {
        "status": report.status,
        "timestamp": report.timestamp.isoformat(timespec="milliseconds"),
        "profile": report.profile,
        "connections": {name: _connection_dict(one) for name, one in report.connections.items()},
    }


def _connection_dict(health: ConnectionHealth) -> dict[str, object]:
    return {
        "status": health.status,
        "latency_ms": health.latency_ms,
        "connect_ms": health.connect_ms,
        "checks": [check._asdict() for check in health.checks],
        "pool": health.pool._asdict() if health.pool else None,
        "server": dict(health.server),
        "errors": list(health.errors),
        **({"maintenance": health.maintenance} if health.maintenance else {}),
        **(_depth_dict(health.depth) if health.depth else {}),
    }


def _depth_dict(depth: Depth) -> dict[str, object]:
    return {
        "first_failing_layer": depth.first_failing_layer,
        "likely_cause": depth.likely_cause,
        "certificate_days": depth.certificate_days,
        "headroom": [room._asdict() for room in depth.headroom],
        "recommendations": list(depth.recommendations),
    }


def broken(database: Database, error: object) -> ConnectionHealth:
    """A probe that failed with anything but an error of ours is a defect, and says so."""
    return unseen(database, f"internal error of the probe: {type(error).__name__}: {error}")


def unseen(database: Database, message: str) -> ConnectionHealth:
    """The health of a connection whose probe gave no answer."""
    check = Check("probe", "unhealthy", message=message)
    return ConnectionHealth("unhealthy", None, None, (check,), database.pool_stats(), {}, (message,))


def ms_since(began: float, clock: Clock = SYSTEM) -> float:
    """Milliseconds since a moment of the monotonic clock."""
    return round((clock.monotonic() - began) * 1000, 3)


def _timed(call: Callable[[], object], clock: Clock) -> float:
    started = clock.monotonic()
    call()
    return ms_since(started, clock)
