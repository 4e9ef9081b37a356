"""The jobs of a profile and what became of them, as a dashboard shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from katax_cli.core.clock import Clock
from katax_cli.errors import KataxError
from katax_cli.profiles.model.model import Profile
from katax_cli.services.cron.definition.jobs import Job
from katax_cli.services.cron.ledger.values import Run, job_status
from katax_cli.services.cron.manage import Cron
from katax_cli.services.dashboard.sources import Answered
from katax_cli.services.state.store import FileId, file_id
from katax_cli.snapshot import JobRun, JobStatus

_SHOWN = 50
_FIRST = 500
"""How far back the last run of each job is looked for in the beginning."""


class Jobs(NamedTuple):
    """The jobs at the moment `at`."""

    at: float
    rows: tuple[JobStatus, ...]
    notes: str | None


class History(NamedTuple):
    """Their occurrences at the moment `at`, the latest first."""

    at: float
    rows: tuple[JobRun, ...]


class JobsWatch:
    """Reads the jobs of a profile once in each round; `jobs` and `history` are the last results. Makes no file."""

    def __init__(self, profile: Profile, *, clock: Clock) -> None:
        self.jobs: Jobs | None = None
        self.history: History | None = None
        self._profile = profile
        self._clock = clock
        self._cron: Cron | None = None
        self._file: FileId | None = None
        self._last: dict[str, Run] = {}

    def look(self, _answered: Answered) -> None:
        """One round. Raises KataxError for jobs that are wrong, or a state database that cannot be read."""
        cron = self._opened()
        now = self._clock.now()
        cron.notes.clear()
        jobs = cron.jobs()
        try:
            active = self._ask(cron, jobs, now)
        except KataxError:
            # Those of the profile are better than nothing.
            if self.jobs is None:
                self.jobs = self._seen(cron, jobs, [], now)
            raise
        self.jobs = self._seen(cron, jobs, active, now)

    def _opened(self) -> Cron:
        """Reopens when the state database was removed or replaced, and drops the last results."""
        file = file_id(self._profile.state.connection.path)
        if self._cron is None or file != self._file:
            self.close()
            self._cron, self._file = Cron(self._profile, clock=self._clock), file
            self._last.clear()
        return self._cron

    def _ask(self, cron: Cron, jobs: Sequence[Job], now: float) -> list[Run]:
        """The history; returns what runs now."""
        runs = cron.history(None, _SHOWN if self._last else _FIRST, outputs=False)
        self._remember(runs)
        self.history = History(now, tuple(map(job_run, runs[:_SHOWN])))
        return cron.active([job.name for job in jobs])

    def _seen(self, cron: Cron, jobs: Sequence[Job], active: Sequence[Run], now: float) -> Jobs:
        lookup, running = cron.lookup, Counter(run.job for run in active)
        rows = [
            job_status(
                job,
                self._last.get(job.name),
                enabled=job.is_enabled(lookup),
                running=running[job.name],
                now=now,
            )
            for job in jobs
        ]
        return Jobs(now, tuple(rows), "; ".join(cron.notes) or None)

    def close(self) -> None:
        if self._cron is not None:
            self._cron.close()

    def _remember(self, history: Iterable[Run]) -> None:
        for run in history:
            before = self._last.get(run.job)
            if run.finished_at is not None and (before is None or _ended(run) >= _ended(before)):
                self._last[run.job] = run


def _ended(run: Run) -> tuple[int, int]:
    return run.finished_at or 0, run.scheduled_at


def job_run(run: Run) -> JobRun:
    """A row of the history without what the job wrote."""
    started = None if run.started_at is None else run.started_at / 1000
    return JobRun(
        run.run_id,
        run.job,
        run.scheduled_at / 1000,
        started,
        run.duration_ms,
        run.state,
        run.reason,
        run.host,
    )
