"""One round of health checks, and the reports of other processes in the state database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.errors import KataxError, QueryError, RolledBack
from katax_cli.profiles.model.model import Profile
from katax_cli.services.cron.ledger.store import Runs
from katax_cli.services.cron.ledger.values import Run
from katax_cli.services.state.schema import Tables
from katax_cli.services.state.store import ALIVE_SECONDS, Breaker, PoolSample, StateStore
from katax_cli.snapshot import HealthReport

_LAST_RUNS = 500


@dataclass(frozen=True)
class OtherReports:
    """The reports of other processes of the profile; `trouble` when the state database could not be read."""

    pools: tuple[PoolSample, ...] = ()
    breakers: tuple[Breaker, ...] = ()
    jobs: tuple[Run, ...] = ()
    trouble: bool = False


@dataclass(frozen=True)
class Round:
    """One round of checks; `ended` is a moment of the monotonic clock, `loads` what `db metrics` says."""

    number: int
    ended: float
    report: HealthReport
    loads: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    others: OtherReports = OtherReports()


def others(profile: Profile, clock: Clock = SYSTEM) -> OtherReports:
    """The reports in the state database; empty when there is no database. Raises nothing."""
    now = clock.now()
    try:
        with StateStore(profile, clock=clock) as store:
            if not store.exists:
                return OtherReports()
            living = {process.id for process in store.processes()}
            pools = {sample.connection: sample for sample in store.pool_samples(since=now - ALIVE_SECONDS)}
            breakers = [breaker for breaker in store.breakers() if breaker.process in living]
            return OtherReports(tuple(pools.values()), tuple(breakers), jobs(store))
    except KataxError:
        return OtherReports(trouble=True)


def jobs(store: StateStore) -> tuple[Run, ...]:
    """The run of each job that ended last, of the last 500; none where cron never ran. Raises Unavailable."""
    try:
        runs = Runs(Tables(store.database(), store.profile.name)).history(limit=_LAST_RUNS)
    except RolledBack:
        raise
    except QueryError:
        return ()
    ended = {run.job: run for run in reversed(runs) if run.finished_at is not None}
    return tuple(ended.values())
