"""One run from its claim to its end: waiting its turn, attempts, output, and what its row says afterwards."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.engine_names import SQL_ENGINES
from katax_cli.core.resilience.retry import RetryPolicy
from katax_cli.core.roles import YES_CONFIRMS
from katax_cli.errors import DeadlineExceeded, KataxError
from katax_cli.profiles.model.model import Profile
from katax_cli.services.calls import left_behind
from katax_cli.services.cron.definition.jobs import Callback, Command, Job, KataxCommand, Python, Sql
from katax_cli.services.cron.identity import daemon_id
from katax_cli.services.cron.ledger.values import Run
from katax_cli.services.cron.run.logins import Login, login_of
from katax_cli.services.cron.run.orphans import OrphanProcess, mark_of
from katax_cli.services.cron.run.outputs import Sink
from katax_cli.services.cron.run.plan import CATCHING_UP, WAITING, WAITING_TO_CATCH_UP
from katax_cli.services.cron.run.process import Captured, Ended, JobProcess
from katax_cli.snapshot import JobState

_log = logging.getLogger("katax.cron")
_output = logging.getLogger("katax.cron.output")
LOGGED_BYTES = 1024 * 1024
_LINE_BYTES = 8 * 1024
_BETWEEN = RetryPolicy(initial=1.0, max=60.0)
_TELLING_SECONDS = 60.0
_STARTED: Mapping[str | None, str | None] = {WAITING: None, WAITING_TO_CATCH_UP: CATCHING_UP}
"""What is said of a run that has waited, once it starts."""
_NOT_FOUND, _NOT_STARTED, _FAILED = 127, 126, 1
CALL = "import sys; from katax_cli.services.cron.run.call import main; main(sys.argv[1])"


@dataclass(frozen=True, slots=True)
class JobContext:
    """The context of jobs: the profile's folder and its connections."""

    profile: Profile
    clock: Clock = SYSTEM


class Activity(Protocol):
    """Work under way, which another thread may end."""

    def stop(self, reason: str, *, force: bool = False) -> None: ...

    def run(self, *, timeout: float | None, kill_after: float) -> Ended: ...


class LoggedLines:
    """Output as log lines, up to a size; then one line says that there is more."""

    def __init__(self, job: str, run_id: str) -> None:
        self._extra = {"job": job, "run_id": run_id}
        self._parts: dict[str, bytes] = {}
        self._left = LOGGED_BYTES

    def add(self, name: str, data: bytes) -> None:
        if self._left <= 0:
            return
        self._left -= len(data)
        *lines, rest = (self._parts.pop(name, b"") + data).split(b"\n")
        if len(rest) > _LINE_BYTES:
            lines, rest = [*lines, rest], b""
        for line in lines:
            self._write(name, line)
        if rest:
            self._parts[name] = rest
        if self._left <= 0:
            self._write(name, b"(more output is not logged; the end of it is in the history)")

    def close(self) -> None:
        for name, rest in self._parts.items():
            self._write(name, rest)
        self._parts.clear()

    def _write(self, name: str, line: bytes) -> None:
        text = line[:_LINE_BYTES].decode(errors="replace").rstrip("\r")
        _output.info("%s: %s", self._extra["job"], text, extra={**self._extra, "stream": name})


