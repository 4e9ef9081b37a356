"""Sources of what a dashboard shows: each is asked in threads of its own, and left alone while it hangs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import NamedTuple

from katax_cli.core.clock import Clock
from katax_cli.core.engine_names import SERVER_ENGINES
from katax_cli.core.measure.health import HealthPolicy
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.engines.activity import ActivityList
from katax_cli.errors import KataxError
from katax_cli.services.dashboard.activity_rows import SHOWN, activity_rows
from katax_cli.services.databases.database import Database
from katax_cli.services.health.deep_probe import DeepProbe
from katax_cli.services.health.probe import GRACE, broken, probe, unseen
from katax_cli.services.inspect.activity import activity
from katax_cli.services.state.call_report import EventRate
from katax_cli.snapshot import ConnectionHealth, RunningSession, Traffic, Watched

PINGS = 120
LATE_SECONDS = 1.0
"""An answer that is waited for as long as this is late."""
_DEEP_SHARE = 0.2
"""A look at each layer needs so much of a probe's time, or it blames the layer at which its time was over."""
_END_SECONDS = 1.0
_KNOWN_SECONDS = 60.0
"""How long what server it is stays known without being asked again."""
LOGIN_EVERY = 30.0
"""A login that was refused is tried again so late: a server may lock an account that fails every second."""
_LOAD_SECONDS = 2.0
"""A server has so long to say how busy it is, or who is: it is not pinged meanwhile."""
_LOAD_EVERY = 5.0
_SESSIONS_EVERY = 1.0
_LOAD_SHARE = 20.0
"""How much longer than it took the next question about a server's load or sessions waits."""

Answered = Callable[[], None]


class Source:
    """Runs `work(answered)` in a daemon thread called `name`, once for each `begin`, never twice at a time.

    `close` ends that; `cleanup` runs once, when no work is under way any more. `trouble`: what the last
    work raised; `answered`: whether any has ended; `busy`: while one runs. The thread stays between rounds,
    for to start one costs as much as a round trip to a server.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Answered], None],
        *,
        clock: Clock,
        cleanup: Callable[[], None] = lambda: None,
    ) -> None:
        self.trouble: str | None = None
        self.answered = False
        self._name = name
        self._work = work
        self._cleanup = cleanup
        self._clock = clock
        self._lock = Lock()
        self.busy = self._closed = False
        self._began = 0.0
        self._answered, self._ended = Event(), Event()
        self._answered.set()
        self._ended.set()
        self._wanted: SimpleQueue[Event | None] = SimpleQueue()
        self._thread: Thread | None = None

    def begin(self) -> None:
        """Starts a round unless one is under way."""
        with self._lock:
            if self.busy or self._closed:
                return
            self.busy, self._began, self._answered = True, self._clock.monotonic(), Event()
            self._ended.clear()
            self._wanted.put(self._answered)
            if self._thread is None:
                self._thread = Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def silence(self, seconds: float) -> float | None:
        """Waits up to `seconds` for an answer; None when there is one, else since when it is waited for."""
        if self._answered.wait(seconds):
            return None
        return self._clock.monotonic() - self._began

    def wait(self, seconds: float) -> None:
        """Waits up to `seconds` for the end of the round, which may do more than to answer."""
        self._ended.wait(seconds)

    def close(self) -> None:
        """No more rounds; does not wait for the one under way."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._wanted.put(None)
        if self._thread is None:
            self._cleanup()
        elif not self.busy:
            self._thread.join(_END_SECONDS)

    def _run(self) -> None:
        while (answered := self._wanted.get()) is not None:
            self._round(answered)
        self._cleanup()

    def _round(self, answered: Event) -> None:
        try:
            self._work(answered.set)
            self.trouble = None
        except Exception as error:  # noqa: BLE001 - the worker's boundary: it is shown where the answer is missing
            self.trouble = (
                str(error)
                if isinstance(error, KataxError)
                else f"internal error: {type(error).__name__}: {error}"
            )
        self.answered = True
        with self._lock:
            self.busy = False
            self._ended.set()
        answered.set()


class ProbeResult(NamedTuple):
    """A probe's result, and when it came."""

    health: ConnectionHealth
    at: float


