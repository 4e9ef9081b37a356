"""Reports of processes and decisions of operators in the state database, as a dashboard shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from katax_cli.core.clock import Clock
from katax_cli.profiles.model.model import Profile
from katax_cli.services.dashboard.sources import Answered
from katax_cli.services.runtime.decisions import OperatorDecision
from katax_cli.services.state.circuits import known, rows_of
from katax_cli.services.state.report_rows import reported_rows, slow_call, socket_server, traffic
from katax_cli.services.state.store import PoolSample, Report, StateStore, Transition
from katax_cli.snapshot import Circuit, PoolStats, PoolTrail, Process, SlowCall, SocketServer, Traffic

TRAIL_SECONDS = 600.0
_OVERLAP_SECONDS = 60.0
"""How far back samples are read again: clocks differ, and what could not be written is written later."""
_PACES = 120
_HISTORY = 200

ProcessKey = tuple[str, str]
"""A process and a connection."""


class StateReading(NamedTuple):
    """One reading of the state database, at the moment `at`."""

    at: float
    processes: tuple[Process, ...]
    pools: tuple[PoolTrail, ...]
    circuits: tuple[Circuit, ...]
    traffic: tuple[Traffic, ...]
    slow: tuple[SlowCall, ...]
    sockets: tuple[SocketServer, ...]
    transitions: tuple[Transition, ...]
    decisions: tuple[OperatorDecision, ...]


class StateWatch:
    """Reads the state database of a profile once in each round; `reading` is the last one. Makes no file."""

    def __init__(self, profile: Profile, *, clock: Clock) -> None:
        self.reading: StateReading | None = None
        self._clock = clock
        self._store = StateStore(profile, clock=clock)
        self._pools: dict[ProcessKey, dict[float, PoolStats]] = {}
        self._paces: dict[ProcessKey, dict[float, float]] = {}

    def look(self, _answered: Answered) -> None:
        """One round. Raises KataxError when the database cannot be read."""
        store, now = self._store, self._clock.now()
        processes = store.processes()
        names = {process.id: process.label for process in processes}
        samples = store.pool_samples(since=self._unread_since(now))
        reports = store.reports()
        circuits = rows_of(store.profile.connections, known(store), processes, store.breakers(), now=now)
        self.reading = StateReading(
            now,
            tuple(processes),
            tuple(self._pool_trails(samples, names, now)),
            tuple(circuits),
            tuple(self._traffic(reports, names)),
            tuple(
                sorted(reported_rows(reports, names, "slow", slow_call), key=lambda call: -call.happened_at)
            ),
            tuple(reported_rows(reports, names, "sockets", socket_server)),
            tuple(store.transitions(limit=_HISTORY)),
            tuple(store.decided(limit=_HISTORY)),
        )

    def close(self) -> None:
        self._store.close()

    def _unread_since(self, now: float) -> float:
        longest = now - TRAIL_SECONDS
        return longest if self.reading is None else max(longest, self.reading.at - _OVERLAP_SECONDS)

    def _pool_trails(
        self, samples: Sequence[PoolSample], names: Mapping[str, str], now: float
    ) -> Iterator[PoolTrail]:
        for seen in samples:
            stats = PoolStats(seen.max, seen.total, seen.active, seen.idle, seen.waiting)
            self._pools.setdefault((seen.process, seen.connection), {})[seen.happened_at] = stats
        self._pools = {key: _since(trail, now) for key, trail in self._pools.items() if key[0] in names}
        for (process, connection), trail in sorted(self._pools.items()):
            if trail:
                moments = sorted(trail)
                yield PoolTrail(
                    connection, names[process], tuple(map(trail.__getitem__, moments)), moments[-1]
                )

    def _traffic(self, reports: Sequence[Report], names: Mapping[str, str]) -> list[Traffic]:
        traffics = reported_rows(reports, names, "traffic", traffic)
        self._paces = {key: trail for key, trail in self._paces.items() if key[0] in names.values()}
        return [self._with_trail(row) for row in traffics]

    def _with_trail(self, row: Traffic) -> Traffic:
        trail = self._paces.setdefault((row.source, row.connection), {})
        if row.per_second is not None:
            trail[row.seen_at] = row.per_second
        for moment in sorted(trail)[:-_PACES]:
            del trail[moment]
        return row._replace(trail=tuple(trail[moment] for moment in sorted(trail)))


def _since(trail: Mapping[float, PoolStats], now: float) -> dict[float, PoolStats]:
    return {moment: stats for moment, stats in trail.items() if moment >= now - TRAIL_SECONDS}
