"""A long-lived process in the shared state: it follows operators' decisions and reports itself.

One daemon thread. Whatever happens to the state database, the process's own calls never notice: it is logged
once, the host's copy of the decisions is followed meanwhile, and what was not written is kept within limits.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from logging import getLogger
from threading import Event, Lock, Thread, current_thread

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.forks import follow
from katax_cli.core.resilience.breaker import CallBreaker
from katax_cli.errors import KataxError
from katax_cli.profiles.model.model import Profile
from katax_cli.profiles.sources.home import ensure_home
from katax_cli.services.databases.database import Database
from katax_cli.services.runtime.decisions import HostCopy, OperatorDecision
from katax_cli.services.runtime.runtime import Runtime
from katax_cli.services.state.call_report import CallWatch
from katax_cli.services.state.circuits import known
from katax_cli.services.state.store import (
    Breaker,
    HealthRecord,
    PoolSample,
    StateStore,
    Transition,
    content_of,
)
from katax_cli.snapshot import BreakerState, HealthReport, Process

FOLLOW_EVERY = 1.0
"""Seconds until a decision is followed."""
REPORT_EVERY = 5.0
PRUNE_EVERY = 3600.0
_KEPT_UNWRITTEN = 1000
STOP_SECONDS = 3.0
_MICROSECOND = 1e-6
_LONGEST_PART = 60_000
"""Longest report in characters, below the smallest TEXT of an engine."""

Tell = Callable[[], Sequence[Mapping[str, object]]]
"""The present state of a part of the process: rows as JSON has them."""

_log = getLogger("katax.state")


def report(runtime: Runtime, kind: str) -> Reporter:
    """Takes part in the shared state until the runtime closes: follows what operators decide, and reports as `kind`.

    For a process that lives on; the same reporter every time. Returns at once, and whatever is wrong with the
    state database harms no caller.
    """

    def begin(databases: Mapping[str, Database]) -> Reporter:
        reporter = Reporter(runtime.profile, kind, lambda: databases)
        reporter.start()
        return reporter

    return runtime.accompanied(begin)


class Reporter:
    """Follows and reports for the `databases()` of one process, under the name `kind`, from `start` to `close`."""

    def __init__(
        self,
        profile: Profile,
        kind: str,
        databases: Callable[[], Mapping[str, Database]],
        *,
        clock: Clock = SYSTEM,
    ) -> None:
        now = clock.now()
        self.process = Process(secrets.token_hex(16), kind, socket.gethostname(), os.getpid(), now, now)
        self._profile = profile
        self._databases = databases
        self._clock = clock
        self._store = StateStore(profile, clock=clock)
        self._applied: dict[str, tuple[str, CallBreaker]] = {}
        self._transitions: deque[Transition] = deque(maxlen=_KEPT_UNWRITTEN)
        self._health: deque[HealthRecord] = deque(maxlen=_KEPT_UNWRITTEN)
        self._report_at = self._prune_at = clock.monotonic()
        self._ordering = Lock()
        self._last_change = 0.0
        self._copy = HostCopy(profile.home, profile.name)
        self._copied: list[OperatorDecision] | None = None
        self._trouble: str | None = None
        self._calls = CallWatch(clock=clock)
        self._told: dict[str, Tell] = {}
        self._untold: set[str] = set()
        self._stopping = Event()
        self._thread: Thread | None = None
        self._parents: list[StateStore] = []
        follow(self)

    def after_fork(self) -> None:
        """The child reports as a process of its own; the parent's store is kept, so that nothing closes its file."""
        ran = self._thread is not None and not self._stopping.is_set()
        now = self._clock.now()
        self.process = self.process._replace(
            id=secrets.token_hex(16), pid=os.getpid(), started_at=now, seen_at=now
        )
        self._parents.append(self._store)
        self._store = StateStore(self._profile, clock=self._clock)
        self._ordering, self._stopping, self._thread = Lock(), Event(), None
        self._transitions.clear()
        self._health.clear()
        self._report_at = self._clock.monotonic()
        if ran:
            self.start()

    def start(self) -> None:
        """Begins; nothing when it runs already."""
        if self._thread is None:
            name = f"katax-state-{self._profile.name}"
            self._thread = Thread(target=self._run, name=name, daemon=True)
            self._thread.start()

    def close(self, timeout: float = STOP_SECONDS) -> None:
        """Writes what is left and forgets the process; waits `timeout` seconds at the most, and never long."""
        self._stopping.set()
        if self._thread is None:
            self._leave()
        elif self._thread is not current_thread():
            self._thread.join(min(timeout, STOP_SECONDS))

    def tell(self, part: str, read: Tell) -> None:
        """Adds what `read()` returns to each report; it is called by the reporter's thread and may fail."""
        self._told[part] = read

    def changed(self, connection: str, new: BreakerState, old: BreakerState) -> None:
        """A breaker changed its state; never blocks."""
        with self._ordering:
            # Two changes at one moment of the clock are two.
            self._last_change = max(self._clock.now(), self._last_change + _MICROSECOND)
            self._transitions.append(Transition(self._last_change, connection, old, new))
        self._report_at = self._clock.monotonic()

    def checked(self, report: HealthReport) -> None:
        """A health check has ended; never blocks."""
        at = report.timestamp.timestamp()
        for name, seen in report.connections.items():
            message = "; ".join(seen.errors) or None
            self.record(HealthRecord(at, name, seen.status, seen.latency_ms, seen.connect_ms, message))

    def record(self, seen: HealthRecord) -> None:
        """One connection was checked; never blocks."""
        self._health.append(seen)

    def tick(self) -> None:
        """One round: follow what is decided, report when it is time. Never raises."""
        self._calls.follow(self._opened())
        self._follow(self._decisions())
        now = self._clock.monotonic()
        if now >= self._report_at or self._health:
            self._attempt(self._report)
            self._report_at = now + REPORT_EVERY
        if now >= self._prune_at:
            self._attempt(self._store.prune)
            self._prune_at = now + PRUNE_EVERY

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.tick()
            self._stopping.wait(FOLLOW_EVERY)
        self._leave()

    def _leave(self) -> None:
        self._calls.close()
        self._attempt(self._report)
        self._attempt(lambda: self._store.leave(self.process))
        self._store.close()

    def _decisions(self) -> Mapping[str, OperatorDecision]:
        decisions: dict[str, OperatorDecision] = {}

        def ask() -> None:
            decisions.update(known(self._store))
            self._refresh_copy(list(decisions.values()))

        if self._attempt(ask):
            return decisions
        return self._copy.decisions()

    def _refresh_copy(self, decisions: list[OperatorDecision]) -> None:
        """The decisions that other hosts took reach this host's commands."""
        if decisions == self._copied or (self._copied is None and not decisions):
            return
        ensure_home(self._profile.home)
        with self._copy.locked():
            decisions = list(known(self._store).values())
            self._copy.write(decisions)
        self._copied = decisions

    def _follow(self, decisions: Mapping[str, OperatorDecision]) -> None:
        """Applies each decision once to each breaker, those of databases opened later too."""
        for name, breaker in self._breakers():
            decision = decisions.get(name.partition("/")[0])
            if decision is None or self._applied.get(name) == (decision.id, breaker):
                continue
            self._apply(decision, breaker, is_first=name not in self._applied)
            self._applied[name] = (decision.id, breaker)

    def _apply(self, decision: OperatorDecision, breaker: CallBreaker, *, is_first: bool) -> None:
        now = self._clock.now()
        if decision.keeps_off(now):
            seconds = None if decision.ends_at is None else decision.ends_at - now
            breaker.force_open(seconds, decision.sentence)
        elif decision.action == "disable":
            breaker.disable(decision.reason)
        elif decision.action == "reset" and (not is_first or decision.decided_at >= self.process.started_at):
            breaker.reset()

    def _opened(self) -> dict[str, Database]:
        return dict(self._databases())

    def _breakers(self) -> Iterator[tuple[str, CallBreaker]]:
        for name, database in self._opened().items():
            if database.guard.breaker is not None:
                yield name, database.guard.breaker

    def _report(self) -> None:
        now = self._clock.now()
        transitions, health = list(self._transitions), list(self._health)
        process = self.process._replace(seen_at=now)
        self._store.report(
            process,
            breakers=[self._reported(name, breaker) for name, breaker in self._breakers()],
            transitions=transitions,
            samples=[self._sample(now, name, database) for name, database in self._opened().items()],
            health=health,
            parts=self._parts(),
        )
        for kept, written in ((self._transitions, transitions), (self._health, health)):
            for _ in written:
                kept.popleft()

    def _parts(self) -> dict[str, Sequence[Mapping[str, object]]]:
        """The parts of the report; a part that cannot be read is left out, and logged once."""
        reads: dict[str, Tell] = {
            "traffic": lambda: self._calls.traffic(self._opened()),
            "slow": self._calls.slow,
            **self._told,
        }
        parts = {part: self._read(part, read) for part, read in reads.items()}
        return {part: rows for part, rows in parts.items() if rows}

    def _read(self, part: str, read: Tell) -> Sequence[Mapping[str, object]]:
        try:
            rows = read()
            if len(content_of(rows)) > _LONGEST_PART:
                raise ValueError(f"it is longer than {_LONGEST_PART} characters")
        except Exception as error:  # noqa: BLE001 - foreign code: what one part says is not worth the others
            if part not in self._untold:
                self._untold.add(part)
                _log.warning("%r is not reported: %s: %s", part, type(error).__name__, error)
            return []
        return rows

    def _sample(self, now: float, name: str, database: Database) -> PoolSample:
        pool = database.pool_stats()
        return PoolSample(
            now, name, pool.max, pool.total, pool.active, pool.idle, pool.waiting, self.process.id
        )

    def _reported(self, name: str, breaker: CallBreaker) -> Breaker:
        seen = breaker.get_state()
        return Breaker(
            self.process.id,
            name,
            seen.state,
            seen.failures,
            seen.last_failure_at,
            seen.next_probe_at,
            seen.reason,
        )

    def _attempt(self, work: Callable[[], object]) -> bool:
        """True when it succeeded. Trouble is logged when it begins and when it is over, not every second."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the worker's boundary: state is never worth a process
            trouble = (
                str(error) if isinstance(error, KataxError | OSError) else f"{type(error).__name__}: {error}"
            )
            if self._trouble is None:
                _log.warning(
                    "the state database cannot be used: %s; this process goes on without it", trouble
                )
            self._trouble = trouble
            return False
        if self._trouble is not None:
            _log.info("the state database can be used again")
        self._trouble = None
        return True
