"""`health serve`: checks again and again in one thread, and answers at once from what it found last.

/live     the process answers: no I/O, no lock, never about a server
/startup  the first round of checks has ended, whatever it found
/ready    the last round is young and found nothing unhealthy; false first of all when the process is to end
/metrics  the same round in OpenMetrics, and the reports in the state database
"""

from __future__ import annotations

from collections.abc import Mapping
from logging import getLogger
from threading import Event, Thread

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.measure.openmetrics import CONTENT_TYPE, exposition
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.text.text import to_json
from katax_cli.errors import KataxError
from katax_cli.profiles.model.model import Profile
from katax_cli.services.backup.age import backup_checker
from katax_cli.services.databases.database import Database
from katax_cli.services.health.deep_probe import deep_prober
from katax_cli.services.health.metrics import families
from katax_cli.services.health.probe import HealthChecker, Prober
from katax_cli.services.health.rounds import Round, others
from katax_cli.services.http import JSON, TEXT, Response, Routes
from katax_cli.services.runtime.decisions import HostCopy
from katax_cli.services.state.reporter import Reporter
from katax_cli.snapshot import ConnectionHealth

LINGER_SECONDS = 2.0
"""Seconds for which /ready fails before anything else ends, so that load balancers notice."""
_STALE_ROUNDS = 3.0
_JITTER = 0.1
_STOP_SECONDS = 1.0

_log = getLogger("katax.health")


class HealthService:
    """Watches the `databases` of a probing runtime; `seconds` is the time of one round of checks."""

    def __init__(
        self,
        profile: Profile,
        databases: list[Database],
        *,
        seconds: float,
        reporter: Reporter | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.profile = profile
        self._seconds = seconds
        self._reporter = reporter
        self._clock = clock
        self._loads: dict[str, Mapping[str, object]] = {}
        self._deep = deep_prober(profile)
        self._checker = HealthChecker(
            profile.name,
            databases,
            policy=profile.health,
            steady=True,
            prober=self._prober,
            tripped=HostCopy(profile.home, profile.name, clock).refusal,
            backup=backup_checker(profile, clock),
            clock=clock,
        )
        self._last: Round | None = None
        self._draining = False
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="katax-health-serve", daemon=True)

    def start(self) -> None:
        """The first round begins at once, the others as often as the profile says."""
        self._thread.start()

    def drain(self) -> None:
        """From now on /ready fails; nothing else changes."""
        self._draining = True

    def stop(self) -> None:
        """Begins no more rounds; one under way is left behind after a second."""
        self._stopping.set()
        self._thread.join(_STOP_SECONDS)

    def routes(self) -> Routes:
        """The answers by path, each given at once."""
        return {
            "/live": lambda: Response(200, TEXT, "live\n"),
            "/ready": self._ready,
            "/startup": self._startup,
            "/metrics": self._metrics,
        }

    def unready(self) -> str | None:
        """The reason why no work should be sent here; None when it should."""
        last = self._last
        if self._draining:
            return "the process is about to end"
        if last is None:
            return "the first checks are under way"
        age = self._age(last)
        if age > _STALE_ROUNDS * self.profile.health.interval + self._seconds:
            return f"the last checks ended {age:.0f} s ago; the next ones hang"
        bad = [
            name
            for name, one in last.report.connections.items()
            if one.status == "unhealthy" and one.maintenance is None
        ]
        return f"unhealthy: {', '.join(bad)}" if bad else None

    def check(self) -> Round:
        """One round now, on this thread."""
        report = self._checker.check(seconds=self._seconds)
        if self._reporter is not None:
            self._reporter.checked(report)
        well = {name for name, one in report.connections.items() if one.status != "unhealthy"}
        loads = {name: load for name, load in self._loads.copy().items() if name in well}
        number = 1 if self._last is None else self._last.number + 1
        self._last = Round(number, self._clock.monotonic(), report, loads, others(self.profile, self._clock))
        return self._last

    def _run(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            try:
                self.check()
            except Exception as error:  # noqa: BLE001 - the worker's boundary: without it nothing is checked any more
                _log.error("a round of checks failed: %s: %s", type(error).__name__, error)
            # Not in step with others that were started at the same moment.
            pause = self.profile.health.interval * (1 - _JITTER * self._clock.random())

    def _prober(self, database: Database) -> Prober:
        """Every layer, and then, on the same connection, how much the server has to do."""
        deep = self._deep(database)

        def look(deadline: Deadline) -> ConnectionHealth:
            health = deep(deadline)
            if health.status != "unhealthy":
                self._load(database, deadline)
            return health

        return look

    def _load(self, database: Database, deadline: Deadline) -> None:
        try:
            self._loads[database.name] = database.metrics(timeout=deadline.within(None))
        except KataxError:
            self._loads.pop(database.name, None)

    def _age(self, last: Round) -> float:
        return self._clock.monotonic() - last.ended

    def _ready(self) -> Response:
        why, last = self.unready(), self._last
        facts = {
            "ready": why is None,
            "reason": why,
            "status": last.report.status if last else None,
            "age_seconds": round(self._age(last), 3) if last else None,
            "connections": {name: one.status for name, one in last.report.connections.items()}
            if last
            else {},
        }
        return Response(200 if why is None else 503, JSON, to_json(facts) + "\n")

    def _startup(self) -> Response:
        if self._last is None:
            return Response(503, TEXT, "the first checks are under way\n")
        return Response(200, TEXT, "started\n")

    def _metrics(self) -> Response:
        last = self._last
        age = None if last is None else self._age(last)
        ready = self.unready() is None
        return Response(
            200, CONTENT_TYPE, exposition(families(self.profile.name, last, age=age, ready=ready))
        )
