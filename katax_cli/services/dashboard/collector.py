"""Collects the dashboard's data: each call asks every source anew and by itself, and none waits for another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from threading import Lock
from typing import TypeVar

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.engine_names import SERVER_ENGINES
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.services.backup.age import backup_checker
from katax_cli.services.dashboard.activity_rows import share
from katax_cli.services.dashboard.event_log import (
    of_decisions,
    of_health,
    of_processes,
    of_runs,
    of_transitions,
)
from katax_cli.services.dashboard.jobs_source import JobsWatch
from katax_cli.services.dashboard.sources import LATE_SECONDS, ConnectionWatch, Source
from katax_cli.services.dashboard.state_source import StateReading, StateWatch
from katax_cli.services.databases.database import Database
from katax_cli.services.health.deep_probe import deep_prober
from katax_cli.services.health.probe import GRACE, PROBE_SECONDS, judged, overall, with_check
from katax_cli.services.runtime.decisions import HostCopy
from katax_cli.services.runtime.runtime import Runtime
from katax_cli.services.state.circuits import rows_of
from katax_cli.snapshot import (
    Circuit,
    ConnectionHealth,
    Happening,
    HealthReport,
    HealthStatus,
    JobRun,
    JobStatus,
    Part,
    Process,
    RunningSession,
    Snapshot,
    Traffic,
)

DAEMON = "cron run-daemon"
"""As what a cron daemon reports."""
_LINES = 200
_AFTER_REPORT = "a program does after Katax().report('name')"
_NO_JOBS = "no jobs are defined; add one: katax cron add"
_NO_DAEMON = f"no daemon runs; start one: katax {DAEMON}"
_NO_SESSIONS = f"no connection is to a server with sessions; {', '.join(SERVER_ENGINES)} have them"
_NO_SOCKETS = "no Socket.IO server reports; start one: katax ws serve"

R = TypeVar("R")
_processes, _pools, _slow, _sockets = map(attrgetter, ("processes", "pools", "slow", "sockets"))


class Collector:
    """Collects the state of a profile's services, anew at each call; one that hangs delays no other.

    `runtime` is a probing one, `seconds` the time of one probe. Nothing is asked between calls.
    """

    def __init__(
        self,
        runtime: Runtime,
        databases: Sequence[Database],
        *,
        patience: float = 0.25,
        seconds: float = PROBE_SECONDS,
        clock: Clock = SYSTEM,
    ) -> None:
        self.longest = seconds + 2 * GRACE
        """Seconds after which every probe has said what it found, or that it waits."""
        self._profile = profile = runtime.profile
        self._patience = patience
        self._clock = clock
        self._copy = HostCopy(profile.home, profile.name, clock)
        self._backup = backup_checker(profile, clock)
        self._lock = Lock()
        deep = deep_prober(profile)
        shown = share(sum(database.settings.type in SERVER_ENGINES for database in databases))
        self._watches = {
            database.name: ConnectionWatch(
                database, profile.health, deep(database), seconds=seconds, clock=clock, shown=shown
            )
            for database in databases
        }
        self._state, self._jobs = StateWatch(profile, clock=clock), JobsWatch(profile, clock=clock)
        self._probes = {
            name: Source(f"katax-probe-{name}", watch.look, clock=clock)
            for name, watch in self._watches.items()
        }
        self._asked = {
            "state": Source("katax-state", self._state.look, clock=clock, cleanup=self._state.close),
            "jobs": Source("katax-jobs", self._jobs.look, clock=clock, cleanup=self._jobs.close),
        }
        self._statuses: dict[str, HealthStatus] = {}
        self._processes: tuple[Process, ...] | None = None
        self._happened: deque[Happening] = deque(maxlen=_LINES)

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources that are asked."""
        return (*self._probes.values(), *self._asked.values())

    def __call__(self, *, patience: float | None = None, whole: bool = False) -> Snapshot:
        """The state after `patience` seconds, or earlier when all have answered. Raises nothing.

        `whole`: when all rounds are over, which also ask servers for their sessions and their load.
        """
        for source in self.sources:
            source.begin()
        waiting = Deadline(self._patience if patience is None else patience)
        silent = {name: source.silence(waiting.remaining()) for name, source in self._probes.items()}
        troubles = {name: _trouble(source, waiting.remaining()) for name, source in self._asked.items()}
        for source in self.sources if whole else ():
            source.wait(waiting.remaining())
        with self._lock:
            return self._snapshot(silent, troubles)

    def close(self) -> None:
        """Stops asking. A source that hangs is left behind and closes its own part when it returns."""
        for source in self.sources:
            source.close()

    def _snapshot(self, silent: Mapping[str, float | None], troubles: Mapping[str, str | None]) -> Snapshot:
        now = self._clock.now()
        reading, trouble = self._state.reading, troubles["state"]
        health = self._health(silent, now)
        jobs, runs = self._cron(reading, trouble or troubles["jobs"])
        self._notice(health, reading)
        return Snapshot(
            taken_at=now,
            role=self._profile.role,
            health=health,
            watched={name: watch.watched(silent[name]) for name, watch in self._watches.items()},
            processes=self._reported(reading, _processes, trouble, f"no process reports; {_AFTER_REPORT}"),
            pools=self._reported(reading, _pools, trouble, f"no process reports its pools; {_AFTER_REPORT}"),
            circuits=self._circuits(reading, trouble, now),
            traffic=self._traffic(reading, trouble),
            slow=self._reported(reading, _slow, trouble, _no_slow(reading)),
            jobs=jobs,
            runs=runs,
            sockets=self._reported(reading, _sockets, trouble, _NO_SOCKETS),
            activity=self._activity(now),
            log=self._log(reading, runs, trouble),
        )

    def _health(self, silent: Mapping[str, float | None], now: float) -> HealthReport:
        found: dict[str, ConnectionHealth] = {}
        for name, watch in self._watches.items():
            seen = watch.health(silent[name])
            if seen is not None:
                found[name] = judged(with_check(seen, self._backup(name)), self._copy.refusal(name))
        status = overall(found.values())
        moment = datetime.fromtimestamp(now).astimezone()
        return HealthReport(status, moment, self._profile.name, found)

    @property
    def _database(self) -> str:
        return f"state database {self._profile.state.connection.name!r}"

    def _reported(
        self,
        reading: StateReading | None,
        rows: Callable[[StateReading], tuple[R, ...]],
        trouble: str | None,
        empty: str,
    ) -> Part[R]:
        if reading is None:
            return Part((), self._database, None, trouble)
        return _part(rows(reading), self._database, reading.at, trouble, empty)

    def _circuits(self, reading: StateReading | None, trouble: str | None, now: float) -> Part[Circuit]:
        if reading is not None:
            return _part(reading.circuits, self._database, reading.at, trouble, "no connections")
        rows = rows_of(self._profile.connections, self._copy.decisions(), (), (), now=now)
        return _part(tuple(rows), "this host's copy of the decisions", now, trouble, "no connections")

    def _traffic(self, reading: StateReading | None, trouble: str | None) -> Part[Traffic]:
        counted = [watch.traffic for watch in self._watches.values()]
        rows = (*(row for row in counted if row is not None), *(reading.traffic if reading else ()))
        heard = [row.seen_at for row in rows] + ([reading.at] if reading else [])
        empty = f"no server counts its calls and no process reports; {_AFTER_REPORT}"
        return _part(rows, f"servers, {self._database}", max(heard, default=None), trouble, empty)

    def _activity(self, now: float) -> Part[RunningSession]:
        watches = [watch for watch in self._watches.values() if watch.lists_sessions]
        if not watches:
            return Part((), "servers", now, _NO_SESSIONS)
        rows = tuple(row for watch in watches for row in watch.sessions)
        listed = [watch.listed_at for watch in watches if watch.listed_at is not None]
        empty = "no other sessions" if listed else "no server has told of its sessions yet"
        return _part(rows, "servers", max(listed, default=None), None, empty)

    def _cron(
        self, reading: StateReading | None, trouble: str | None
    ) -> tuple[Part[JobStatus], Part[JobRun]]:
        jobs, history = self._jobs.jobs, self._jobs.history
        if jobs is None or history is None:
            known = Part(jobs.rows if jobs else (), f"profile, {self._database}", jobs and jobs.at, trouble)
            return known, Part((), self._database, None, trouble)
        living = reading is not None and any(process.kind == DAEMON for process in reading.processes)
        idle = _NO_DAEMON if jobs.rows and not living else None
        never = idle or ("no job ran yet" if jobs.rows else _NO_JOBS)
        # Without a daemon nothing will be as the jobs say; what ran stays true.
        return (
            _part(jobs.rows, f"profile, {self._database}", jobs.at, trouble or jobs.notes or idle, _NO_JOBS),
            _part(history.rows, self._database, history.at, trouble, never),
        )

    def _notice(self, health: HealthReport, reading: StateReading | None) -> None:
        """Logs the changes since the last call."""
        at = health.timestamp.timestamp()
        for name, seen in health.connections.items():
            before = self._statuses.get(name, seen.status)
            if before != seen.status:
                self._happened.append(of_health(name, before, seen, at))
            self._statuses[name] = seen.status
        if reading is not None:
            if self._processes is not None:
                self._happened.extend(of_processes(self._processes, reading.processes, reading.at))
            self._processes = reading.processes

    def _log(self, reading: StateReading | None, runs: Part[JobRun], trouble: str | None) -> Part[Happening]:
        lines = [*self._happened, *of_runs(runs.rows)]
        if reading is not None:
            lines += [*of_transitions(reading.transitions), *of_decisions(reading.decisions)]
        lines.sort(key=lambda line: line.happened_at)
        at = None if reading is None else reading.at
        return _part(
            tuple(lines[-_LINES:]), f"this process, {self._database}", at, trouble, "nothing happened yet"
        )


def _part(
    rows: tuple[R, ...], source: str, seen_at: float | None, trouble: str | None, empty: str
) -> Part[R]:
    return Part(rows, source, seen_at, trouble or (None if rows else empty))


def _no_slow(reading: StateReading | None) -> str:
    if reading is None or not reading.traffic:
        return f"no process reports slow calls; {_AFTER_REPORT}"
    return "no slow call yet"


def _trouble(source: Source, seconds: float) -> str | None:
    """The reason for old data from a source."""
    silence = source.silence(seconds)
    if silence is not None and (silence >= LATE_SECONDS or not source.answered):
        return f"no answer for {silence:.1f} s; it is still waited for"
    return source.trouble
