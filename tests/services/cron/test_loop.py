"""The daemon's loop, where a clock that is turned by hand says more than a process."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from katax_cli.profiles.load import load_profile
from katax_cli.services.cron.loop import Daemon
from katax_cli.services.cron.manage import Cron
from katax_cli.services.cron.run.execution import JobContext
from katax_cli.services.cron.serve import metrics
from tests.cli.harness import write_profile
from tests.fake_clock import FakeClock


class SteppingClock(FakeClock):
    """Its wall clock can be set, a suspend stops only the other one, and a busy machine oversleeps."""

    step = 0.0
    late = 0.0
    """Seconds by which each sleep lasts longer."""

    def now(self) -> float:
        return super().now() + self.step

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds + self.late)


@pytest.fixture
def clock() -> SteppingClock:
    return SteppingClock()


@pytest.fixture
def daemon(clock: SteppingClock, tmp_path: Path) -> Daemon:
    write_profile(tmp_path, {"main": "sqlite:///main.db"})
    profile = load_profile("test")
    with Cron(profile) as cron:
        return Daemon(lambda: (profile, []), cron.tables, JobContext(profile, clock))


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (8 * 3600.0, "the clock went on by 28800 s: a suspend, or it was set; on_miss decides"),
        (-7200.0, "the clock went back by 7200 s: nothing runs twice"),
        (1.0, None),
    ],
)
def test_jumps_of_the_clock_are_said_once(
    daemon: Daemon, clock: SteppingClock, step: float, said: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    clock.at += 10
    clock.step = step

    daemon._notice_jump()
    daemon._notice_jump()

    assert [record.getMessage() for record in caplog.records if record.name == "katax.cron"] == (
        [said] if said else []
    )


def test_a_machine_that_stood_still_has_given_killed_runs_no_time(
    daemon: Daemon, clock: SteppingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have their two seconds, in which their end is written, though many more have passed."""
    clock.late = 10.0
    answers = [["run"]] * 50 + [[]]
    monkeypatch.setattr(daemon.scheduler, "running", lambda: answers.pop(0))

    daemon._await_runs(2.0)

    assert (answers, len(clock.sleeps)) == ([], 50)


def test_metrics_of_an_idle_daemon(daemon: Daemon) -> None:
    daemon.scheduler.counts['a"b', "ran"] += 2

    assert metrics(daemon) == (
        "# TYPE katax_cron_runs counter\n# HELP katax_cron_runs Occurrences by outcome.\n"
        'katax_cron_runs_total{job="a\\"b",state="ran"} 2\n'
        "# TYPE katax_cron_running gauge\n# HELP katax_cron_running Runs under way.\nkatax_cron_running 0\n"
        "# TYPE katax_cron_waiting gauge\n# HELP katax_cron_waiting Runs that wait for their start.\n"
        "katax_cron_waiting 0\n"
        "# TYPE katax_cron_jobs gauge\n# HELP katax_cron_jobs Known jobs.\nkatax_cron_jobs 0\n"
        "# TYPE katax_cron_ready gauge\n# HELP katax_cron_ready 1 when jobs are started.\nkatax_cron_ready 0\n"
        "# EOF\n"
    )
