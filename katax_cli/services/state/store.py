"""The state database: what operators decided and what long-lived processes know, for others to read.

Written through katax's own SQL engines, SQLite in `.katax/` unless the profile says otherwise. It is never
needed: whoever writes to it from beside a data path (`services.reporting`) survives its absence.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any, Self, TypeVar

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.profiles.model.model import Profile
from katax_cli.services.calls.observer import QueryLogging
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.databases.statements import Queries
from katax_cli.services.runtime.decisions import OperatorDecision, newest
from katax_cli.services.runtime.runtime import Runtime
from katax_cli.services.state.versions import KEPT, bring_up_to_date
from katax_cli.snapshot import BreakerState, HealthStatus, Process

SECONDS = 2.0
"""Longest time of one call on the state database."""
ALIVE_SECONDS = 30.0
"""A process that said nothing for so long is taken for dead."""
_DAY = 86400.0

FileId = tuple[int, int]
"""A file, whatever it is called: its device and its inode."""

_OF_PROCESSES = ("katax_breakers", "katax_reports")
"""Tables whose rows go with their process."""
_KEPT_DECISIONS = 90 * _DAY
_DECISION = "id, connection, action, decided_at, ends_at, reason, decided_by"

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Breaker:
    """A breaker as its process last reported it."""

    process: str
    connection: str
    state: BreakerState
    failures: int
    last_failure_at: float | None
    next_probe_at: float | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Transition:
    """A breaker's change."""

    happened_at: float
    connection: str
    old: BreakerState
    new: BreakerState


@dataclass(frozen=True, slots=True)
class PoolSample:
    """A pool of one process at one moment."""

    happened_at: float
    connection: str
    max: int
    total: int
    active: int
    idle: int
    waiting: int
    process: str


@dataclass(frozen=True, slots=True)
class Report:
    """A process's report on a part of itself: objects as JSON has them."""

    process: str
    part: str
    reported_at: float
    rows: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class HealthRecord:
    """One connection in one health check."""

    happened_at: float
    connection: str
    status: HealthStatus
    latency_ms: float | None
    connect_ms: float | None
    message: str | None


