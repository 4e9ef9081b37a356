"""Runs what is due: claims, starts, waits for turns, stops. One thread calls it; runs have threads of their own."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from functools import partial
from typing import Protocol

from katax_cli.core.clock import Clock
from katax_cli.core.schedule.schedule import Never
from katax_cli.errors import KataxError
from katax_cli.services.calls import left_behind
from katax_cli.services.cron.definition.jobs import Command, Job, Lookup
from katax_cli.services.cron.ledger.values import Decide, Remaining, Run, Trigger, unless_accounted
from katax_cli.services.cron.run.execution import Execution, JobContext, tell_failure
from katax_cli.services.cron.run.ping import Pinger
from katax_cli.services.cron.run.plan import WAITS, Agenda, Overlaps, due, in_the_way, remaining
from katax_cli.snapshot import JobState

_log = logging.getLogger("katax.cron")
SHUT_DOWN = "the daemon shut down"
REMOVED = "its job was removed"
UNAVAILABLE = "the state database was not available"
_CLAIM_AGAIN = 0.5
"""Seconds between two attempts to claim what is due."""


class RunLedger(Protocol):
    """Where runs are claimed and accounted for."""

    def claim(
        self,
        planned: Sequence[Run],
        decide: Decide,
        running: Sequence[Run],
        remaining: Remaining = unless_accounted,
    ) -> list[Run]:
        """Those that are ours. Raises KataxError when that is unknown: none of them may start then."""
        ...

    def update(self, run: Run) -> None: ...

    def note_processes(self, runs: Sequence[Run]) -> None:
        """Leaves word of the processes of runs, for daemons that may outlive this one."""
        ...

    def others(self, jobs: Sequence[str]) -> list[Run]:
        """The runs of these jobs on other daemons."""
        ...

    def ask_to_stop(self, run_ids: Sequence[str], reason: str) -> None: ...


class MemoryRunLedger:
    """The ledger of a single process, which remembers nothing."""

    def claim(
        self,
        planned: Sequence[Run],
        decide: Decide,
        running: Sequence[Run],
        remaining: Remaining = unless_accounted,
    ) -> list[Run]:
        decided: list[Run] = []
        for run in planned:
            others = [
                each for each in (*running, *decided) if each.job == run.job and each.state == "running"
            ]
            decided.append(decide(run, others) if run.state == "running" else run)
        return decided

    def update(self, run: Run) -> None: ...

    def note_processes(self, runs: Sequence[Run]) -> None: ...

    def others(self, jobs: Sequence[str]) -> list[Run]:
        return []

    def ask_to_stop(self, run_ids: Sequence[str], reason: str) -> None: ...


class Scheduler:
    """Jobs, when they are due, and what runs of them here."""

    def __init__(
        self,
        context: JobContext,
        ledger: RunLedger,
        *,
        host: str,
        daemon: str,
        lookup: Lookup,
        on_end: Callable[[Run], None] = lambda _run: None,
    ) -> None:
        self.context = context
        self.lookup = lookup
        self.jobs: dict[str, Job] = {}
        self.counts: Counter[tuple[str, JobState]] = Counter()
        self.draining = False
        self._ledger = ledger
        self._host = host
        self._daemon = daemon
        self._on_end = on_end
        self._agenda = Agenda()
        self._pinger = Pinger()
        self._lock = threading.Lock()
        self._running: dict[str, Execution] = {}
        self._waiting: list[Run] = []
        self._unclaimed: dict[tuple[str, str], Run] = {}
        self._claim_at = -1e9

    @property
    def _clock(self) -> Clock:
        return self.context.clock

    # Jobs

    def put(self, job: Job, after: float) -> None:
        """Adds a job, or replaces the one of its name; it is due from `after` on, unless it is off."""
        self.jobs[job.name] = job
        if job.enabled is False:
            self._agenda.drop(job.name)
        else:
            self._agenda.put(job, after)

    def change(self, job: Job) -> None:
        """Replaces a job whose schedule is the same."""
        self.jobs[job.name] = job
        self._agenda.change(job)

    def drop(self, name: str) -> None:
        """Forgets a job; what runs of it goes on, what waits is given up."""
        self.jobs.pop(name, None)
        self._agenda.drop(name)
        with self._lock:
            waiting = [run for run in self._waiting if run.job == name]
            self._waiting = [run for run in self._waiting if run.job != name]
        for run in waiting:
            self._skip(run, REMOVED)

    @property
    def next_at(self) -> int | None:
        return None if self.draining else self._agenda.next_at

    @property
    def seconds_to_next(self) -> float | None:
        """Seconds until the next occurrence, or until a claim is tried again; None without either."""
        if self._unclaimed:
            return max(0.0, self._claim_at - self._clock.monotonic())
        return None if self.next_at is None else max(0.0, self.next_at - self._clock.now())

    @property
    def unclaimed(self) -> set[str]:
        """The ids of runs that are to be claimed again."""
        return {run.run_id for run in self._unclaimed.values()}

    # What is due

    def tick(self) -> None:
        """Claims and starts what is due, and what has waited for its turn.

        What could not be claimed stays due: within `start_deadline` it is on time, later it was missed.
        """
        if self.draining or self._clock.monotonic() < self._claim_at:
            return
        now = self._clock.now()
        jobs = self._agenda.due(now)
        planned = [
            self._allowed(job, self._again(run)) for job, after in jobs for run in due(job, after, now)
        ]
        asked = [self._in_time(run, now) for run in self._unclaimed.values() if run.trigger != "schedule"]
        self._unclaimed.clear()
        claimed = self._take([*asked, *planned])
        for job, after in jobs:
            self._agenda.put(job, now if claimed else after)
        if claimed:
            self._start_waiting()

    def trigger(self, names: Iterable[str], trigger: Trigger) -> None:
        """Runs jobs now, beside their schedule; as soon as they can be claimed."""
        now = int(self._clock.now() * 1000)
        self._take([self._ours(Run(name, now, trigger=trigger)) for name in names])

    def _in_time(self, run: Run, now: float) -> Run:
        """A run that was asked for, unless it is too late for it or its job is gone."""
        job = self.jobs.get(run.job)
        if run.state != "running" or (job and now - run.scheduled_at / 1000 <= job.start_deadline):
            return run
        return replace(run.skipped(UNAVAILABLE), state="missed")

    def _again(self, run: Run) -> Run:
        """With the id of an earlier attempt to claim it, which may have been written after all."""
        before = self._unclaimed.get((run.job, run.claim))
        if run.state == "missed" and self._unclaimed:
            run = replace(run, reason=UNAVAILABLE)
        return run if before is None else replace(run, run_id=before.run_id)

    def _allowed(self, job: Job, run: Run) -> Run:
        run = self._ours(run)
        if run.state != "running":
            return run
        try:
            enabled = job.is_enabled(self.lookup)
        except Exception as error:  # noqa: BLE001 - a program's own condition
            return run.skipped(f"its condition failed: {type(error).__name__}: {error}")
        return run if enabled else run.skipped("not enabled")

    def _ours(self, run: Run) -> Run:
        """As this daemon claims it: as started already, unless it waits, so that a start costs no second write."""
        at_once = run.state == "running" and not self.jobs[run.job].jitter
        started_at = int(self._clock.now() * 1000) if at_once else None
        return replace(run, host=self._host, daemon=self._daemon, started_at=started_at, attempt=int(at_once))

    def _take(self, planned: Sequence[Run]) -> bool:
        """Starts the runs that can be claimed; False when it is unknown whether they are ours."""
        if not planned:
            return True
        starting: list[Run] = []
        try:
            won = self._ledger.claim(
                planned, Overlaps(self.jobs), self.running(), partial(remaining, self.jobs)
            )
        except KataxError:
            self._unclaimed.update(((run.job, run.claim), run) for run in planned)
            self._claim_at = self._clock.monotonic() + _CLAIM_AGAIN
            return False
        for run in won:
            if run.state != "running":
                self._note(run)
            elif run.reason in WAITS:
                self._wait(run)
            else:
                starting.append(run)
        self._start(starting)
        return True

    def _note(self, run: Run) -> None:
        self.counts[run.job, run.state] += run.count
        many = f", {run.count} occurrences" if run.count > 1 else ""
        _log.warning("job %r: %s%s: %s", run.job, run.state, many, run.reason)

    def _wait(self, run: Run) -> None:
        if self.jobs[run.job].on_overlap == "replace":
            self._replace(run)
        with self._lock:
            self._waiting.append(run)

    def _replace(self, run: Run) -> None:
        reason = f"replaced by run {run.run_id[:12]}"
        with self._lock:
            given_up = [each for each in self._waiting if each.job == run.job]
            self._waiting = [each for each in self._waiting if each.job != run.job]
            mine = [execution for execution in self._running.values() if execution.job.name == run.job]
        for each in given_up:
            self._skip(each, reason)
        for execution in mine:
            execution.stop(reason)
        elsewhere = [other.run_id for other in self._ledger.others([run.job]) if other.run_id != run.run_id]
        self._ledger.ask_to_stop(elsewhere, reason)

    def _skip(self, run: Run, reason: str) -> None:
        skipped = replace(run.skipped(reason), finished_at=int(self._clock.now() * 1000))
        self._note(skipped)
        self._ledger.update(skipped)

    def _start_waiting(self) -> None:
        with self._lock:
            waiting = sorted(self._waiting, key=lambda run: run.scheduled_at)
        if not waiting:
            return
        elsewhere = self._ledger.others(sorted({run.job for run in waiting}))
        for run in waiting:
            if self._is_turn_of(run, elsewhere):
                with self._lock:
                    self._waiting.remove(run)
                self._start([run])

    def _is_turn_of(self, run: Run, elsewhere: Sequence[Run]) -> bool:
        with self._lock:
            here = [*self._waiting, *(execution.run for execution in self._running.values())]
        job = self.jobs.get(run.job)
        return not any(
            each.job == run.job
            and each.state == "running"
            and each.run_id != run.run_id
            and (job is None or in_the_way(job, run, each))
            and (each.started_at is not None or each.scheduled_at < run.scheduled_at)
            for each in (*here, *elsewhere)
        )

    def _start(self, runs: Sequence[Run]) -> None:
        """All of their processes, and then the threads that watch them."""
        executions = [Execution(self.jobs[run.job], run, self.context, changed=self._changed) for run in runs]
        with self._lock:
            self._running.update((each.run.run_id, each) for each in executions)
        delays = [self._delay(each) for each in executions]
        for execution, delay in zip(executions, delays, strict=True):
            if not delay:
                execution.spawn()
        for execution, delay in zip(executions, delays, strict=True):
            execution.start(delay=delay)
        self._ledger.note_processes([each.run for each in executions if each.run.process])

    def watch(self, run: Run, identity: str) -> None:
        """Watches a run whose daemon is gone until it ends; its timeout counts from its start."""
        job = self.jobs.get(run.job) or Job(run.job, Never("", UTC), Command(""))
        execution = Execution(job, run, self.context, changed=self._changed)
        with self._lock:
            self._running[run.run_id] = execution
        execution.attend(identity)

    def release(self, run_ids: Iterable[str]) -> set[str]:
        """Gives up runs that are no children of this process and that their own daemon watches again."""
        with self._lock:
            executions = [self._running[run_id] for run_id in run_ids if run_id in self._running]
            released = {execution.run.run_id for execution in executions if execution.release()}
            for run_id in released:
                del self._running[run_id]
        return released

    def note_failed(self, run: Run) -> None:
        """Reports a run whose daemon is gone, as its own daemon would have done."""
        self.counts[run.job, "failed"] += 1
        _log.error("job %r: run %s failed: %s", run.job, run.run_id[:12], run.reason)
        job = self.jobs.get(run.job)
        if job is not None:
            self._pinger.ended(job.ping_url, run)
            left_behind.start(f"katax-failure-{run.job}", partial(tell_failure, job, run, self.context))

    def _delay(self, execution: Execution) -> float:
        jitter = execution.job.jitter if execution.run.trigger == "schedule" else 0.0
        return jitter * self._clock.random()

    def _changed(self, run: Run) -> None:
        """Called on the thread of the run."""
        with self._lock:
            execution = self._running.get(run.run_id)
        if execution is None:
            return  # released
        if run.state == "running":
            if run.attempt == 1:
                self._pinger.started(execution.job.ping_url, run)
                _log.info("job %r: run %s starts", run.job, run.run_id[:12])
            if run.attempt > 1 or not execution.claimed_as_started:
                self._ledger.update(run)
            return
        self._ledger.update(run)
        if run.state != "skipped":
            self._pinger.ended(execution.job.ping_url, run)
        if run.state in ("failed", "killed"):
            tell_failure(execution.job, run, self.context)
        with self._lock:
            self._running.pop(run.run_id, None)
            self.counts[run.job, run.state] += 1
        level = logging.INFO if run.state == "ran" else logging.WARNING
        why = f": {run.reason}" if run.reason else ""
        _log.log(level, "job %r: run %s %s%s", run.job, run.run_id[:12], run.state, why)
        self._on_end(run)

    # What runs

    def running(self) -> list[Run]:
        """The running and waiting runs of this daemon."""
        with self._lock:
            return [*(execution.run for execution in self._running.values()), *self._waiting]

    def stop_runs(self, reasons: Mapping[str, str]) -> None:
        """Stops runs by id."""
        with self._lock:
            executions = [each for run_id, each in self._running.items() if run_id in reasons]
        for execution in executions:
            execution.stop(reasons[execution.run.run_id])

    def drain(self) -> None:
        """From now on nothing starts; what waits is given up."""
        self.draining = True
        with self._lock:
            waiting, self._waiting = self._waiting, []
            delayed = [execution for execution in self._running.values() if execution.run.started_at is None]
        for run in waiting:
            self._skip(run, SHUT_DOWN)
        for execution in delayed:
            execution.stop(SHUT_DOWN)

    def stop_all(self, reason: str, *, force: bool = False) -> list[str]:
        """Stops all that runs; returns the names of the jobs."""
        with self._lock:
            executions = list(self._running.values())
        for execution in executions:
            execution.stop(reason, force=force)
        return sorted({execution.job.name for execution in executions})

    def close(self, seconds: float) -> None:
        """Sends the last pings."""
        self._pinger.close(seconds)
