"""The due occurrences and their runs: values in, rows out. Instants are seconds; rows carry milliseconds."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from katax_cli.core.schedule.schedule import Schedule, latest
from katax_cli.services.cron.definition.jobs import Job
from katax_cli.services.cron.ledger.values import Run

ALL_AT_MOST = 1000
"""With `on_miss = "all"`: how many of the missed are run; the ones before them are accounted for as missed."""
QUEUE_AT_MOST = 100
WAITING = "waits for an earlier run"
CATCHING_UP = "was missed, runs late"
WAITING_TO_CATCH_UP = "was missed, waits for its turn"
WAITS = (WAITING, WAITING_TO_CATCH_UP)
_LATE = (CATCHING_UP, WAITING_TO_CATCH_UP)
NO_DAEMON = "no daemon was there in time"


def due(job: Job, after: float, now: float) -> list[Run]:
    """A row for every occurrence in (after, now]; missed ones that are not run share one.

    What could not be started within the job's `start_deadline` was missed, and `on_miss` says what becomes of it.
    """
    late_until = now - job.start_deadline
    on_time = [_run(job, at) for at in _each(job.schedule, max(after, late_until), now)]
    missed = _missed(job, after, late_until, alone=not on_time) if late_until > after else []
    if job.on_miss == "all" and len(missed) + len(on_time) > 1:
        # They were due one after the other, and so they run: none is skipped because of the one before it.
        on_time = [replace(run, reason=CATCHING_UP) for run in on_time]
    return [*missed, *on_time]


def _missed(job: Job, after: float, until: float, *, alone: bool) -> list[Run]:
    count = job.schedule.count(after, until)
    if not count:
        return []
    keep = {"skip": 0, "once": int(alone), "all": min(count, ALL_AT_MOST)}[job.on_miss]
    cut = _before_last(job.schedule, after, until, keep)
    late = [_run(job, at, CATCHING_UP) for at in _each(job.schedule, cut, until)] if keep else []
    return [*_range(job, after, cut, count - keep), *late]


def _range(job: Job, after: float, until: float, count: int) -> list[Run]:
    first, last = job.schedule.after(after), latest(job.schedule, after, until)
    if not count or first is None or last is None:
        return []
    return [
        Run(
            job.name,
            first * 1000,
            state="missed",
            reason=NO_DAEMON,
            count=count,
            until_at=last * 1000,
            finished_at=last * 1000,
        )
    ]


def _before_last(schedule: Schedule, after: float, until: float, keep: int) -> float:
    """An instant with exactly `keep` occurrences between it and `until`."""
    if not keep:
        return until
    low, high = int(after), int(until)
    while low < high:
        middle = (low + high) // 2
        if schedule.count(middle, until) > keep:
            low = middle + 1
        else:
            high = middle
    return max(float(low), after)


def _each(schedule: Schedule, after: float, until: float) -> Iterator[int]:
    at = schedule.after(after)
    while at is not None and at <= until:
        yield at
        at = schedule.after(at)


def _run(job: Job, at: int, reason: str | None = None) -> Run:
    return Run(job.name, at * 1000, reason=reason)


def in_the_way(job: Job, run: Run, other: Run) -> bool:
    """True when a run does not start beside another one of its job.

    Under `allow` what was missed goes one after the other, beside everything else.
    """
    return job.on_overlap != "allow" or (run.reason in _LATE and other.reason in _LATE)


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Decides by each job's own rule what becomes of a run while others of it run."""

    jobs: Mapping[str, Job]

    def __call__(self, run: Run, others: Sequence[Run]) -> Run:
        job = self.jobs.get(run.job)
        others = [other for other in others if job is not None and in_the_way(job, run, other)]
        if job is None or not others:
            return run
        if job.on_overlap == "replace":
            return run.waiting(WAITING)
        if job.on_overlap == "queue" or run.reason == CATCHING_UP:
            waiting = sum(other.started_at is None for other in others)
            late = run.reason == CATCHING_UP
            if waiting < (2 * ALL_AT_MOST if late else QUEUE_AT_MOST):
                return run.waiting(WAITING_TO_CATCH_UP if late else WAITING)
            return run.skipped(f"{waiting} runs wait already")
        return run.skipped(f"run {others[0].run_id[:12]} still runs on {others[0].host}")


def remaining(jobs: Mapping[str, Job], run: Run, until: int) -> Run | None:
    """The rest of a planned run when all up to `until` (milliseconds) is accounted for by others."""
    if run.trigger != "schedule" or run.scheduled_at > until:
        return run
    if run.until_at is None or run.until_at <= until:
        return None
    schedule = jobs[run.job].schedule
    first = schedule.after(until / 1000)
    if first is None:
        return None
    count = schedule.count(until / 1000, run.until_at / 1000)
    return replace(run, scheduled_at=first * 1000, count=count) if count else None


class Agenda:
    """The next occurrence of each job, and the instant up to which it is accounted for."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, str]] = []
        self._entries: dict[str, tuple[int, Job, float]] = {}

    def put(self, job: Job, after: float) -> None:
        """The job counts from `after` on; what was known of its name before is forgotten."""
        self._entries.pop(job.name, None)
        at = job.schedule.after(after)
        if at is not None:
            self._entries[job.name] = (at, job, after)
            heapq.heappush(self._heap, (at, job.name))

    def change(self, job: Job) -> None:
        """Another job of this name, due when the old one was."""
        if job.name in self._entries:
            at, _, after = self._entries[job.name]
            self._entries[job.name] = (at, job, after)

    def drop(self, name: str) -> None:
        self._entries.pop(name, None)

    @property
    def next_at(self) -> int | None:
        """The next instant at which anything is due."""
        while self._heap and self._is_stale(*self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[tuple[Job, float]]:
        """Takes out the jobs that are due, with up to where they are accounted for; they are `put` back after that."""
        occurrences = []
        while (at := self.next_at) is not None and at <= now:
            _, name = heapq.heappop(self._heap)
            _, job, after = self._entries.pop(name)
            occurrences.append((job, after))
        return occurrences

    def _is_stale(self, at: int, name: str) -> bool:
        entry = self._entries.get(name)
        return entry is None or entry[0] != at
