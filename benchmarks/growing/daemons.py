"""Cron daemons: one with many jobs, and many on one state database, which may start no occurrence twice."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from statistics import median
from time import sleep

from harness import cpu_seconds

from growing.commands import TENFOLD, cron_jobs
from growing.fit import Cost, Growth, Place
from growing.programs import megabytes, profile, started

DAEMON = (sys.executable, "-m", "katax_cli", "cron", "run-daemon")
IDLE_SECONDS = 10.0
JOBS = 5
SHARED_SECONDS = 10.0
LINE = "echo $KATAX_JOB $KATAX_SCHEDULED_AT $(date +%s.%N) >> starts"


def loading(size: int, place: Place) -> Cost:
    """From the start of a daemon until it runs so many jobs, of which none is due."""
    cron_jobs(place, size)
    daemon, seconds = started(DAEMON, place.folder, f"cron runs {size} jobs")
    cost = Cost(cpu_seconds(daemon.pid), megabytes(daemon.pid), seconds)
    ended([daemon])
    return cost


def idling(size: int, place: Place) -> Cost:
    """What a daemon with nothing to do takes in ten seconds."""
    cron_jobs(place, size)
    daemon, _ = started(DAEMON, place.folder, f"cron runs {size} jobs")
    sleep(2.0)
    before = cpu_seconds(daemon.pid)
    sleep(IDLE_SECONDS)
    cost = Cost(cpu_seconds(daemon.pid) - before, megabytes(daemon.pid), IDLE_SECONDS)
    ended([daemon])
    return cost


def sharing(size: int, place: Place) -> Cost:
    """What so many daemons take together in ten seconds, in which five jobs run every second.

    Raises SystemExit when an occurrence was started twice or never.
    """
    jobs = "".join(
        f'[cron.jobs.j{n}]\nschedule = "@every 1s"\non_overlap = "allow"\ncommand = \'{LINE}\'\n'
        for n in range(JOBS)
    )
    engine = "postgresql" if place.url else "sqlite"
    profile(place, engine, f'[state]\nurl = "{place.url or "sqlite:state.db"}"\n{jobs}')
    daemons = [started(DAEMON, place.folder, f"cron runs {JOBS} jobs")[0] for _ in range(size)]
    before = sum(cpu_seconds(daemon.pid) for daemon in daemons) + place.server_seconds()
    sleep(SHARED_SECONDS)
    used = sum(cpu_seconds(daemon.pid) for daemon in daemons) + place.server_seconds() - before
    most = sum(megabytes(daemon.pid) for daemon in daemons)
    ended(daemons)
    return Cost(used, most, SHARED_SECONDS, accounted((place.folder / "starts").read_text().splitlines()))


def accounted(lines: Sequence[str]) -> str:
    """The starts and how late they were. Raises SystemExit when one is missing or came twice."""
    starts: Counter[tuple[str, int]] = Counter()
    late = []
    for line in lines:
        job, due, at = line.split()
        moment = datetime.fromisoformat(due).timestamp()
        starts[job, int(moment)] += 1
        late.append(float(at) - moment)
    twice = [key for key, number in starts.items() if number > 1]
    lost = [
        (job, second)
        for job in {name for name, _ in starts}
        for seconds in [[at for name, at in starts if name == job]]
        for second in set(range(min(seconds), max(seconds) + 1)) - set(seconds)
    ]
    if twice or lost:
        raise SystemExit(f"{len(twice)} occurrences started twice, {len(lost)} never: {[*twice, *lost][:5]}")
    return (
        f"{len(lines)} occurrences, each started once, {median(late):.2f} s late (at most {max(late):.2f} s)"
    )


def ended(daemons: Sequence[subprocess.Popen[bytes]]) -> None:
    for daemon in daemons:
        daemon.send_signal(signal.SIGTERM)
    codes = {daemon.wait(60.0) for daemon in daemons}
    if codes != {0}:
        raise SystemExit(f"daemons ended with {codes}")


def growths() -> list[Growth]:
    small, many = (1_000, 3_000, 8_000), (1, 3, 10, 30)
    return [
        Growth("cron daemon until it runs, jobs", "sqlite", small, TENFOLD, loading),
        Growth("cron daemon in 10 s without a due job, jobs", "sqlite", small, TENFOLD, idling, tries=1),
        *(
            Growth(
                "5 cron jobs a second for 10 s, daemons", engine, (1, 2, 4), many, sharing,
                start=None, tries=1,
            )
            for engine in ("sqlite", "postgresql")
        ),
    ]  # fmt: skip
