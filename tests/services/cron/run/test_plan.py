"""What is due, what was missed, what overlaps: with a clock that is turned by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from katax_cli.errors import Unavailable
from katax_cli.profiles.load import load_profile
from katax_cli.services.cron.definition.jobs import Callback, Job, job_of
from katax_cli.services.cron.ledger.values import Decide, Remaining, Run, unless_accounted
from katax_cli.services.cron.run.execution import JobContext
from katax_cli.services.cron.run.plan import (
    ALL_AT_MOST,
    CATCHING_UP,
    WAITING,
    WAITING_TO_CATCH_UP,
    Agenda,
    Overlaps,
    due,
    remaining,
)
from katax_cli.services.cron.run.scheduler import MemoryRunLedger, Scheduler
from tests.cli.harness import write_profile
from tests.fake_clock import FakeClock
from tests.services.cron.daemons import until

HOUR = 3600
START = 1_800_000_000
DEADLINE = 60


def job(schedule: str = "@every 1m", **keys: object) -> Job:
    return job_of("j", {"schedule": schedule, "command": "true", **keys}, timezone="UTC")


def planned(rows: list[Run]) -> list[int]:
    """Every occurrence that rows account for, seconds after START; ranges are spread out."""
    found: list[int] = []
    for run in rows:
        step = 0 if run.count == 1 else (run.until_at or 0) - run.scheduled_at
        found += [
            (run.scheduled_at + step * number // max(1, run.count - 1)) // 1000 - START
            for number in range(run.count)
        ]
    return found


def test_on_time() -> None:
    rows = due(job(), START, START + 60)

    assert [(run.state, run.scheduled_at // 1000 - START, run.count) for run in rows] == [("running", 60, 1)]


@pytest.mark.parametrize("on_miss", ["skip", "once", "all"])
@pytest.mark.parametrize("late", [0.0, 1.0, DEADLINE, DEADLINE + 60, 8 * HOUR])
def test_every_occurrence_is_accounted_for_once(on_miss: str, late: float) -> None:
    now = START + 300 + late

    rows = due(job(on_miss=on_miss), START, now)

    assert planned(rows) == list(range(60, int(now - START) + 1, 60))


@pytest.mark.parametrize(("on_miss", "late"), [("skip", 0), ("once", 1), ("all", 8)])
def test_eight_hours_without_a_daemon(on_miss: str, late: int) -> None:
    """Nothing is due at the moment: `once` runs the last of the missed, and the others share one row."""
    rows = due(job("@every 1h", on_miss=on_miss), START, START + 8 * HOUR + 90)

    assert [run.reason for run in rows if run.state == "running"] == [CATCHING_UP] * late
    assert [run.count for run in rows if run.state == "missed"] == [8 - late] * (late < 8)


def test_what_is_on_time_is_the_one_run() -> None:
    rows = due(job(), START, START + 8 * HOUR + 30)

    assert [(run.state, run.count) for run in rows] == [("missed", 479), ("running", 1)]


def test_a_month_of_seconds() -> None:
    """2.6 million occurrences are one row, or one and the last thousand; nothing walks through them."""
    month = 30 * 24 * HOUR
    (once, *on_time) = due(job("@every 1s"), START, START + month)
    assert (once.state, once.count, len(on_time)) == ("missed", month - DEADLINE, DEADLINE)

    skipped, *late = due(job("@every 1s", on_miss="all"), START, START + month)
    assert skipped.count + len(late) == month
    assert sum(run.reason == CATCHING_UP for run in late) == ALL_AT_MOST + DEADLINE


def test_overlaps() -> None:
    other = Run("j", 1, host="there", started_at=1)
    run = Run("j", 2, started_at=2, attempt=1)

    def decided(on_overlap: str = "skip") -> Run:
        return Overlaps({"j": job(on_overlap=on_overlap)})(run, [other])

    assert Overlaps({"j": job()})(run, []) == run
    assert decided(on_overlap="allow") == run
    assert decided().reason == f"run {other.run_id[:12]} still runs on there"
    assert decided().state == "skipped"
    for kind in ("queue", "replace"):
        waiting = decided(on_overlap=kind)
        assert (waiting.state, waiting.reason, waiting.started_at) == ("running", WAITING, None)


def test_a_queue_is_bounded() -> None:
    others = [Run("j", number) for number in range(100)]

    made = Overlaps({"j": job(on_overlap="queue")})(Run("j", 101), others)

    assert (made.state, made.reason) == ("skipped", "100 runs wait already")


def test_what_catches_up_waits_instead_of_being_skipped() -> None:
    made = Overlaps({"j": job()})(Run("j", 2, reason=CATCHING_UP), [Run("j", 1, started_at=1)])

    assert (made.state, made.reason) == ("running", WAITING_TO_CATCH_UP)


@pytest.mark.parametrize("on_overlap", ["skip", "queue", "allow"])
def test_all_that_was_due_runs_one_after_the_other(on_overlap: str) -> None:
    """Also the occurrence that is on time: all but the first wait for their turn."""
    every = job("@every 1m", on_miss="all", on_overlap=on_overlap)
    decided: list[Run] = []
    for run in due(every, START, START + 600):
        decided.append(Overlaps({"j": every})(replace(run, started_at=1), decided))

    assert [run.state for run in decided] == ["running"] * 10
    assert [run.reason for run in decided] == [CATCHING_UP, *[WAITING_TO_CATCH_UP] * 9]
    assert due(every, START, START + 60)[0].reason is None


def test_what_catches_up_leaves_others_alone_under_allow() -> None:
    """A run on time starts beside what was missed, and what was missed beside it."""
    overlaps = Overlaps({"j": job(on_overlap="allow")})
    late, on_time = Run("j", 1, started_at=1, reason=CATCHING_UP), Run("j", 2, started_at=2)

    assert overlaps(on_time, [late, replace(late, reason=WAITING_TO_CATCH_UP)]) == on_time
    assert overlaps(late, [on_time]) == late


def test_an_agenda_knows_what_is_next() -> None:
    agenda = Agenda()
    agenda.put(job("@every 1h"), START)
    agenda.put(replace(job("@every 1m"), name="k"), START)

    assert agenda.next_at == START + 60
    assert [(each.name, after) for each, after in agenda.due(START + 60)] == [("k", START)]
    assert agenda.next_at == START + HOUR
    agenda.change(job("@every 1h", command="false"))
    ((changed, _),) = agenda.due(START + HOUR)
    assert str(changed.work) == "false"


class Watched(MemoryRunLedger):
    """Accounts that remember what was claimed; while `away` nobody can say whether anything is ours."""

    away = False

    def __init__(self) -> None:
        self.claimed: list[Run] = []

    def claim(
        self,
        planned: Sequence[Run],
        decide: Decide,
        running: Sequence[Run],
        remaining: Remaining = unless_accounted,
    ) -> list[Run]:
        if self.away:
            raise Unavailable("state", "away")
        rows = super().claim(planned, decide, running, remaining)
        self.claimed += rows
        return rows


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(at=START - FakeClock.EPOCH)


@pytest.fixture
def accounts() -> Watched:
    return Watched()


@pytest.fixture
def scheduler(clock: FakeClock, accounts: Watched, tmp_path: Path) -> Scheduler:
    write_profile(tmp_path, {"main": "sqlite:///main.db"})
    context = JobContext(load_profile("test"), clock)
    made = Scheduler(context, accounts, host="h", daemon="d", lookup=lambda _name: None)
    made.put(replace(job(on_overlap="allow"), work=Callback(int)), START)
    return made


def walk(scheduler: Scheduler, clock: FakeClock, seconds: int, *, step: int = 10) -> None:
    for _ in range(0, seconds, step):
        clock.at += step
        scheduler.tick()


def test_the_clock_goes_back_two_hours(scheduler: Scheduler, clock: FakeClock, accounts: Watched) -> None:
    """Nothing runs twice, and nothing is lost when the time comes again."""
    walk(scheduler, clock, HOUR)
    clock.at -= 2 * HOUR
    walk(scheduler, clock, 3 * HOUR)

    assert planned(accounts.claimed) == list(range(60, 2 * HOUR + 1, 60))


def test_a_suspend_of_eight_hours(scheduler: Scheduler, clock: FakeClock, accounts: Watched) -> None:
    walk(scheduler, clock, HOUR)
    clock.at += 8 * HOUR
    walk(scheduler, clock, HOUR)

    assert planned(accounts.claimed) == list(range(60, 10 * HOUR + 1, 60))
    assert sum(run.state == "missed" for run in accounts.claimed) == 1


@pytest.mark.parametrize(
    ("on_miss", "away", "states"),
    [
        ("once", 40, ["running"]),
        ("skip", 110, ["missed", "running"]),
        ("once", 170, ["missed", "running"]),
        ("all", 170, ["running"] * 4),
    ],
)
def test_what_cannot_be_claimed_is_claimed_again(
    on_miss: str, away: int, states: list[str], scheduler: Scheduler, clock: FakeClock, accounts: Watched
) -> None:
    """Within the deadline it is on time; later it was missed, and `on_miss` decides."""
    scheduler.put(replace(job(on_overlap="allow", on_miss=on_miss), work=Callback(int)), START)
    clock.at += 60
    accounts.away = True
    walk(scheduler, clock, away)
    assert (scheduler.next_at, accounts.claimed) == (START + 60, [])

    accounts.away = False
    walk(scheduler, clock, 10)

    assert [run.state for run in accounts.claimed] == states
    assert planned(accounts.claimed) == list(range(60, int(clock.now() - START) + 1, 60))
    reasons = {run.reason for run in accounts.claimed if run.state == "missed"}
    assert reasons <= {"the state database was not available"}


def test_a_claim_that_is_repeated_keeps_its_id(
    scheduler: Scheduler, clock: FakeClock, accounts: Watched
) -> None:
    """The first one may have been written after all."""
    clock.at += 60
    accounts.away = True
    scheduler.tick()
    tried = scheduler.unclaimed
    accounts.away = False
    walk(scheduler, clock, 10)

    assert {run.run_id for run in accounts.claimed} == tried


def test_a_start_that_was_asked_for_is_not_late_for_ever(
    scheduler: Scheduler, clock: FakeClock, accounts: Watched
) -> None:
    accounts.away = True
    scheduler.trigger(["j"], "init")
    walk(scheduler, clock, 20)
    accounts.away = False
    walk(scheduler, clock, 10)
    accounts.away = True
    scheduler.trigger(["j"], "init")
    walk(scheduler, clock, 100)
    accounts.away = False
    walk(scheduler, clock, 10)

    assert [run.state for run in accounts.claimed if run.trigger == "init"] == ["running", "missed"]


def test_what_others_accounted_for_is_cut_off_a_range() -> None:
    missed = Run("j", START * 1000, state="missed", count=10, until_at=(START + 540) * 1000)
    jobs = {"j": job()}

    assert remaining(jobs, missed, START * 1000 - 1) == missed
    left = remaining(jobs, missed, (START + 300) * 1000)
    assert left == replace(missed, scheduled_at=(START + 360) * 1000, count=4)
    assert remaining(jobs, missed, (START + 540) * 1000) is None


def test_nothing_is_planned_while_a_job_is_off(
    scheduler: Scheduler, clock: FakeClock, accounts: Watched
) -> None:
    scheduler.put(replace(job(), enabled=False), clock.now())
    walk(scheduler, clock, HOUR)
    scheduler.put(job(on_overlap="allow"), clock.now())
    walk(scheduler, clock, 120)

    assert planned(accounts.claimed) == [HOUR + 60, HOUR + 120]


def test_a_condition_that_is_false_is_a_row(
    scheduler: Scheduler, clock: FakeClock, accounts: Watched
) -> None:
    scheduler.put(job(enabled="${env:APP_ENV} == production"), clock.now())
    walk(scheduler, clock, 60)
    scheduler.lookup = {"APP_ENV": "production"}.get
    walk(scheduler, clock, 60)

    assert [(run.state, run.reason) for run in accounts.claimed] == [
        ("skipped", "not enabled"),
        ("running", None),
    ]


def test_a_draining_scheduler_starts_nothing(
    scheduler: Scheduler, clock: FakeClock, accounts: Watched
) -> None:
    scheduler.drain()
    walk(scheduler, clock, HOUR)

    assert accounts.claimed == []
    assert scheduler.next_at is None


def test_jitter_delays_the_start_and_not_the_claim(
    scheduler: Scheduler, clock: FakeClock, accounts: Watched
) -> None:
    """What is still waiting when the daemon drains is given up."""
    scheduler.put(replace(job(jitter=7200), work=Callback(int)), clock.now())
    walk(scheduler, clock, 60)

    (waiting,) = scheduler.running()
    assert (waiting.started_at, planned(accounts.claimed)) == (None, [60])
    scheduler.drain()
    until(lambda: not scheduler.running())
    assert scheduler.counts == {("j", "skipped"): 1}
