"""Rows of the history, and what runs now: frozen values. Instants are milliseconds since the epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal
from uuid import uuid4

from katax_cli.services.cron.definition.jobs import Job
from katax_cli.snapshot import JobState, JobStatus

Trigger = Literal["schedule", "manual", "init"]


@dataclass(frozen=True, slots=True)
class Run:
    """One row: an occurrence, or a run by hand. `until_at`: the last of a missed range."""

    job: str
    scheduled_at: int
    trigger: Trigger = "schedule"
    state: JobState = "running"
    run_id: str = field(default_factory=lambda: uuid4().hex)
    reason: str | None = None
    started_at: int | None = None
    finished_at: int | None = None
    exit_status: int | None = None
    attempt: int = 0
    count: int = 1
    until_at: int | None = None
    host: str = ""
    daemon: str = ""
    process: str | None = None
    stop_reason: str | None = None
    output_head: str | None = None
    output_tail: str | None = None

    @property
    def claim(self) -> str:
        """The unique key of the row within its job: the planned instant; a run by hand has its own."""
        return str(self.scheduled_at) if self.trigger == "schedule" else self.run_id

    @property
    def duration_ms(self) -> int | None:
        if self.started_at is None or self.finished_at is None:
            return None
        return max(0, self.finished_at - self.started_at)

    def skipped(self, reason: str) -> Run:
        """The same occurrence, not run."""
        return replace(
            self,
            state="skipped",
            reason=reason,
            finished_at=self.scheduled_at,
            started_at=None,
            attempt=0,
        )

    def waiting(self, reason: str) -> Run:
        """The same run, claimed, and not started yet."""
        return replace(self, reason=reason, started_at=None, attempt=0)


Decide = Callable[[Run, Sequence[Run]], Run]
"""What becomes of a run when these others of its job run: pure, for it may be asked twice."""
Remaining = Callable[[Run, int], Run | None]
"""What is left of a planned run when all up to an instant (milliseconds) is accounted for."""


def unless_accounted(run: Run, until: int) -> Run | None:
    """All of a run that begins later, nothing of any other: for single occurrences."""
    return run if run.trigger != "schedule" or run.scheduled_at > until else None


def job_status(job: Job, last: Run | None, *, enabled: bool, running: int, now: float) -> JobStatus:
    """A job as people see it; `last` is the run that ended last."""

    def moment(seconds: float | None) -> datetime | None:
        return None if seconds is None else datetime.fromtimestamp(seconds, job.schedule.zone)

    ended = None if last is None or last.finished_at is None else last.finished_at / 1000
    return JobStatus(
        name=job.name,
        schedule=job.schedule.text,
        timezone=job.timezone,
        enabled=enabled,
        running=running,
        next_at=moment(job.schedule.after(now)) if enabled else None,
        last_state=last.state if last else None,
        last_reason=last.reason if last else None,
        last_finished_at=moment(ended),
    )
