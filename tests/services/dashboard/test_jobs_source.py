"""Jobs and runs as a dashboard shows them, and the daemon that says it lives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from katax_cli.errors import Unavailable
from katax_cli.profiles.load import load_profile
from katax_cli.profiles.model.model import Profile
from katax_cli.services.cron.ledger.store import Runs
from katax_cli.services.cron.ledger.values import Run
from katax_cli.services.cron.manage import Cron
from katax_cli.services.dashboard.jobs_source import JobsWatch
from katax_cli.services.state.store import StateStore
from katax_cli.snapshot import JobRun, JobStatus
from tests.cli.harness import write_profile
from tests.fake_clock import FakeClock
from tests.servers.fixtures import MakeProxy, Target
from tests.services.cron import daemons
from tests.services.cron.daemons import DaemonProcess, until

AT = 1_600_000_000_000
"""Milliseconds since the epoch."""
JOB = '[cron.jobs.{name}]\nschedule = "0 3 * * *"\ntimezone = "Europe/Berlin"\ncommand = "true"\nenabled = {on}\n'


def run(job: str, minute: int, state: str = "ran", **more: object) -> Run:
    at = AT + minute * 60_000
    ended: dict[str, object] = {} if state == "running" else {"finished_at": at + 500}
    return Run(job, at, state=state, started_at=at, **{**ended, **more})  # type: ignore[arg-type]


@pytest.fixture
def made(sql_engine: Target, tmp_path: Path) -> Profile:
    jobs = JOB.format(name="on", on="true") + JOB.format(name="off", on="\"'a' == 'b'\"")
    write_profile(tmp_path, {"main": sql_engine.url}, extra=f'[state]\nurl = "main"\n{jobs}')
    return load_profile("test")


@pytest.fixture
def runs(made: Profile) -> Iterator[Runs]:
    with Cron(made) as cron:
        cron.tables.prepare()
        yield cron.runs


def look(made: Profile) -> JobsWatch:
    watch = JobsWatch(made, clock=FakeClock())
    watch.look(lambda: None)
    watch.close()
    return watch


def jobs(watch: JobsWatch) -> dict[str, JobStatus]:
    assert watch.jobs is not None
    return {job.name: job for job in watch.jobs.rows}


def history(watch: JobsWatch) -> tuple[JobRun, ...]:
    assert watch.history is not None
    return watch.history.rows


def test_a_job_now(made: Profile, runs: Runs) -> None:
    late = run("on", 0, "failed", reason="exit status 3", finished_at=AT + 600_000)
    runs.record([late, run("on", 1, "ran"), run("on", 2, "running"), run("on", 3, "running")])

    seen = jobs(look(made))["on"]

    assert (seen.schedule, seen.timezone, seen.enabled, seen.running) == (
        "0 3 * * *",
        "Europe/Berlin",
        True,
        2,
    )
    assert seen.next_at is not None
    assert seen.next_at.isoformat() == "1970-01-13T03:00:00+01:00"
    # The one that ended last, not the one that began last.
    assert (seen.last_state, seen.last_reason) == ("failed", "exit status 3")
    assert seen.last_finished_at is not None
    assert seen.last_finished_at.timestamp() == AT / 1000 + 600


def test_the_last_run_is_the_one_that_ended_last(made: Profile, runs: Runs) -> None:
    runs.record([run("on", 0, "failed"), run("on", 1, "ran"), run("off", 2, "missed")])

    seen = jobs(look(made))

    assert (seen["on"].last_state, seen["off"].last_state) == ("ran", "missed")


def test_a_job_that_is_off(made: Profile, runs: Runs) -> None:
    seen = jobs(look(made))["off"]

    assert (seen.enabled, seen.next_at, seen.last_state, seen.running) == (False, None, None, 0)


def test_what_became_of_occurrences(made: Profile, runs: Runs) -> None:
    first = run("on", 0, "failed", reason="exit status 3", host="h", output_head="hushhush")
    runs.record([first, *(run("off", minute) for minute in range(1, 60))])

    watch = look(made)

    assert len(history(watch)) == 50
    assert [row.scheduled_at for row in history(watch)] == [AT / 1000 + 60 * m for m in range(59, 9, -1)]
    # What is not shown any more is still the last of its job.
    assert jobs(watch)["on"].last_state == "failed"
    assert "hushhush" not in repr((watch.history, watch._last))


def test_a_run(made: Profile, runs: Runs) -> None:
    made_run = run("on", 0, "failed", reason="exit status 3", host="h")
    runs.record([made_run])

    assert history(look(made)) == (
        JobRun(made_run.run_id, "on", AT / 1000, AT / 1000, 500, "failed", "exit status 3", "h"),
    )


def test_looking_makes_no_file(tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///x.db"}, extra=JOB.format(name="on", on="true"))

    watch = look(load_profile("test"))

    assert (list(jobs(watch)), history(watch)) == (["on"], ())
    assert not (tmp_path / ".katax").exists()


def test_a_state_database_that_was_replaced_is_opened_anew(tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///x.db"}, extra=JOB.format(name="on", on="true"))
    made = load_profile("test")
    watch = JobsWatch(made, clock=FakeClock())
    for state in ("failed", "ran"):
        with Cron(made) as cron:
            cron.tables.prepare()
            cron.runs.record([run("on", 0, state)])
        watch.look(lambda: None)
        assert [row.state for row in history(watch)] == [state]
        assert jobs(watch)["on"].last_state == state
        for file in (tmp_path / ".katax").glob("state.db*"):
            file.unlink()

    watch.look(lambda: None)
    watch.close()
    assert (history(watch), jobs(watch)["on"].last_state) == ((), None)


def test_without_a_state_database_the_jobs_of_the_profile_are_known(closed_port: int, tmp_path: Path) -> None:
    url = f"postgresql://127.0.0.1:{closed_port}/x"
    extra = f'[state]\nurl = "main"\n{JOB.format(name="on", on="true")}'
    write_profile(tmp_path, {"main": url}, extra=extra)
    watch = JobsWatch(load_profile("test"), clock=FakeClock())

    with pytest.raises(Unavailable):
        watch.look(lambda: None)
    watch.close()

    assert (list(jobs(watch)), watch.history) == (["on"], None)


def test_a_daemon_says_that_it_lives(tmp_path: Path) -> None:
    daemons.profile(tmp_path, '[cron.jobs.tick]\nschedule = "@daily"\ncommand = "true"\n')
    daemon = DaemonProcess(tmp_path)
    try:
        with StateStore(load_profile(None)) as store:
            until(store.processes)
            (seen,) = store.processes()
            assert (seen.kind, seen.pid) == ("cron run-daemon", daemon.pid)

            assert daemon.stop() == 0
            until(lambda: not store.processes())
    finally:
        daemon.end()


@pytest.mark.begins_first
def test_a_state_database_that_hangs_keeps_no_daemon_from_its_end(
    postgresql_url: str, proxy: MakeProxy, tmp_path: Path
) -> None:
    wire = proxy(postgresql_url)
    job = '[cron.jobs.tick]\nschedule = "@every 1s"\ncommand = "echo >> ran"\n'
    daemons.profile(tmp_path, job, state=wire.url)
    daemon = DaemonProcess(tmp_path)
    try:
        with StateStore(load_profile(None)) as store:
            until(lambda: store.processes() and (tmp_path / "ran").exists())
        wire.stall()
        daemon.says("this process goes on without it")

        assert daemon.stop() == 0
    finally:
        wire.resume()
        daemon.end()
