"""Promises 7, 8 and 13 with real daemons: every occurrence once, whatever is killed; an orderly end."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from urllib.request import urlopen

import pytest

from katax_cli.profiles.load import load_profile
from katax_cli.services.cron.ledger.values import Run
from katax_cli.services.cron.manage import Cron
from katax_cli.services.processes.tree import processes
from tests.cli.harness import katax
from tests.servers.fixtures import MakeProxy, Target
from tests.servers.rooms import free_port
from tests.services.cron.daemons import PATIENCE, DaemonProcess, history, profile, until
from tests.waiting import patiently

Start = Callable[..., DaemonProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts daemons; whatever still runs at the end is forced to end, jobs too."""
    started: list[DaemonProcess] = []

    def make(*words: str, **environ: str) -> DaemonProcess:
        started.append(DaemonProcess(tmp_path, *words, environ=environ))
        return started[-1]

    yield make
    for daemon in started:
        daemon.end()


SLOW = """
[cron.jobs.slow]
schedule = "@every 1s"
command = "echo $$ >> started; sleep {seconds}; echo done >> ended"
"""


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def occurrences(jobs: int) -> str:
    return "".join(
        f'[cron.jobs.j{number}]\nschedule = "@every 1s"\n'
        'command = "echo $KATAX_JOB $KATAX_SCHEDULED_AT >> starts"\non_overlap = "allow"\n'
        for number in range(jobs)
    )


def run_three(start: Start, folder: Path, enough: Callable[[list[str]], bool], **environ: str) -> None:
    """Three daemons until their starts are enough, then their orderly end."""
    daemons = [start(**{key: value.format(n) for key, value in environ.items()}) for n in range(3)]
    for daemon in daemons:
        daemon.says("cron runs")
    until(lambda: enough(lines(folder / "starts")))
    assert [daemon.stop() for daemon in daemons] == [0, 0, 0]


