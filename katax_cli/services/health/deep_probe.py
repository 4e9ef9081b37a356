"""A verbose health check: layer by layer to the first that fails, then what gets scarce.

Holds one connection at a time: the bare one of `layers` is closed before the login. While a connection of an
earlier check is open, it proves the way, and so does a refused login: nothing is tried bare again then (MySQL
blocks hosts that hang up before the login too often).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from katax_cli.core.clock import SYSTEM
from katax_cli.core.measure.diagnosis import LAYERS, LayerName, likely_cause
from katax_cli.core.measure.health import ROLE_CAUSES, HealthPolicy, role_check, worst
from katax_cli.core.measure.recommend import ConnectionFacts, recommend
from katax_cli.core.pooling.headroom import advice, paced
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.resilience.failure import FailureKind
from katax_cli.engines.registry import part
from katax_cli.errors import AuthenticationFailed, KataxError, QueryError, RolledBack
from katax_cli.services.databases.database import Database
from katax_cli.services.health.bare_connection import Wire, try_wire
from katax_cli.services.health.probe import ms_since, parts_check
from katax_cli.snapshot import (
    Check,
    ConnectionHealth,
    Depth,
    Headroom,
    HealthStatus,
    PoolStats,
    ServerStanding,
)

if TYPE_CHECKING:
    from katax_cli.profiles.model.model import Profile

LAGGING_SECONDS = 10.0
"""A standby that is further behind degrades its connection."""
_RESERVED = 3


class DeepProbe:
    """Probes one connection again and again; `pool_max` is how many the profile lets the application open.

    `refused`: whether the server refused the last login.
    """

    def __init__(self, database: Database, policy: HealthPolicy, *, pool_max: int | None = None) -> None:
        self._database = database
        self._policy = policy
        self._pool_max = pool_max
        self._rooms: Any = None
        self._wire: Wire | None = None
        self.refused = False
        self._earlier: tuple[float, dict[str, Headroom]] = (0.0, {})

    def __call__(self, deadline: Deadline) -> ConnectionHealth:
        """Probes within the deadline. Failures are part of the result."""
        reuse = self._wire is not None and (self.refused or self._database.is_connected)
        checkup = self._checkup(deadline, anew=not reuse)
        if reuse and checkup.error is not None and not isinstance(checkup.error, AuthenticationFailed):
            # The open connection proved nothing after all.
            checkup = self._checkup(deadline, anew=True)
        self.refused = isinstance(checkup.error, AuthenticationFailed)
        rooms = [] if checkup.failed else self._headroom(checkup, deadline)
        return checkup.result(tuple(rooms), self._recommendations(checkup, rooms))

    def _checkup(self, deadline: Deadline, *, anew: bool) -> _Checkup:
        if anew or self._wire is None:
            self._wire = try_wire(self._database.settings, deadline)
        checkup = _Checkup(self._database, self._policy, deadline, self._wire)
        if not self._wire.failed:
            self._rooms = self._rooms or part(self._database.engine, "headroom")
            checkup.look(self._rooms)
        return checkup

    def _headroom(self, checkup: _Checkup, deadline: Deadline) -> list[Headroom]:
        try:
            found = self._database.examine(
                self._rooms.headroom, timeout=deadline.within(None), doing="asking for its limits"
            )
        except KataxError as error:
            checkup.checks.append(Check("headroom", "skipped", None, str(error)))
            return []
        since, earlier = self._earlier
        now = SYSTEM.monotonic()
        rooms = [paced(room, earlier.get(room.name), now - since) for room in found]
        if not earlier:
            self._earlier = (now, {room.name: room for room in found})
        return rooms

    def _recommendations(self, checkup: _Checkup, rooms: list[Headroom]) -> tuple[str, ...]:
        most = checkup.server.get("max_connections")
        pool = None if self._pool_max is None else PoolStats(self._pool_max, 0, 0, 0, 0)
        facts = ConnectionFacts(None, pool, most if isinstance(most, int) else None, _RESERVED)
        return (*advice(rooms, engine=self._database.engine.name), *recommend(facts))


class _Checkup:
    """One pass through the layers behind the wire; it ends at the first that fails."""

    def __init__(self, database: Database, policy: HealthPolicy, deadline: Deadline, wire: Wire) -> None:
        self._database = database
        self._policy = policy
        self._deadline = deadline
        self._days = wire.certificate_days
        self.checks = list(wire.checks)
        self.cause = wire.cause
        self.error: KataxError | None = None
        self.server: dict[str, object] = {}
        self._standing: ServerStanding | None = None

    @property
    def failed(self) -> bool:
        return self.cause is not None

    def look(self, rooms: Any) -> None:
        database = self._database
        steps: tuple[tuple[LayerName, Callable[[], object]], ...] = (
            ("auth", lambda: database.connect(timeout=self._deadline.within(None), probing=True)),
            ("read", lambda: database.ping(timeout=self._deadline.within(None))),
        )
        for layer, step in steps:
            if not self._step(layer, step):
                return
        self._identify()
        if self.error is None:
            self._place(rooms)
            self._ask_parts()

    def _step(self, layer: LayerName, step: Callable[[], object]) -> bool:
        began = SYSTEM.monotonic()
        try:
            step()
        except KataxError as error:
            self._fail(layer, began, error)
            return False
        spent = ms_since(began)
        is_read = layer == "read"
        status: HealthStatus = self._policy.verdict(spent) if is_read else "healthy"
        if status == "unhealthy":
            self.cause = "the server answers, but too late: it is overloaded, or far away"
        self.checks.append(Check(layer, status, spent, self._policy.remark(spent) if is_read else None))
        return True

    def _identify(self) -> None:
        """Asks the server for its version. Refusing that to this user is no defect."""
        try:
            self.server.update(self._database.server(timeout=self._deadline.within(None)))
        except KataxError as error:
            if isinstance(error, QueryError) and not isinstance(error, RolledBack):
                return
            self.checks.pop()
            self._fail("read", None, error)

    def _place(self, rooms: Any) -> None:
        """Role and lag: neither is judged where the profile only reads."""
        began = SYSTEM.monotonic()
        try:
            standing: ServerStanding = self._database.examine(
                rooms.standing, timeout=self._deadline.within(None), doing="asking for its role"
            )
        except KataxError as error:
            self.checks.append(Check("write_role", "skipped", ms_since(began), str(error)))
            return
        self._judge(standing, ms_since(began))

    def _ask_parts(self) -> None:
        try:
            checks = parts_check(self._database, self._deadline)
        except KataxError as error:
            self._fail("read", None, error)
            return
        self.checks += checks
        if any(check.status == "unhealthy" for check in checks):
            self.cause = "the cluster lost nodes, or some of its slots have no owner; see CLUSTER NODES"

    def _judge(self, standing: ServerStanding, spent: float) -> None:
        expected = self._database.settings.expected
        check = role_check(standing, expected, spent)
        self.checks.append(check)
        if check.status == "unhealthy":
            self.cause = ROLE_CAUSES[expected]
        self.checks.append(_lag(standing))

    def _fail(self, layer: LayerName, began: float | None, error: KataxError) -> None:
        spent = None if began is None else ms_since(began)
        self.checks.append(Check(layer, "unhealthy", spent, str(error)))
        self.cause = likely_cause(
            layer, _kind(self._database, error), is_file=self._database.settings.path is not None
        )
        self.error = error

    def result(self, rooms: tuple[Headroom, ...], recommendations: tuple[str, ...]) -> ConnectionHealth:
        seen = {check.name for check in self.checks}
        checks = (*self.checks, *(Check(name, "skipped") for name in LAYERS if name not in seen))
        spent = {check.name: check.latency_ms for check in checks}
        bad = [check for check in checks if check.status == "unhealthy"]
        status = worst(check.status for check in checks if check.status != "skipped")
        return ConnectionHealth(
            status,
            spent["read"],
            spent["auth"],
            checks,
            self._database.pool_stats(),
            self.server,
            tuple(check.message or check.name for check in bad),
            Depth(
                bad[0].name if bad else None, self.cause if bad else None, self._days, rooms, recommendations
            ),
        )


def _lag(standing: ServerStanding) -> Check:
    if standing.role in ("primary", "file", "memory"):
        return Check("lag", "skipped", None, "it replicates from no other server")
    if standing.lag_seconds is None:
        return Check("lag", "skipped", None, standing.why)
    behind = f"{standing.lag_seconds:.1f} s behind"
    return Check("lag", "degraded" if standing.lag_seconds > LAGGING_SECONDS else "healthy", None, behind)


def _kind(database: Database, error: KataxError) -> FailureKind:
    """The kind of the driver's error which ours was raised from."""
    if isinstance(error, AuthenticationFailed):
        return FailureKind.AUTHENTICATION
    cause = error.__cause__
    return FailureKind.UNKNOWN if cause is None else database.engine.classify(cause).kind


def deep_prober(profile: Profile) -> Callable[[Database], DeepProbe]:
    """Makes the probes of a verbose check of a profile's connections."""

    def make(database: Database) -> DeepProbe:
        pool_max = profile.connection(database.name).pool.max
        return DeepProbe(database, profile.health, pool_max=pool_max)

    return make
