"""The scheduler: next occurrences beside APScheduler's, a hundred starts beside a bare Popen loop, and what ten
thousand jobs cost a daemon that has nothing to do."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from zoneinfo import ZoneInfo

from harness import Work, compare, cpu_seconds, finish, present, row

from katax_cli.core.schedule.schedule import parse_schedule
from katax_cli.profiles.load import load_profile
from katax_cli.profiles.model.model import Profile
from katax_cli.services.cron.definition.jobs import job_of
from katax_cli.services.cron.ledger.accounting import StoredRunLedger
from katax_cli.services.cron.manage import Cron
from katax_cli.services.cron.run.execution import JobContext
from katax_cli.services.cron.run.process import JobProcess
from katax_cli.services.cron.run.scheduler import Scheduler

ZONE = "America/New_York"
SCHEDULES = ("*/5 * * * *", "30 2 * * *", "0 9-17 * * mon-fri", "0 0 1,15 * *")
FIRES = 500
STARTS = 100
ROUNDS = 7
JOBS = 10_000
IDLE_SECONDS = 10.0
MEMORY_ALLOWED = 150.0
CPU_ALLOWED = 0.02
START = 1_800_000_000


def main() -> int:
    compare(
        f"cron: {FIRES} next fires of {len(SCHEDULES)} schedules",
        katax=katax_fires(),
        peers={"APScheduler": apscheduler_fires() if present("apscheduler") else None},
        target=0.2,
    )
    with tempfile.TemporaryDirectory() as folder:
        simultaneous_starts(Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        fits = idle_daemon(Path(folder))
    return finish() or int(not fits)


def katax_fires() -> Work:
    schedules = [parse_schedule(text, ZONE) for text in SCHEDULES]

    def run() -> None:
        for schedule in schedules:
            at: int | None = START
            for _ in range(FIRES):
                assert at is not None
                at = schedule.after(at)

    return run


def apscheduler_fires() -> Work:
    from apscheduler.triggers.cron import CronTrigger

    zone = ZoneInfo(ZONE)
    triggers = [CronTrigger.from_crontab(text, zone) for text in SCHEDULES]

    def run() -> None:
        for trigger in triggers:
            at = datetime.fromtimestamp(START, UTC).astimezone(zone)
            for _ in range(FIRES):
                at = trigger.get_next_fire_time(at, at + timedelta(microseconds=1))

    return run


def simultaneous_starts(folder: Path) -> None:
    """From the moment at which a hundred jobs are due to the start of the last of them, claims included.

    The daemon has run jobs before: with its first one it starts the process that bounds their outputs.
    """
    profile = new_profile(folder, "")
    ours, bare = [], []
    with Cron(profile) as cron:
        cron.tables.prepare()
        scheduler = Scheduler(
            JobContext(profile), StoredRunLedger(cron.runs), host="h", daemon="d", lookup=os.environ.get
        )
        for number in range(STARTS):
            job = job_of(f"j{number}", {"schedule": "@yearly", "command": ["true"]}, timezone="UTC")
            scheduler.put(job, START)
        katax_starts(scheduler)
        for _ in range(ROUNDS):
            ours.append(katax_starts(scheduler))
            bare.append(popen_starts())
    row(
        f"cron: {STARTS} simultaneous starts, to the last one",
        katax_seconds=median(ours),
        peer_name="bare Popen loop",
        peer_seconds=median(bare),
        target=1.15,
    )


def katax_starts(scheduler: Scheduler) -> float:
    started: list[float] = []
    before = JobProcess._start

    def watched(process: JobProcess, *arguments: object) -> subprocess.Popen[bytes]:
        made: subprocess.Popen[bytes] = before(process, *arguments)  # type: ignore[arg-type]
        started.append(time.perf_counter())
        return made

    JobProcess._start = watched  # type: ignore[method-assign, assignment]
    try:
        begin = time.perf_counter()
        scheduler.trigger(scheduler.jobs, "manual")
        wait_until(lambda: len(started) == STARTS and not scheduler.running())
    finally:
        JobProcess._start = before  # type: ignore[method-assign]
    return max(started) - begin


def popen_starts() -> float:
    begin = time.perf_counter()
    processes = [
        subprocess.Popen(
            ["true"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        for _ in range(STARTS)
    ]
    seconds = time.perf_counter() - begin
    for process in processes:
        process.communicate()
    return seconds


def wait_until(holds: Callable[[], bool]) -> None:
    while not holds():
        time.sleep(0.01)


def new_profile(folder: Path, jobs: str) -> Profile:
    (folder / "profiles").mkdir()
    text = f'role = "dev"\n[connections.main]\ntype = "sqlite"\nurl = "sqlite:///main.db"\n{jobs}'
    (folder / "profiles" / "bench.toml").write_text(text)
    os.chdir(folder)
    return load_profile("bench")


def idle_daemon(folder: Path) -> bool:
    """Memory and processor time of a daemon with ten thousand jobs of which none is due."""
    jobs = "".join(
        f'[cron.jobs.job-{number}]\nschedule = "{number % 60} {number % 24} {number % 28 + 1} 1 *"\n'
        f'command = "echo {number}"\n'
        for number in range(JOBS)
    )
    new_profile(folder, jobs)
    daemon = subprocess.Popen(
        [sys.executable, "-m", "katax_cli", "cron", "run-daemon"], stderr=subprocess.PIPE, text=True
    )
    assert daemon.stderr is not None
    while f"cron runs {JOBS} jobs" not in daemon.stderr.readline():
        assert daemon.poll() is None
    time.sleep(3.0)
    before = cpu_seconds(daemon.pid)
    time.sleep(IDLE_SECONDS)
    share = (cpu_seconds(daemon.pid) - before) / IDLE_SECONDS
    memory = megabytes(daemon.pid)
    daemon.terminate()
    daemon.communicate()
    print(
        f"cron: {JOBS} jobs: {memory:.0f} MB (≤ {MEMORY_ALLOWED:.0f}), {share:.2%} of a core (≤ {CPU_ALLOWED:.0%})"
    )
    return memory <= MEMORY_ALLOWED and share <= CPU_ALLOWED


def megabytes(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return float(text.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    sys.exit(main())
