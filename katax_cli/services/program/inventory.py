"""The standing of a container: how its services are, and what it holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from katax_cli.core.callables import completed
from katax_cli.core.measure.health import HealthPolicy, worst
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.settings import ConnectionSettings
from katax_cli.services.calls.left_behind import Running, start
from katax_cli.services.databases.database import Database
from katax_cli.services.health.probe import GRACE, HealthChecker, as_dict
from katax_cli.snapshot import BreakerState, Check, HealthReport, JobStatus, PoolStats


@dataclass(frozen=True, slots=True)
class ContainerHealth(HealthReport):
    """The health of what a container holds: the worst of its connections and services.

    `services`: the check of each registered service that has a `health_check()`.
    """

    services: Mapping[str, Check]

    @property
    def healthy(self) -> bool:
        """True when all answered in time."""
        return self.status == "healthy"

    @property
    def errors(self) -> tuple[str, ...]:
        """One sentence for each connection and service that is not well."""
        connections = [f"{name}: {error}" for name, one in self.connections.items() for error in one.errors]
        services = [f"{name}: {check.message}" for name, check in self.services.items() if check.message]
        return (*connections, *services)

    def as_dict(self) -> dict[str, object]:
        """The health with the keys of `katax health -f json`, and `services`."""
        return {**as_dict(self), "services": {name: check._asdict() for name, check in self.services.items()}}


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """A connection of a container; `pool` and `breaker` are None before it is opened.

    `replaced`: another service stands for it.
    """

    type: str
    opened: bool
    replaced: bool
    pool: PoolStats | None
    breaker: BreakerState | None


@dataclass(frozen=True, slots=True)
class ContainerInfo:
    """The contents of a container at one moment; no server was asked, and no address or secret is in it."""

    profile: str
    role: str
    started: bool
    ready: bool
    shutting_down: bool
    connections: Mapping[str, ConnectionInfo]
    services: tuple[str, ...]
    jobs: tuple[JobStatus, ...]


def checked(
    profile: str,
    databases: Mapping[str, Database],
    services: Sequence[object],
    *,
    policy: HealthPolicy,
    seconds: float,
) -> ContainerHealth:
    """Probes everything at the same time; takes at most `seconds` and a moment, whatever hangs."""
    deadline = Deadline(seconds)
    asked = _asked(services)
    report = HealthChecker(profile, databases, policy=policy).check(seconds=seconds)
    answers = {name: _answer(running, deadline) for name, running in asked.items()}
    status = worst(
        [report.status, *(check.status for check in answers.values() if check.status != "skipped")]
    )
    return ContainerHealth(status, report.timestamp, profile, report.connections, answers)


def connection_info(held: object, *, replaced: bool) -> ConnectionInfo:
    """A connection as it is: its database, its settings before that is opened, or what stands for it."""
    if isinstance(held, ConnectionSettings):
        return ConnectionInfo(held.type, opened=False, replaced=replaced, pool=None, breaker=None)
    if not isinstance(held, Database):
        return ConnectionInfo(type(held).__name__, opened=True, replaced=replaced, pool=None, breaker=None)
    state = None if held.breaker is None else held.breaker.get_state().state
    return ConnectionInfo(held.settings.type, not held.closed, replaced, held.pool_stats(), state)


def name_of(service: object) -> str:
    """The name that a service has, else its class."""
    name = getattr(service, "name", None)
    return name if isinstance(name, str) else type(service).__name__


def _asked(services: Sequence[object]) -> dict[str, Running]:
    """The services that can say how they are, each asked in a thread of its own."""
    asked: dict[str, Running] = {}
    for service in services:
        question: Any = getattr(service, "health_check", None)
        if callable(question) and not isinstance(service, Database):
            name = name_of(service)
            asked[name] = start(f"katax-health-{name}", partial(_said, question))
    return asked


def _said(question: Callable[[], object]) -> Check:
    answer = completed(question(), question, "the health check of a container")
    if answer is None or answer is True:
        return Check("health_check", "healthy")
    return Check("health_check", "unhealthy", message=f"health_check() returned {answer!r}")


def _answer(running: Running, deadline: Deadline) -> Check:
    if not running.ended(max(deadline.remaining(), 0.0) + GRACE):
        return Check("health_check", "unhealthy", message="no answer in time; health_check() still runs")
    outcome = running.outcome
    if isinstance(outcome, BaseException):
        return Check("health_check", "unhealthy", message=f"{type(outcome).__name__}: {outcome}")
    assert isinstance(outcome, Check)
    return outcome
