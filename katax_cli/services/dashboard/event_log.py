"""Events as lines of a log. Pure: facts in, lines out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from katax_cli.services.runtime.decisions import OperatorDecision
from katax_cli.services.state.store import Transition
from katax_cli.snapshot import (
    BreakerState,
    ConnectionHealth,
    Happening,
    HealthStatus,
    JobRun,
    JobState,
    Process,
)

Level = Literal["info", "warning", "error"]

_BREAKERS: Mapping[BreakerState, Level] = {"open": "error", "half_open": "warning", "forced_open": "warning"}
_HEALTH: Mapping[HealthStatus, Level] = {"degraded": "warning", "unhealthy": "error"}
_RUNS: Mapping[JobState, Level] = {
    "failed": "error",
    "killed": "error",
    "missed": "warning",
    "skipped": "warning",
}


def of_transitions(transitions: Iterable[Transition]) -> Iterator[Happening]:
    for transition in transitions:
        text = f"circuit {transition.new}, was {transition.old}"
        yield Happening(
            transition.happened_at, _BREAKERS.get(transition.new, "info"), transition.connection, text
        )


def of_decisions(decisions: Iterable[OperatorDecision]) -> Iterator[Happening]:
    for decision in decisions:
        text = f"{decision.action} by {decision.decided_by or 'an operator'}"
        if decision.reason:
            text = f"{text}: {decision.reason}"
        yield Happening(
            decision.decided_at, "warning" if decision.action == "trip" else "info", decision.connection, text
        )


def of_runs(runs: Iterable[JobRun]) -> Iterator[Happening]:
    """Of those that ended."""
    for run in runs:
        if run.state != "running":
            began = run.scheduled_at if run.started_at is None else run.started_at
            ended = began + (run.duration_ms or 0) / 1000
            text = run.state if run.reason is None else f"{run.state}: {run.reason}"
            yield Happening(ended, _RUNS.get(run.state, "info"), run.job, text)


def of_processes(before: Iterable[Process], now: Iterable[Process], at: float) -> Iterator[Happening]:
    """The processes that started or ended in between."""
    old, new = ({process.id: process for process in processes} for processes in (before, now))
    for id in new.keys() - old.keys():
        yield Happening(at, "info", new[id].label, "it reports")
    for id in old.keys() - new.keys():
        yield Happening(at, "warning", old[id].label, "it reports no more")


def of_health(name: str, before: HealthStatus, seen: ConnectionHealth, at: float) -> Happening:
    """A change of status."""
    why = f": {'; '.join(seen.errors)}" if seen.errors else ""
    return Happening(at, _HEALTH.get(seen.status, "info"), name, f"{seen.status}, was {before}{why}")
