"""Jobs of a program: callables on a schedule, in named threads of this process. Nothing is stored."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from logging import getLogger

from katax_cli.core.clock import SYSTEM
from katax_cli.core.forks import follow
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.schedule.schedule import Never
from katax_cli.errors import ConfigError, KataxError
from katax_cli.profiles.model.model import Profile
from katax_cli.services.cron.definition.catalog import timezone_of
from katax_cli.services.cron.definition.jobs import Job, JobCondition, job_named
from katax_cli.services.cron.identity import daemon_id, host_name
from katax_cli.services.cron.ledger.values import Run, job_status
from katax_cli.services.cron.run.execution import JobContext
from katax_cli.services.cron.run.scheduler import SHUT_DOWN, MemoryRunLedger, Scheduler
from katax_cli.snapshot import JobStatus

_log = getLogger("katax.cron")
_BEAT = 60.0
_POLL = 0.02


class ProgramCron:
    """The jobs of one program; thread-safe. Its thread begins with the first job and ends with `close`."""

    name = "cron"

    def __init__(self, profile: Profile) -> None:
        self.zone = timezone_of(profile)
        self._lock = threading.RLock()
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None
        self._last: dict[str, Run] = {}
        self._conditions: dict[str, bool | JobCondition | Callable[[], bool]] = {}
        self._profile = profile
        self._elsewhere: int | None = None
        self._scheduler = self._new_scheduler()
        follow(self)

    def after_fork(self) -> None:
        """The jobs stay those of the parent, or each would be run once by every child."""
        if self._thread is not None and not self._scheduler.draining:
            self._elsewhere = os.getppid()
            _log.warning(
                "the cron jobs of process %d run there and not in its child %d; add jobs after the fork",
                self._elsewhere,
                os.getpid(),
            )
        self._lock = threading.RLock()
        self._changed = threading.Event()
        self._thread = None
        self._last, self._conditions = {}, {}
        self._scheduler = self._new_scheduler()

    def _new_scheduler(self) -> Scheduler:
        return Scheduler(
            JobContext(self._profile, SYSTEM),
            MemoryRunLedger(),
            host=host_name(),
            daemon=daemon_id(),
            lookup=os.environ.get,
            on_end=self._ended,
        )

    def add(self, job: Job, *, run_on_init: bool = False) -> None:
        """Adds a job of this program. Raises ConfigError for a name in use, or once it was shut down."""
        with self._lock:
            if job.name in self._scheduler.jobs:
                raise ConfigError(f"job {job.name!r} exists; remove it first")
            if self._scheduler.draining:
                raise ConfigError(f"job {job.name!r} comes too late: cron was shut down")
            self._conditions[job.name] = job.enabled
            self._scheduler.put(job, SYSTEM.now())
            if (run_on_init or isinstance(job.schedule, Never)) and job.is_enabled():
                self._scheduler.trigger([job.name], "init")
        self._wake()

    def jobs(self) -> list[JobStatus]:
        """All jobs, in the order in which they were added."""
        with self._lock:
            return [self._status(job) for job in self._scheduler.jobs.values()]

    def remove(self, name: str) -> None:
        """Forgets a job; what runs of it goes on. Raises ConfigError for an unknown one."""
        with self._lock:
            self._job(name)
            self._scheduler.drop(name)

    def switch(self, name: str, *, on: bool) -> None:
        """Turns a job off, or on: then its own condition rules again. Raises ConfigError for an unknown one."""
        with self._lock:
            job = self._job(name)
            own = self._conditions[name] or True
            self._scheduler.put(replace(job, enabled=own if on else False), SYSTEM.now())
        self._wake()

    def run(self, name: str) -> None:
        """Starts a job now, beside its schedule, unless `on_overlap` forbids it. Raises ConfigError."""
        with self._lock:
            self._job(name)
            self._scheduler.trigger([name], "manual")

    def close(self, *, timeout: float = 0.0) -> None:
        """Starts nothing more and waits for what runs. Raises KataxError naming what goes on."""
        deadline = Deadline(timeout)
        with self._lock:
            self._scheduler.drain()
        self._changed.set()
        while self._scheduler.running() and not deadline.expired:
            SYSTEM.sleep(min(_POLL, deadline.remaining()))
        left = self._scheduler.stop_all(SHUT_DOWN)
        if left:
            raise KataxError(f"jobs still run, and their threads go on: {', '.join(left)}")

    def _job(self, name: str) -> Job:
        if self._elsewhere is not None and name not in self._scheduler.jobs:
            raise ConfigError(
                f"job {name!r} is not one of this process; the jobs of its parent {self._elsewhere} run there: "
                "add the job after the fork"
            )
        return job_named(self._scheduler.jobs.values(), name)

    def _status(self, job: Job) -> JobStatus:
        running = sum(run.job == job.name for run in self._scheduler.running())
        return job_status(
            job, self._last.get(job.name), enabled=job.is_enabled(), running=running, now=SYSTEM.now()
        )

    def _ended(self, run: Run) -> None:
        self._last[run.job] = run
        self._changed.set()

    def _wake(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="katax-cron", daemon=True)
                self._thread.start()
        self._changed.set()

    def _loop(self) -> None:
        while not self._scheduler.draining:
            self._changed.clear()
            with self._lock:
                self._scheduler.tick()
                next_at = self._scheduler.next_at
            self._changed.wait(_BEAT if next_at is None else min(_BEAT, max(0.0, next_at - SYSTEM.now())))