class Execution:
    """A claimed run, in a thread of its own once it was started. `changed` hears of every new state of its row."""

    def __init__(
        self,
        job: Job,
        run: Run,
        context: JobContext,
        *,
        changed: Callable[[Run], None],
        sink: Sink | None = None,
        log_output: bool = True,
    ) -> None:
        self.job = job
        self.run = run
        self.claimed_as_started = run.started_at is not None
        self._context = context
        self._changed = changed
        self._sink = sink
        self._captured = Captured()
        self._lines = LoggedLines(job.name, run.run_id) if log_output else None
        self._stopped = threading.Event()
        self._reason: str | None = None
        self._force = False
        self._lock = threading.Lock()
        self._activity: Activity | None = None
        self._spawned: Activity | Ended | None = None
        self._orphan: OrphanProcess | None = None

    def spawn(self) -> None:
        """Starts the process of the first attempt on this thread, before `start` gives it one of its own.

        Of many that are due at once none then waits behind the threads of those that were started before it.
        """
        if not isinstance(self.job.work, Sql | Callback):
            self.run = replace(self.run, started_at=self._now())
            self._spawned = self._try_activity(1)

    def start(self, *, delay: float = 0.0) -> None:
        """Runs in a named thread, after `delay` seconds."""
        self._identify(self._spawned)
        name = f"katax-job-{self.job.name}"
        threading.Thread(target=self.execute, kwargs={"delay": delay}, name=name, daemon=True).start()

    def stop(self, reason: str, *, force: bool = False) -> None:
        """Asks for its end from another thread; with `force`, without grace."""
        with self._lock:
            self._reason = self._reason or reason
            self._force = self._force or force
            activity = self._activity
        self._stopped.set()
        if activity is not None:
            activity.stop(self._reason, force=force)

    def attend(self, identity: str) -> None:
        """Watches, in a named thread, a process that another daemon had started."""
        orphan = OrphanProcess(identity, mark_of(self.run), self._take)
        self._activity = self._orphan = orphan
        threading.Thread(target=self._attend, name=f"katax-job-{self.job.name}", daemon=True).start()

    def _attend(self) -> None:
        assert self._orphan is not None
        elapsed = (self._now() - (self.run.started_at or self._now())) / 1000
        self._finished(
            self._orphan.run(timeout=self.job.timeout, kill_after=self.job.kill_after, elapsed=elapsed)
        )

    def release(self) -> bool:
        """Stops watching, without a word to anybody; False for what this process started itself."""
        if self._orphan is not None:
            self._orphan.leave()
        return self._orphan is not None

    def execute(self, *, delay: float = 0.0) -> Run:
        """Runs to the end, on this thread; never raises."""
        if delay and self._stopped.wait(delay):
            skipped = self.run.skipped(self._reason or "stopped before it started")
            return self._become(replace(skipped, finished_at=self._now()))
        reason = _STARTED.get(self.run.reason, self.run.reason)
        started_at = self.run.started_at if self._spawned else self._now()
        self.run = replace(self.run, started_at=started_at, reason=reason)
        try:
            return self._finished(self._attempts())
        except Exception as error:  # noqa: BLE001 - the boundary of the thread: it becomes the row
            _log.error("job %r: %s: %s", self.job.name, type(error).__name__, error)
            return self._finished(Ended(_FAILED), f"{type(error).__name__}: {error}")

    def _attempts(self) -> Ended:
        for attempt in range(1, self.job.retries + 2):
            self.run = replace(self.run, attempt=attempt)
            ended = self._attempt(attempt)
            if ended.succeeded or self._stopped.is_set() or attempt > self.job.retries:
                break
            wait = _BETWEEN.delay(attempt, self._context.clock.random)
            _log.warning(
                "job %r: attempt %d failed (%s), next in %.1f s", self.job.name, attempt, _why(ended), wait
            )
            if self._stopped.wait(wait):
                break
        return ended

    def _attempt(self, attempt: int) -> Ended:
        activity, self._spawned = self._spawned, None
        if activity is None:
            activity = self._try_activity(attempt)
            self._identify(activity)
        if isinstance(activity, Ended):
            return activity
        with self._lock:
            self._activity = activity
            reason, force = self._reason, self._force
        if reason is not None:
            activity.stop(reason, force=force)
        self._changed(self.run)
        try:
            return activity.run(timeout=self.job.timeout, kill_after=self.job.kill_after)
        finally:
            with self._lock:
                self._activity = None

    def _try_activity(self, attempt: int) -> Activity | Ended:
        try:
            return self._activity_of(attempt)
        except FileNotFoundError as error:
            return self._not_started(_NOT_FOUND, f"cannot start {error.filename!r}: not found")
        except OSError as error:
            return self._not_started(_NOT_STARTED, f"cannot start: {error.strerror}")

    def _not_started(self, status: int, reason: str) -> Ended:
        self._take("stderr", f"katax: {reason}\n".encode())
        return Ended(status)

    def _activity_of(self, attempt: int) -> Activity:
        work, profile = self.job.work, self._context.profile
        if isinstance(work, Sql):
            return JobStatement(work, profile, self._take)
        if isinstance(work, Callback):
            return Called(work, self.job.name, self._take)
        login = None if self.job.user is None else login_of(self.job.user)
        return JobProcess(
            _words(work, profile),
            folder=profile.folder if login is None else login.home,
            environ=_environ(self.run, attempt, login) | {YES_CONFIRMS: _trusted(self.job)},
            mark=mark_of(self.run),
            sink=self._take,
            account=None if login is None else login.account,
        )

    def _identify(self, activity: Activity | Ended | None) -> None:
        if isinstance(activity, JobProcess):
            self.run = replace(self.run, process=daemon_id(activity.pid))

    def _take(self, name: str, data: bytes) -> None:
        self._captured.add(data)
        if self._sink is not None:
            self._sink(name, data)
        if self._lines is not None:
            self._lines.add(name, data)

    def _finished(self, ended: Ended, reason: str | None = None) -> Run:
        if self._lines is not None:
            self._lines.close()
        state: JobState = "killed" if ended.stopped else "ran" if ended.succeeded else "failed"
        return self._become(
            replace(
                self.run,
                state=state,
                reason=reason or (self.run.reason if state == "ran" else _why(ended)),
                exit_status=ended.exit_status,
                finished_at=self._now(),
                output_head=self._captured.head or None,
                output_tail=self._captured.tail,
            )
        )

    def _become(self, run: Run) -> Run:
        self.run = run
        self._changed(run)
        return run

    def _now(self) -> int:
        return int(self._context.clock.now() * 1000)


def _why(ended: Ended) -> str:
    status = "unknown" if ended.exit_status is None else ended.exit_status
    return ended.stopped or f"exit status {status}"


