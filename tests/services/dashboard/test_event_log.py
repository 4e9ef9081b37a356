"""What happened, in one line each."""

from __future__ import annotations

import pytest

from katax_cli.services.dashboard.event_log import (
    of_decisions,
    of_health,
    of_processes,
    of_runs,
    of_transitions,
)
from katax_cli.services.runtime.decisions import OperatorDecision
from katax_cli.services.state.store import Transition
from katax_cli.snapshot import BreakerState, ConnectionHealth, Happening, JobRun, JobState, Process


@pytest.mark.parametrize(
    ("new", "level"),
    [("open", "error"), ("half_open", "warning"), ("forced_open", "warning"), ("closed", "info")],
)
def test_breakers(new: BreakerState, level: str) -> None:
    (line,) = of_transitions([Transition(5.0, "main", "disabled", new)])

    assert line == (5.0, level, "main", f"circuit {new}, was disabled")


def test_operators() -> None:
    trip = OperatorDecision("1", "main", "trip", 5.0, None, "new disks", "ann@host")
    reset = OperatorDecision("2", "main", "reset", 6.0)

    assert list(of_decisions([trip, reset])) == [
        Happening(5.0, "warning", "main", "trip by ann@host: new disks"),
        Happening(6.0, "info", "main", "reset by an operator"),
    ]


@pytest.mark.parametrize(
    ("state", "level"),
    [
        ("ran", "info"),
        ("skipped", "warning"),
        ("missed", "warning"),
        ("failed", "error"),
        ("killed", "error"),
    ],
)
def test_runs(state: JobState, level: str) -> None:
    (line,) = of_runs([JobRun("r", "tick", 5.0, 6.0, 1500, state, None, "h")])

    assert line == (7.5, level, "tick", state)


def test_a_run_that_never_began_and_one_that_goes_on() -> None:
    missed = JobRun("r", "tick", 5.0, None, None, "missed", "no daemon", "h")
    running = JobRun("s", "tick", 6.0, 6.0, None, "running", None, "h")

    assert list(of_runs([running, missed])) == [Happening(5.0, "warning", "tick", "missed: no daemon")]


def test_processes() -> None:
    one, other, third = (Process(id, "app", "host", pid, 0.0, 0.0) for pid, id in enumerate("abc"))

    assert list(of_processes([one, other], [other._replace(seen_at=9.0), third], 5.0)) == [
        Happening(5.0, "info", "app host:2", "it reports"),
        Happening(5.0, "warning", "app host:0", "it reports no more"),
    ]


def test_health() -> None:
    ill = ConnectionHealth("unhealthy", None, None, errors=("no answer", "really"))
    slow = ConnectionHealth("degraded", 200.0, 1.0)

    assert of_health("main", "healthy", ill, 5.0) == Happening(
        5.0, "error", "main", "unhealthy, was healthy: no answer; really"
    )
    assert of_health("main", "unhealthy", slow, 6.0) == Happening(
        6.0, "warning", "main", "degraded, was unhealthy"
    )
