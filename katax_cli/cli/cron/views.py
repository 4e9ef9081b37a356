"""The rows of `katax cron`, made of jobs and runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

from katax_cli.core.schedule.english import in_english
from katax_cli.core.schedule.schedule import ClockChange, Schedule, clock_changes
from katax_cli.services.cron.definition.jobs import Job, JobCondition
from katax_cli.services.cron.ledger.values import Run

YEAR = 365 * 86400
JOB_HEADER = ("job", "schedule", "timezone", "enabled", "source", "next_at", "work")
JOB_BRIEF = ("job", "schedule", "enabled", "next_at", "work")
NEXT_HEADER = ("job", "scheduled_at", "note")
EXPLAIN_HEADER = ("event", "at", "detail")
CHECK_HEADER = ("job", "status", "message")
IMPORT_HEADER = ("job", "schedule", "timezone", "command")
HISTORY_HEADER = (
    *("run_id", "job", "scheduled_at", "started_at", "finished_at", "duration_ms", "state", "reason"),
    *("exit_status", "attempt", "trigger", "count", "host", "output_head", "output_tail"),
)
HISTORY_BRIEF = ("run_id", "job", "scheduled_at", "duration_ms", "state", "output")


def job_row(job: Job, now: float, *, enabled: bool) -> tuple[object, ...]:
    next_at = job.schedule.after(now) if enabled else None
    return (
        job.name,
        job.schedule.text,
        job.timezone,
        enabled,
        job.source,
        None if next_at is None else local(job, next_at),
        str(job.work),
    )


def occurrences(schedule: Schedule, now: float, number: int) -> Iterator[tuple[datetime, str | None]]:
    """The next occurrences, with a note where a change of the clock moved one."""
    moved = {
        change.at: change.effect
        for change in clock_changes(schedule, now, now + YEAR)
        if change.offset > change.before and change.times and change.effect != "skipped"
    }
    at = schedule.after(now)
    while at is not None and number > 0:
        note = "its time does not exist on this day" if at in moved else None
        yield datetime.fromtimestamp(at, schedule.zone), note
        at, number = schedule.after(at), number - 1


def explain_rows(
    schedule: Schedule, timezone: str, now: float, number: int, *, of: Job | None = None
) -> Iterator[tuple[object, ...]]:
    """The meaning of a schedule and the policies `of` its job, if it has one; its next occurrences, and every change
    of the clock in the next 12 months."""
    yield ("schedule", None, f"{schedule.text} in {timezone}: {schedule.canonical}")
    said = in_english(schedule)
    if said is not None:
        yield ("meaning", None, said)
    for text in _policies(of) if of is not None else ():
        yield ("policy", None, text)
    for at, note in occurrences(schedule, now, number):
        yield ("next", at, note)
    for change in clock_changes(schedule, now, now + YEAR):
        yield ("clock change", _shown(change.at, change.offset), change_text(change))


def change_text(change: ClockChange) -> str:
    """`02:00 becomes 03:00; 02:30: run once, when the gap ends`."""
    before, after = _shown(change.at, change.before), _shown(change.at, change.offset)
    times = ", ".join(_wall(time) for time in change.times[:5])
    more = f" and {len(change.times) - 5} more" if len(change.times) > 5 else ""
    which = f"{times}{more}: " if times else ""
    return f"{before:%H:%M} becomes {after:%H:%M}; {which}{change.effect}"


def _wall(seconds: int) -> str:
    shown = datetime.fromtimestamp(seconds, UTC)
    return f"{shown:%H:%M:%S}" if shown.second else f"{shown:%H:%M}"


def _policies(job: Job) -> Iterator[str]:
    yield f"on_overlap = {job.on_overlap}, on_miss = {job.on_miss}, retries = {job.retries}"
    if job.timeout is not None:
        yield f"TERM after {job.timeout:g} s, KILL of the tree {job.kill_after:g} s later"
    if job.jitter:
        yield f"starts up to {job.jitter:g} s late on purpose"
    if isinstance(job.enabled, JobCondition):
        sign = "==" if job.enabled.equal else "!="
        yield f"enabled while {job.enabled.left} {sign} {job.enabled.right}"
    if job.enabled is False:
        yield "disabled"


def local(job: Job, at: int) -> datetime:
    """An instant as clocks in the job's zone show it."""
    return datetime.fromtimestamp(at, job.schedule.zone)


def _shown(at: int, offset: int) -> datetime:
    return datetime.fromtimestamp(at, timezone(timedelta(seconds=offset)))


def run_row(run: Run) -> tuple[object, ...]:
    return (
        *(run.run_id, run.job, _moment(run.scheduled_at), _moment(run.started_at), _moment(run.finished_at)),
        *(
            run.duration_ms,
            run.state,
            run.reason,
            run.exit_status,
            run.attempt,
            run.trigger,
            run.count,
            run.host,
        ),
        *(run.output_head, run.output_tail),
    )


def brief(row: tuple[object, ...]) -> tuple[object, ...]:
    """A row of the history for a table: the last line of the output says the most."""
    *facts, head, tail = row
    lines = str(tail or head or "").strip().splitlines()
    return (*facts, lines[-1][:80] if lines else None)


def _moment(ms: int | None) -> datetime | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)


def output_of(run: Run) -> str:
    """The kept output of a run, with a mark where a part is missing."""
    if run.output_tail is None:
        return run.output_head or ""
    return f"{run.output_head}\n[… the middle was not kept …]\n{run.output_tail}"