def _words(work: Command | Python | KataxCommand | Sql | Callback, profile: Profile) -> str | list[str]:
    if isinstance(work, Command):
        return work.words if isinstance(work.words, str) else list(work.words)
    if isinstance(work, Python):
        return [sys.executable, "-c", CALL, work.target]
    assert isinstance(work, KataxCommand)
    return [sys.executable, "-m", "katax_cli", "-p", profile.name, *work.words]


def _environ(run: Run, attempt: int, login: Login | None = None) -> dict[str, str]:
    """The daemon's own environment, never what `.env` or the profile holds, and what the job may want to know.

    Another user has an environment of its own: the daemon's may hold secrets.
    """
    planned = datetime.fromtimestamp(run.scheduled_at / 1000, UTC)
    return {
        **(os.environ if login is None else login.environ),
        "KATAX_SCHEDULED_AT": planned.isoformat(timespec="seconds"),
        "KATAX_RUN_ID": run.run_id,
        "KATAX_JOB": run.job,
        "KATAX_ATTEMPT": str(attempt),
    }


def _trusted(job: Job) -> str:
    """`1` for a job whose words stand in a file of the project; an added one may be anybody's."""
    return "1" if job.source == "profile" and isinstance(job.work, KataxCommand) else ""


def tell_failure(job: Job, run: Run, context: JobContext) -> None:
    """Runs the job's `on_failure`, which finds the run in its environment; its output is logged."""
    if job.on_failure is None:
        return
    facts = {
        "KATAX_STATE": run.state,
        "KATAX_REASON": run.reason or "",
        "KATAX_EXIT_STATUS": "" if run.exit_status is None else str(run.exit_status),
        "KATAX_OUTPUT": run.output_tail or run.output_head or "",
    }
    lines = LoggedLines(f"{job.name} on_failure", run.run_id)
    try:
        process = JobProcess(
            job.on_failure if isinstance(job.on_failure, str) else list(job.on_failure),
            folder=context.profile.folder,
            environ={**_environ(run, run.attempt), **facts},
            mark=f"KATAX_FAILED_RUN_ID={run.run_id}",
            sink=lines.add,
        )
        ended = process.run(timeout=_TELLING_SECONDS, kill_after=5.0)
    except OSError as error:
        _log.error("job %r: on_failure cannot start: %s", job.name, error.strerror)
        return
    lines.close()
    if not ended.succeeded:
        _log.error("job %r: on_failure failed: %s", job.name, _why(ended))


class JobStatement:
    """One SQL statement through the profile's own services; stopping it cancels it on the server."""

    def __init__(self, work: Sql, profile: Profile, sink: Sink) -> None:
        from katax_cli.services.runtime.runtime import Runtime

        self._work = work
        self._sink = sink
        self._reason: str | None = None
        self._runtime = Runtime(profile, one_shot=True, statement_timeouts=False)
        name = work.connection
        self._settings = (
            profile.default_connection(SQL_ENGINES, "main") if name is None else profile.connection(name)
        )

    def stop(self, reason: str, *, force: bool = False) -> None:
        self._reason = reason
        self._runtime.cancel()

    def run(self, *, timeout: float | None, kill_after: float) -> Ended:
        with self._runtime:
            try:
                result = self._runtime.sql(self._settings).run(self._work.sql, timeout=timeout)
            except KataxError as error:
                self._sink("stderr", f"katax: {error}\n".encode())
                late = f"timed out after {timeout:g} s" if isinstance(error, DeadlineExceeded) else None
                return Ended(_FAILED, self._reason or late)
        count = len(result.rows) if result.columns else max(result.affected, 0)  # -1: not counted, as of DDL
        self._sink("stdout", f"{count} rows{'' if result.columns else ' affected'}\n".encode())
        return Ended(0)


class Called:
    """A callable of this process. Nothing can end it: when it is given up, its thread goes on."""

    def __init__(self, work: Callback, job: str, sink: Sink) -> None:
        self._work = work
        self._job = job
        self._sink = sink
        self._over = threading.Event()
        self._reason: str | None = None

    def stop(self, reason: str, *, force: bool = False) -> None:
        self._reason = reason
        self._over.set()

    def run(self, *, timeout: float | None, kill_after: float) -> Ended:
        running = left_behind.start(f"katax-task-{self._job}", self._call)
        self._over.wait(timeout)
        if not running.ended(0.0 if self._reason or not self._over.is_set() else None):
            reason = self._reason or f"timed out after {timeout:g} s"
            return Ended(_FAILED, f"{reason}; its thread goes on")
        if isinstance(running.outcome, BaseException):
            failure = running.outcome
            _log.error("job %r failed", self._job, exc_info=failure)
            self._sink("stderr", f"{type(failure).__name__}: {failure}\n".encode())
            return Ended(_FAILED)
        return Ended(0)

    def _call(self) -> None:
        try:
            self._work.call()
        finally:
            self._over.set()