class ConnectionWatch:
    """One connection: a ping in each round, every layer while it is unhealthy, its server's sessions and counters."""

    def __init__(
        self,
        database: Database,
        policy: HealthPolicy,
        deep: DeepProbe,
        *,
        seconds: float,
        clock: Clock,
        shown: int = SHOWN,
    ) -> None:
        self.seen: ProbeResult | None = None
        self.traffic: Traffic | None = None
        self.sessions: tuple[RunningSession, ...] = ()
        self.listed_at: float | None = None
        self.lists_sessions = database.settings.type in SERVER_ENGINES
        self._database = database
        self._policy = policy
        self._deep = deep
        self._seconds = seconds
        self._clock = clock
        self._shown = shown
        self._latencies: tuple[float | None, ...] = ()
        self._known: Mapping[str, object] | None = None
        self._known_until = clock.monotonic()
        self._pace = EventRate()
        self._trail: tuple[float, ...] = ()
        self._load_due = self._login_due = self._sessions_due = clock.monotonic()

    def look(self, answered: Answered) -> None:
        """One round; `answered` once the health is known, for a server may take long to say how busy it is."""
        if self._clock.monotonic() < self._login_due:
            answered()
            return
        deadline = Deadline(self._seconds, clock=self._clock)
        try:
            health = self._probe(deadline)
        except Exception as error:  # noqa: BLE001 - a defect of the probe is shown as what it is
            health = broken(self._database, error)
        self._latencies = (*self._latencies, health.latency_ms)[-PINGS:]
        self.seen = ProbeResult(health, self._clock.now())
        if health.status == "unhealthy" and self._deep.refused:
            self._login_due = self._clock.monotonic() + LOGIN_EVERY
        answered()
        if health.status == "unhealthy":
            self.traffic, self.sessions = None, ()
            return
        if self.lists_sessions and self._clock.monotonic() >= self._sessions_due:
            self._ask_sessions(deadline)
        if self._clock.monotonic() >= self._load_due:
            self._ask_load(deadline)

    def watched(self, silence: float | None) -> Watched:
        """The observation of the connection; `silence`: seconds for which its answer has been awaited."""
        at = None if self.seen is None else self.seen.at
        late = silence is not None and (silence >= LATE_SECONDS or at is None)
        return Watched(at, self._latencies, _waiting(silence) if late and silence is not None else None)

    def health(self, silence: float | None) -> ConnectionHealth | None:
        """The known health of the connection; None before its first answer."""
        if silence is not None and silence >= self._seconds + GRACE:
            return unseen(self._database, _waiting(silence))
        return None if self.seen is None else self.seen.health

    def _probe(self, deadline: Deadline) -> ConnectionHealth:
        if self.seen is not None and self.seen.health.status == "unhealthy":
            return self._deep(deadline)
        if self._clock.monotonic() >= self._known_until:
            self._known, self._known_until = None, self._clock.monotonic() + _KNOWN_SECONDS
        health = probe(self._database, self._policy, deadline, known=self._known, clock=self._clock)
        self._known = health.server
        if health.status == "unhealthy" and deadline.remaining() >= _DEEP_SHARE * self._seconds:
            return self._deep(deadline)
        return health

    def _ask_sessions(self, deadline: Deadline) -> None:
        began, name = self._clock.monotonic(), self._database.name
        try:
            listed = activity(self._database, timeout=deadline.within(_LOAD_SECONDS))
            self.sessions = activity_rows(name, listed, self._clock.now(), shown=self._shown)
        except KataxError as error:
            self.sessions = activity_rows(name, ActivityList((), None, (str(error),)), self._clock.now())
        finally:
            self.listed_at, now = self._clock.now(), self._clock.monotonic()
            self._sessions_due = now + max(_SESSIONS_EVERY, _LOAD_SHARE * (now - began))

    def _ask_load(self, deadline: Deadline) -> None:
        began = self._clock.monotonic()
        try:
            self.traffic = self._traffic(self._database.metrics(timeout=deadline.within(_LOAD_SECONDS)))
        except KataxError:
            self.traffic = None
        finally:
            now = self._clock.monotonic()
            self._load_due = now + max(_LOAD_EVERY, _LOAD_SHARE * (now - began))

    def _traffic(self, metrics: Mapping[str, object]) -> Traffic | None:
        total = _calls(metrics)
        if total is None:
            return None
        pace = self._pace.of(self._database.name, total, self._clock.monotonic())
        if pace is not None:
            self._trail = (*self._trail, pace)[-PINGS:]
        return Traffic(self._database.name, "server", pace, None, None, None, self._trail, self._clock.now())


def _calls(metrics: Mapping[str, object]) -> int | None:
    """The number of calls that the server has counted; None where it does not count."""
    ops, queries = metrics.get("ops"), metrics.get("queries")
    if isinstance(ops, Mapping):
        return sum(ops.values())
    count = queries.get("count") if isinstance(queries, Mapping) else None
    return count if isinstance(count, int) else None


def _waiting(seconds: float) -> str:
    return f"no answer for {seconds:.1f} s; the probe still waits"
