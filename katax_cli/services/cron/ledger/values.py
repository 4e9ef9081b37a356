"""Rows of the history, and what runs now: frozen values. Instants are milliseconds since the epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal
from uuid import uuid4

from katax_cli.snapshot import JobState

Trigger = Literal["schedule", "manual", "init"]


def new_run_id() -> str:
    """A UUID without its dashes."""
    return uuid4().hex


@dataclass(frozen=True, slots=True)
class Run:
    """One row: an occurrence, or a run by hand. `until_at`: the last of a missed range."""

    job: str
    scheduled_at: int
    trigger: Trigger = "schedule"
    state: JobState = "running"
    run_id: str = field(default_factory=new_run_id)
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