def check_books(rows: list[Run], starts: list[str]) -> None:
    """Every occurrence from the first to the last is one row and one start."""
    assert {run.state for run in rows} == {"ran"}
    assert Counter(starts).most_common(1)[0][1] == 1
    assert len(rows) == len(starts)
    for job in {run.job for run in rows}:
        planned = [run.scheduled_at // 1000 for run in rows if run.job == job]
        assert planned == list(range(planned[0], planned[-1] + 1))


def test_three_daemons_start_each_occurrence_once(start: Start, sql_engine: Target, tmp_path: Path) -> None:
    profile(tmp_path, occurrences(20), state=sql_engine.url)

    run_three(start, tmp_path, lambda starts: len(starts) >= 100)

    check_books(history(), lines(tmp_path / "starts"))


@pytest.mark.soak
def test_a_thousand_occurrences(start: Start, sql_engine: Target, tmp_path: Path) -> None:
    profile(tmp_path, occurrences(50), state=sql_engine.url)

    run_three(start, tmp_path, lambda starts: len(starts) >= 1000)

    check_books(history(), lines(tmp_path / "starts"))


def test_daemons_without_a_common_state_start_everything_three_times(start: Start, tmp_path: Path) -> None:
    """The bad twin: where the claim is not shared, occurrences start more than once."""
    profile(tmp_path, occurrences(3))

    def more_than_once(starts: list[str]) -> bool:
        return len(set(starts)) < len(starts)

    run_three(start, tmp_path, more_than_once, KATAX_HOME=str(tmp_path / "home{}"))


ORPHAN = """
[cron.jobs.long]
schedule = "@every 1s"
command = "echo begun; echo $$ >> started; while ! [ -e go ]; do echo still; sleep 0.05; done; echo over"
{more}
"""


@pytest.mark.parametrize("restarted", [True, False])
def test_a_job_that_outlives_its_daemon_is_watched(
    restarted: bool, start: Start, sql_engine: Target, tmp_path: Path
) -> None:
    """kill -9 of its daemon: the job goes on writing, overlaps nothing, and another daemon keeps its row."""
    profile(tmp_path, ORPHAN.format(more=""), state=sql_engine.url)
    first = start()
    until(lambda: lines(tmp_path / "started"))
    second = None if restarted else start()
    if second is not None:
        second.says("cron runs")
    first.kill()
    second = second or start()
    second.says("outlived its daemon and is watched")
    second.says("job 'long': skipped: run ")
    (left,) = lines(tmp_path / "started")
    assert any(seen.pid == int(left) and seen.state not in "ZX" for seen in processes())
    (tmp_path / "go").touch()
    until(lambda: len(lines(tmp_path / "started")) > 1)

    assert second.stop() == 0
    rows = history()
    assert (rows[0].state, rows[0].reason, rows[0].exit_status) == ("failed", "exit status unknown", None)
    assert (rows[0].output_head or "").endswith("still\nover\n")
    assert {run.state for run in rows[1:]} == {"skipped", "ran"}


def test_the_timeout_of_a_job_ends_it_after_a_restart(start: Start, tmp_path: Path) -> None:
    profile(tmp_path, ORPHAN.format(more="timeout = 3.0\nkill_after = 0.2"))
    first = start()
    until(lambda: lines(tmp_path / "started"))
    first.kill()
    second = start()

    until(lambda: any(run.state == "killed" for run in history()))
    second.end()
    assert history()[0].reason == "timed out after 3 s"
    (left, *_) = lines(tmp_path / "started")
    assert not any(seen.pid == int(left) and seen.state not in "ZX" for seen in processes())


def test_a_frozen_daemon_takes_its_job_back(start: Start, tmp_path: Path) -> None:
    """Another one watches the job when the lease has run out; the job is not killed, and its end is known."""
    profile(tmp_path, ORPHAN.format(more=""))
    first = start()
    until(lambda: lines(tmp_path / "started"))
    with closing(
        sqlite3.connect(
            load_profile(None).state.connection.path or "", timeout=PATIENCE, isolation_level=None
        )
    ) as state:
        # Frozen while it held the file's lock, it would keep everyone from writing.
        state.execute("BEGIN IMMEDIATE")
        first.signal(signal.SIGSTOP)
        until(lambda: any(seen.pid == first.pid and seen.state == "T" for seen in processes()))
        state.execute("UPDATE katax_cron_runs SET lease_until = 0")
        state.execute("COMMIT")
    second = start()
    second.says("outlived its daemon and is watched")
    (watcher,) = {run.daemon for run in history() if run.state == "running"}
    first.signal(signal.SIGCONT)
    until(lambda: {run.daemon for run in history() if run.state == "running"} - {watcher})
    until(lambda: any(run.state == "skipped" for run in history()))
    (tmp_path / "go").touch()
    until(lambda: len(lines(tmp_path / "started")) > 1)

    assert [first.stop(), second.stop()] == [0, 0]
    assert history()[0].state == "ran"
    assert {run.state for run in history()} == {"ran", "skipped"}


def test_what_nobody_ran_is_one_row(start: Start, tmp_path: Path) -> None:
    """What was due while no daemon ran is accounted for at the start: one run, and one row for the others."""
    # Nothing becomes due meanwhile: a minute can end in any second of a test.
    week = 7 * 24 * 3_600_000
    profile(tmp_path, '[cron.jobs.tick]\nschedule = "@every 7d"\ncommand = "true"\n')
    with Cron(load_profile(None)) as cron:
        cron.tables.prepare()
        before = int(cron.clock.now()) * 1000 - 60 * week
        cron.definitions.note_schedules([("tick", "@every 7d", f"@every {week // 1000}s", before)])

    daemon = start()
    until(lambda: len(history()) >= 2 and "running" not in {run.state for run in history()})

    assert daemon.stop() == 0
    missed, *others = history()
    assert (missed.state, missed.reason) == ("missed", "no daemon was there in time")
    assert {run.state for run in others} == {"ran"}
    planned = [missed.scheduled_at + week * number for number in range(missed.count)]
    planned += [run.scheduled_at for run in others]
    assert planned == list(range(before // week * week + week, planned[-1] + 1, week))
    assert len(planned) == 60
    assert missed.until_at == planned[missed.count - 1]


def test_term_lets_jobs_end(start: Start, tmp_path: Path) -> None:
    profile(tmp_path, SLOW.format(seconds=1))
    daemon = start()
    until(lambda: lines(tmp_path / "started"))

    assert daemon.stop() == 0
    assert len(lines(tmp_path / "ended")) == len(lines(tmp_path / "started"))
    assert {run.state for run in history()} <= {"ran", "skipped"}


def test_the_deadline_ends_what_does_not_end(start: Start, tmp_path: Path) -> None:
    """It is named, its row says why, and the exit code is not 0."""
    profile(tmp_path, SLOW.format(seconds=600) + "kill_after = 0.2\n")
    file = tmp_path / "profiles" / "test.toml"
    file.write_text(file.read_text().replace(f"timeout = {PATIENCE}", "timeout = 1.0"))
    daemon = start()
    until(lambda: lines(tmp_path / "started"))

    assert daemon.stop() == 1
    assert "the deadline has come; stopped: slow" in daemon.log
    killed = [run for run in history() if run.state == "killed"]
    assert [run.reason for run in killed] == ["the daemon shut down"]


def test_a_second_signal_forces(start: Start, tmp_path: Path) -> None:
    profile(tmp_path, SLOW.format(seconds=600))
    daemon = start()
    until(lambda: lines(tmp_path / "started"))
    daemon.signal(signal.SIGTERM)
    daemon.says("draining")
    daemon.signal(signal.SIGTERM)

    assert daemon.ended() == 128 + signal.SIGTERM
    assert "forced by a second signal; killed: slow" in daemon.log
    assert {run.reason for run in history() if run.state == "killed"} == {"forced by a second signal"}


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2])
def test_reloading(start: Start, number: signal.Signals, tmp_path: Path) -> None:
    """A new job runs, a removed one does not; a broken file changes nothing."""
    profile(tmp_path, '[cron.jobs.old]\nschedule = "@every 1s"\ncommand = "echo old >> ran"\n')
    daemon = start()
    until(lambda: "old" in lines(tmp_path / "ran"))

    profile(tmp_path, "[cron.jobs.old]\nschedule = 5\n")
    daemon.signal(number)
    daemon.says("not reloaded: ")
    profile(tmp_path, '[cron.jobs.new]\nschedule = "@every 1s"\ncommand = "echo new >> ran"\n')
    daemon.signal(number)
    daemon.says("reloaded: 1 jobs")
    until(lambda: lines(tmp_path / "ran")[-2:] == ["new", "new"])

    assert daemon.stop() == 0


def test_added_jobs_are_noticed(start: Start, tmp_path: Path) -> None:
    """Added, disabled, enabled and removed while the daemon runs."""
    profile(tmp_path, "")
    daemon = start()
    daemon.says("cron runs 0 jobs")

    assert katax("cron", "add", "later", "@every 1s", "--command", "echo x >> ran").code == 0
    until(lambda: lines(tmp_path / "ran"))
    assert katax("cron", "disable", "later").code == 0
    daemon.says("jobs changed: 0 of 1 enabled")
    assert katax("cron", "enable", "later").code == 0
    daemon.says("jobs changed: 1 of 1 enabled")
    assert katax("cron", "remove", "later").code == 0
    assert daemon.stop() == 0
    assert {run.job for run in history()} == {"later"}


def test_metrics_and_readiness(start: Start, tmp_path: Path) -> None:
    port = free_port()
    profile(tmp_path, SLOW.format(seconds=0))
    daemon = start("--metrics-port", str(port))
    until(lambda: lines(tmp_path / "ended"))
    until(lambda: any(run.state == "ran" for run in history()))

    def get(path: str) -> str:
        with urlopen(f"http://127.0.0.1:{port}{path}") as answer:
            return str(answer.read().decode())

    assert (get("/live"), get("/ready")) == ("live\n", "ready\n")
    until(lambda: 'katax_cron_runs_total{job="slow",state="ran"} ' in get("/metrics"))
    assert get("/metrics").endswith("# EOF\n")
    assert "katax_cron_jobs 1\n" in get("/metrics")
    assert daemon.stop() == 0, daemon.log


def test_a_crontab_file(start: Start, tmp_path: Path) -> None:
    """Beside the jobs of the profile; `%`, variables and @reboot are honoured."""
    profile(tmp_path, "")
    (tmp_path / "crontab").write_text("WHO=world\n* * * * * * cat >> ran%hello\n@reboot echo $WHO >> boot\n")
    daemon = start("--crontab", "crontab")
    daemon.says("cron runs 2 jobs")
    until(lambda: lines(tmp_path / "ran"))
    until(lambda: lines(tmp_path / "boot"))

    assert daemon.stop() == 0
    assert set(lines(tmp_path / "ran")) == {"hello"}
    assert lines(tmp_path / "boot") == ["world"]
    assert [run.trigger for run in history("echo")] == ["init"]


def test_a_crontab_that_is_wrong_is_no_start(tmp_path: Path) -> None:
    profile(tmp_path, "")
    (tmp_path / "crontab").write_text("61 * * * * true\n")

    done = katax("cron", "run-daemon", "--crontab", "crontab")

    assert done.code == 2
    assert "crontab 'crontab': line 1: '61 * * * *' is no schedule: out of range" in done.err


def test_output_is_in_the_log(start: Start, tmp_path: Path) -> None:
    profile(tmp_path, '[cron.jobs.say]\nschedule = "@every 1s"\ncommand = "echo said; printf unended >&2"\n')
    daemon = start("--log-format", "json")
    daemon.says('"job": "say", "run_id": "')

    assert daemon.stop() == 0
    assert '"message": "say: said"' in daemon.log
    assert '"message": "say: unended"' in daemon.log


def test_a_replaced_run_is_killed(start: Start, tmp_path: Path) -> None:
    profile(tmp_path, SLOW.format(seconds=600) + 'on_overlap = "replace"\nkill_after = 0.2\n')
    daemon = start()
    until(lambda: len(lines(tmp_path / "started")) >= 3)
    daemon.signal(signal.SIGTERM)
    daemon.says("draining")
    daemon.signal(signal.SIGTERM)
    daemon.ended()

    rows = history()
    first = next(run for run in rows if run.started_at is not None)
    assert first.state == "killed"
    assert (first.reason or "").startswith("replaced by run ")


def test_a_job_that_ends_with_0_after_its_timeout_has_failed(start: Start, tmp_path: Path) -> None:
    """It is tried again, and `on_failure` finds the run in its environment."""
    rounds: list[float] = []

    def is_told(seconds: float) -> bool:
        rounds.append(seconds)
        profile(
            tmp_path,
            f'[cron.jobs.slow]\nschedule = "@reboot"\ntimeout = {seconds}\nretries = 1\n'
            "command = \"exec 2>/dev/null; trap 'exit 0' TERM; echo $KATAX_ATTEMPT; while :; do sleep 0.1; done\"\n"
            'on_failure = "echo $KATAX_JOB $KATAX_STATE $KATAX_EXIT_STATUS $KATAX_REASON: $KATAX_OUTPUT >> told"\n',
        )
        daemon = start()
        until(lambda: len(lines(tmp_path / "told")) == len(rounds))
        assert daemon.stop() == 0
        told, runs = lines(tmp_path / "told")[-1], history()
        assert [len(runs), runs[-1].state, runs[-1].attempt] == [len(rounds), "killed", 2]
        if not told.endswith(": 1 2"):
            return False  # on a busy machine the time was over before the shell had its trap
        assert told == f"slow killed 0 timed out after {seconds:g} s: 1 2"
        assert runs[-1].exit_status == 0
        return True

    patiently(is_told, shortest=0.5)


def test_a_changed_file_is_read_again(start: Start, tmp_path: Path) -> None:
    profile(tmp_path, "")
    (tmp_path / "crontab").write_text("* * * * * * echo old >> ran\n")
    daemon = start("--crontab", "crontab")
    until(lambda: lines(tmp_path / "ran"))

    (tmp_path / "crontab").write_text("wrong\n")
    daemon.says("not reloaded: crontab 'crontab': line 1")
    (tmp_path / "crontab").write_text("* * * * * * echo new >> ran\n")
    until(lambda: "new" in lines(tmp_path / "ran"))
    profile(tmp_path, '[cron.jobs.third]\nschedule = "@every 1s"\ncommand = "echo third >> ran"\n')
    until(lambda: "third" in lines(tmp_path / "ran"))

    assert daemon.stop() == 0


def test_a_lost_lease_ends_the_job(start: Start, tmp_path: Path) -> None:
    """A daemon whose row was closed by another one kills the run: by now it may run elsewhere."""
    profile(tmp_path, SLOW.format(seconds=600))
    daemon = start()
    until(lambda: lines(tmp_path / "started"))
    with Cron(load_profile(None)) as cron:
        cron.tables.run("UPDATE katax_cron_runs SET state = 'failed' WHERE state = 'running'")

    daemon.says("the lease of 1 runs was lost; they are killed")

    (pid, *_) = [int(line) for line in lines(tmp_path / "started")]
    until(lambda: not any(seen.pid == pid and seen.state not in "ZX" for seen in processes()))


def test_code_from_a_shared_database_is_not_run(start: Start, postgresql_url: str, tmp_path: Path) -> None:
    """Unless the profile of the daemon allows it; a statement is bound by the profile anyway."""
    profile(tmp_path, "", state=postgresql_url, extra="allow_dynamic_commands = true")
    assert katax("cron", "add", "code", "@every 1s", "--command", "echo x >> ran").code == 0
    assert katax("cron", "add", "data", "@every 1s", "--sql", "select 1").code == 0
    profile(tmp_path, "", state=postgresql_url)

    daemon = start()
    until(lambda: any(run.job == "data" and run.state == "ran" for run in history()))

    assert daemon.stop() == 0
    assert "refused: job 'code' was added with a command to a shared state database" in daemon.log
    assert not lines(tmp_path / "ran")


def test_term_ends_a_run_by_hand_with_its_tree(tmp_path: Path) -> None:
    profile(tmp_path, SLOW.format(seconds=600))
    words = [sys.executable, "-m", "katax_cli", "cron", "run", "slow"]
    with subprocess.Popen(words, cwd=tmp_path) as command:
        until(lambda: lines(tmp_path / "started"))
        command.terminate()

    assert command.returncode == 143
    (pid,) = [int(line) for line in lines(tmp_path / "started")]
    assert not any(seen.pid == pid and seen.state not in "ZX" for seen in processes())
    assert [(run.state, run.reason) for run in history()] == [("killed", "interrupted")]


def test_queued_runs_come_one_after_the_other(start: Start, tmp_path: Path) -> None:
    profile(tmp_path, SLOW.format(seconds=1.4) + 'on_overlap = "queue"\n')
    daemon = start()
    until(lambda: len(lines(tmp_path / "ended")) >= 2)
    assert daemon.stop() == 0

    ran = [run for run in history() if run.state == "ran"]
    assert all((earlier.finished_at or 0) <= (later.started_at or 0) for earlier, later in pairwise(ran))
    assert {run.reason for run in history() if run.state == "skipped"} <= {"the daemon shut down"}


def test_what_waits_is_given_up_when_its_job_is_removed(start: Start, tmp_path: Path) -> None:
    profile(tmp_path, SLOW.format(seconds=600) + 'on_overlap = "queue"\nkill_after = 0.2\n')
    daemon = start()
    until(lambda: sum(run.state == "running" for run in history()) >= 2)
    profile(tmp_path, '[cron.jobs.other]\nschedule = "@every 1s"\ncommand = "echo >> other"\n')
    until(lambda: lines(tmp_path / "other"))
    (pid, *more) = lines(tmp_path / "started")
    os.killpg(int(pid), signal.SIGKILL)
    until(lambda: not [run for run in history("slow") if run.state == "running"])

    assert daemon.stop() == 0
    assert not more
    first, *waited = history("slow")
    assert first.state == "failed"
    assert {(run.state, run.reason) for run in waited} == {("skipped", "its job was removed")}


def test_what_was_missed_runs_one_after_the_other_under_allow(start: Start, tmp_path: Path) -> None:
    work = "echo begin >> started; sleep 0.2; echo end >> started"
    policy = 'on_overlap = "allow"\non_miss = "all"'
    profile(tmp_path, f'[cron.jobs.tick]\nschedule = "@every 7d"\ncommand = "{work}"\n{policy}\n')
    with Cron(load_profile(None)) as cron:
        cron.tables.prepare()
        week = 7 * 24 * 3600
        before = (int(cron.clock.now()) - 5 * week) * 1000
        cron.definitions.note_schedules([("tick", "@every 7d", f"@every {week}s", before)])

    daemon = start()
    until(lambda: len(lines(tmp_path / "started")) >= 10)

    assert daemon.stop() == 0
    assert lines(tmp_path / "started")[:10] == ["begin", "end"] * 5
    assert [run.reason for run in history()][:5] == ["was missed, runs late"] * 5


@pytest.mark.parametrize("replaced", [False, True])
def test_a_state_file_that_is_removed_is_noticed(replaced: bool, start: Start, tmp_path: Path) -> None:
    """What runs goes on and is written to the new file; no occurrence starts twice over both daemons."""
    url = f"sqlite:///{tmp_path / 'state.db'}"
    tick = 'schedule = "@every 1s"\ncommand = "echo $KATAX_SCHEDULED_AT >> ticks"\non_overlap = "allow"\n'
    profile(tmp_path, SLOW.format(seconds=600) + f"kill_after = 0.2\n[cron.jobs.tick]\n{tick}", state=url)
    daemons = [start(), start()]
    until(lambda: len(lines(tmp_path / "ticks")) >= 3 and lines(tmp_path / "started"))
    for file in tmp_path.glob("state.db*"):
        file.unlink()
    if replaced:
        (tmp_path / "state.db").touch()
    for daemon in daemons:
        daemon.says("the state database was removed or replaced: its history is lost")
    before = len(lines(tmp_path / "ticks"))
    until(lambda: len(lines(tmp_path / "ticks")) >= before + 3)
    until(lambda: any(run.state == "skipped" for run in history("slow")))

    assert [run.state for run in history("slow")].count("running") == 1
    for daemon in daemons:
        # First, or the next occurrence would start once this one is dead.
        daemon.signal(signal.SIGTERM)
        daemon.says("draining")
    for pid in lines(tmp_path / "started"):
        os.killpg(int(pid), signal.SIGKILL)
    assert [daemon.ended() for daemon in daemons] == [0, 0]
    ticks = lines(tmp_path / "ticks")
    assert len(ticks) == len(set(ticks))
    assert "running" not in {run.state for run in history()}


def test_it_starts_without_its_state_database(start: Start, tmp_path: Path, closed_port: int) -> None:
    """Nothing starts, nothing crashes, and it ends when it is told to."""
    profile(tmp_path, SLOW.format(seconds=0), state=f"postgresql://x@127.0.0.1:{closed_port}/x")
    daemon = start()
    daemon.says("the state database cannot be used: ")
    daemon.says("nothing starts until it can")
    daemon.says("cron runs 1 jobs")

    assert daemon.stop() == 0
    assert not lines(tmp_path / "started")


@pytest.mark.parametrize("on_miss", ["once", "skip"])
def test_what_was_missed_before_a_start_without_the_state_database_is_accounted_for(
    on_miss: str, start: Start, proxy: MakeProxy, postgresql_url: str, tmp_path: Path
) -> None:
    """Once it is back: one row for each occurrence, of the hour before, of the outage, and after it."""
    jobs = SLOW.format(seconds=0) + f'on_miss = "{on_miss}"\n' + occurrences(1)
    wire = proxy(postgresql_url)
    profile(tmp_path, jobs, state=wire.url)
    with Cron(load_profile(None)) as cron:
        cron.tables.prepare()
        before = int(cron.clock.now()) - 3600
        cron.definitions.note_schedules([("slow", "@every 1s", "@every 1s", before * 1000)])
    wire.refuse()
    wire.cut()

    daemon = start()
    daemon.says("nothing starts until it can")
    daemon.says("cron runs 2 jobs")
    wire.come_back()
    daemon.says("the state database works again")
    until(lambda: len(lines(tmp_path / "ended")) > 1)
    assert daemon.stop() == 0

    rows = history("slow")
    planned = [run.scheduled_at // 1000 + number for run in rows for number in range(run.count)]
    assert planned == list(range(before + 1, planned[-1] + 1))
    assert (rows[0].state, rows[0].count > 3400) == ("missed", True)
    assert {run.state for run in rows} >= {"missed", "ran"}
    fresh = [run.scheduled_at // 1000 for run in history("j0")]
    assert fresh == list(range(fresh[0], fresh[-1] + 1))
    with Cron(load_profile(None)) as cron:
        known = {each.job: each.accounted_until for each in cron.definitions.jobs()}
    assert known == {"slow": planned[-1] * 1000, "j0": fresh[-1] * 1000}


@pytest.mark.parametrize("deadline", [60.0, 1.0])
def test_an_outage_of_the_state_database(
    deadline: float, start: Start, proxy: MakeProxy, postgresql_url: str, tmp_path: Path
) -> None:
    """What is due meanwhile starts late, within `start_deadline`; what is later than that was missed. One row each."""
    wire = proxy(postgresql_url)
    more = f'on_overlap = "allow"\non_miss = "skip"\nstart_deadline = {deadline}\n'
    profile(tmp_path, SLOW.format(seconds=0) + more, state=wire.url)
    daemon = start()
    daemon.says("job 'slow': run ")
    wire.refuse()
    wire.cut()
    daemon.says("nothing starts until it can")
    # A job that was claimed before may still have to write its line.
    until(lambda: len(lines(tmp_path / "started")) == daemon.log.count(" starts\n"))
    seen, began = len(lines(tmp_path / "started")), time.time()
    until(lambda: time.time() > began + 4)
    assert len(lines(tmp_path / "started")) == seen
    wire.come_back()
    daemon.says("the state database works again")
    until(lambda: len(lines(tmp_path / "ended")) > seen)

    assert daemon.stop() == 0
    rows = history()
    planned = [run.scheduled_at // 1000 + number for run in rows for number in range(run.count)]
    assert planned == list(range(planned[0], planned[-1] + 1))
    assert len(lines(tmp_path / "started")) == sum(run.state == "ran" for run in rows)
    missed = {run.reason for run in rows if run.state == "missed"}
    outage = "the state database was not available"
    # A machine that stands still for a second misses such a deadline, too.
    assert missed - {"no daemon was there in time"} == (set() if deadline == 60.0 else {outage})


@pytest.mark.begins_first
def test_a_busy_state_file_is_waited_for(start: Start, tmp_path: Path) -> None:
    """Somebody holds SQLite's write lock for longer than a call waits: three daemons start each occurrence once."""
    profile(tmp_path, occurrences(3))
    daemons = [start() for _ in range(3)]
    for daemon in daemons:
        daemon.says("cron runs")
    until(lambda: lines(tmp_path / "starts"))
    path = load_profile(None).state.connection.path or ""
    holder = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    for daemon in daemons:
        daemon.says("nothing starts until it can")
    seen = len(lines(tmp_path / "starts"))
    holder.rollback()
    holder.close()
    until(lambda: len(lines(tmp_path / "starts")) > seen + 30)

    assert [daemon.stop() for daemon in daemons] == [0, 0, 0]
    check_books(history(), lines(tmp_path / "starts"))


def test_a_daemon_needs_a_profile_or_a_word(tmp_path: Path) -> None:
    """The built-in profile is used only when it is named: a container without its configuration must fail."""
    done = katax("cron", "run-daemon")

    assert done.code == 4
    assert "repeat with -p local" in done.err
    assert not (tmp_path / ".katax").exists()