class StateStore:
    """The state database as one profile sees it; opened when first used, made when first written to.

    Every call takes `SECONDS` at the most and may raise KataxError.
    """

    def __init__(self, profile: Profile, *, clock: Clock = SYSTEM) -> None:
        self.profile = profile
        self._clock = clock
        # Probing: one connection, one attempt, no breaker. What is decided about a connection binds its data
        # commands, not the database that holds the decision.
        self._runtime = Runtime(profile, probing=True)
        self._ready = False
        self._file: FileId | None = None

    @property
    def exists(self) -> bool:
        """False while it is a file that does not exist."""
        path = self.profile.state.connection.path
        return path is None or os.path.exists(path)

    def decisions(self) -> dict[str, OperatorDecision]:
        """The last word about each connection."""
        return newest(self._select(OperatorDecision, _DECISION, "katax_decisions"))

    def decided(self, *, limit: int = 100) -> list[OperatorDecision]:
        """The latest decisions, also expired ones; the newest first."""
        latest = f"ORDER BY decided_at DESC LIMIT {int(limit)}"
        return self._select(OperatorDecision, _DECISION, "katax_decisions", latest)

    def decide(self, decision: OperatorDecision) -> None:
        """Adds a decision; what was decided before stays as its history."""
        with self.database().transaction(timeout=SECONDS) as change:
            _insert(change, "katax_decisions", (*decision, self.profile.name))

    def processes(self) -> list[Process]:
        """Those that said within `ALIVE_SECONDS` that they live."""
        columns, alive = "id, kind, host, pid, started_at, seen_at", "AND seen_at >= ? ORDER BY started_at"
        return self._select(Process, columns, "katax_processes", alive, self._clock.now() - ALIVE_SECONDS)

    def breakers(self) -> list[Breaker]:
        """The breakers that processes reported, dead ones too."""
        columns = "process, connection, state, failures, last_failure_at, next_probe_at, reason"
        return self._select(Breaker, columns, "katax_breakers", "ORDER BY connection")

    def transitions(self, *, limit: int = 100) -> list[Transition]:
        """The last changes of breakers, newest first."""
        columns = "happened_at, connection, old_state, new_state"
        latest = f"ORDER BY happened_at DESC LIMIT {int(limit)}"
        return self._select(Transition, columns, "katax_transitions", latest)

    def pool_samples(self, *, since: float) -> list[PoolSample]:
        """Samples from that moment on, oldest first."""
        columns = "happened_at, connection, pool_max, total, active, idle, waiting, process"
        young = "AND happened_at >= ? ORDER BY happened_at"
        return self._select(PoolSample, columns, "katax_pool_samples", young, since)

    def reports(self) -> list[Report]:
        """The reports of living processes."""
        since = self._clock.now() - ALIVE_SECONDS
        rows = self._read(
            "SELECT r.process, r.part, r.reported_at, r.content FROM katax_reports r "
            "JOIN katax_processes p ON p.id = r.process "
            "WHERE r.profile = ? AND p.seen_at >= ? ORDER BY p.started_at, r.process, r.part",
            (self.profile.name, since),
        )
        return [Report(process, part, at, _objects(content)) for process, part, at, content in rows]

    def health(self, *, limit: int = 100) -> list[HealthRecord]:
        """The last results of health checks, newest first."""
        columns = "happened_at, connection, status, latency_ms, connect_ms, message"
        latest = f"ORDER BY happened_at DESC, connection LIMIT {int(limit)}"
        return self._select(HealthRecord, columns, "katax_health", latest)

    def report(
        self,
        process: Process,
        *,
        breakers: Sequence[Breaker] = (),
        transitions: Iterable[Transition] = (),
        samples: Iterable[PoolSample] = (),
        health: Iterable[HealthRecord] = (),
        parts: Mapping[str, Sequence[object]] | None = None,
    ) -> None:
        """Writes what a process knows, all of it or nothing; its own rows are replaced, and all of its `parts`."""
        name = self.profile.name
        with self.database().transaction(timeout=SECONDS) as change:
            change.execute("DELETE FROM katax_processes WHERE id = ?", (process.id,))
            _insert(change, "katax_processes", (*process, name))
            if breakers:
                change.execute("DELETE FROM katax_breakers WHERE process = ?", (process.id,))
            for breaker in breakers:
                _insert(change, "katax_breakers", (*astuple(breaker), name))
            if parts is not None:
                change.execute("DELETE FROM katax_reports WHERE process = ?", (process.id,))
            for part, rows in (parts or {}).items():
                _insert(change, "katax_reports", (process.id, part, process.seen_at, content_of(rows), name))
            for table, events in (
                ("katax_transitions", transitions),
                ("katax_pool_samples", samples),
                ("katax_health", health),
            ):
                for event in events:
                    _insert_event(change, table, event, name, process.id)

    def leave(self, process: Process) -> None:
        """Forgets a process that ends, its breakers and what it said about itself."""
        with self.database().transaction(timeout=SECONDS) as change:
            change.execute("DELETE FROM katax_processes WHERE id = ?", (process.id,))
            for table in _OF_PROCESSES:
                change.execute(f"DELETE FROM {table} WHERE process = ?", (process.id,))

    def prune(self) -> None:
        """Deletes what is older than it is kept, in all profiles; a decision that still counts stays."""
        now = self._clock.now()
        with self.database().transaction(timeout=SECONDS) as change:
            for table, time, seconds in KEPT:
                change.execute(f"DELETE FROM {table} WHERE {time} < ?", (now - seconds,))
            for table in _OF_PROCESSES:
                change.execute(f"DELETE FROM {table} WHERE process NOT IN (SELECT id FROM katax_processes)")
            old = now - _KEPT_DECISIONS
            replaced = change.query(
                "SELECT d.id FROM katax_decisions d WHERE d.decided_at < ? AND EXISTS (SELECT 1 FROM "
                "katax_decisions n WHERE n.profile = d.profile AND n.connection = d.connection "
                "AND n.decided_at > d.decided_at)",
                (old,),
            )
            for row in replaced:
                change.execute("DELETE FROM katax_decisions WHERE id = ?", (row["id"],))

    def close(self) -> None:
        self._runtime.close()
        self._ready = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _select(
        self, make: Callable[..., R], columns: str, table: str, rest: str = "", *params: object
    ) -> list[R]:
        """The profile's rows, each made of its columns; `rest` follows the condition on the profile."""
        sql = f"SELECT {columns} FROM {table} WHERE profile = ? {rest}"
        return [make(*row) for row in self._read(sql, (self.profile.name, *params))]

    def _read(self, sql: str, params: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        return self.database().run(sql, params, timeout=SECONDS).rows if self.exists else []

    def database(self) -> SqlDatabase:
        """The database, its schema made or brought up to date."""
        settings = self.profile.state.connection
        if self._ready and file_id(settings.path) != self._file:
            # Nobody else would ever read what is written to a file that was removed or replaced.
            self.close()
        database = self._runtime.sql(settings)
        if not self._ready:
            # Its own statements are nobody's news.
            database.observer.set_log(QueryLogging())
            bring_up_to_date(database, seconds=SECONDS)
            self._file = file_id(settings.path)
            self._ready = True
        return database


def file_id(path: str | None) -> FileId | None:
    """The file that is there now; None for none, and for a database on a server."""
    try:
        seen = os.stat(path) if path is not None else None
    except OSError:
        return None
    return None if seen is None else (seen.st_dev, seen.st_ino)


def _insert(change: Queries, table: str, values: Sequence[object]) -> None:
    """`values` in the order of the table's columns."""
    change.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", tuple(values))


def _insert_event(change: Queries, table: str, event: Any, profile: str, process: str) -> None:
    """Writing it again, after an unanswered COMMIT, changes nothing."""
    facts = asdict(event)
    happened_at, connection = facts.pop("happened_at"), facts.pop("connection")
    facts.pop("process", None)
    change.execute(
        f"DELETE FROM {table} WHERE happened_at = ? AND process = ? AND connection = ?",
        (happened_at, process, connection),
    )
    _insert(change, table, (happened_at, profile, process, connection, *facts.values()))


def content_of(rows: Sequence[object]) -> str:
    """The stored form of a report: in ASCII, which every database can hold."""
    return json.dumps(rows, default=str)


def _objects(content: str) -> list[dict[str, Any]]:
    """The readable objects of it: another version may have written a different form."""
    try:
        found = json.loads(content)
    except ValueError:
        return []
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
