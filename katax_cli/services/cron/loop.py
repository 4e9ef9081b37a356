"""The cron daemon: one loop that claims what is due, keeps its leases, and ends in order.

    running ──TERM──▶ draining: nothing starts, runs end ──▶ exit 0
                         │ deadline: TERM, KILL, exit 1
                         └ second signal: KILL at once, exit 128 + signal

Signals and ended runs are messages; the loop is the only one that decides. It wakes at the next occurrence and
once a second for what others may have changed in the state database.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Literal

from katax_cli.errors import KataxError
from katax_cli.profiles.model.model import Profile
from katax_cli.services.cron.definition.catalog import lookup_of, merged, refuse_foreign_code, timezone_of
from katax_cli.services.cron.definition.definitions import Definitions, Stored
from katax_cli.services.cron.definition.jobs import Job
from katax_cli.services.cron.identity import daemon_id, host_name, is_known_dead, machine
from katax_cli.services.cron.ledger.accounting import StoredRunLedger
from katax_cli.services.cron.ledger.store import Runs
from katax_cli.services.cron.run.execution import JobContext
from katax_cli.services.cron.run.logins import refuse_other_user
from katax_cli.services.cron.run.orphans import identity_of_orphan
from katax_cli.services.cron.run.process import children
from katax_cli.services.cron.run.scheduler import SHUT_DOWN, Scheduler
from katax_cli.services.processes.tree import Reaper, become_subreaper
from katax_cli.services.state.schema import Tables

_log = logging.getLogger("katax.cron")
BEAT = 1.0
_RENEW_EVERY = 5.0
_PRUNE_EVERY = 3600.0
_JUMP = 5.0
"""Seconds by which the wall clock may differ from the monotonic clock before it is logged."""
_FAR_AHEAD = 86400.0
_HOLD = 5 * BEAT
"""Seconds without a start in a new state file: every daemon of it notices at its next beat, and writes what it runs."""
_DEAD = "its daemon is gone: the lease ran out"
_KILLED = "its daemon was killed"
_NOT_STARTED = "the state database did not confirm its claim in time"


@dataclass(frozen=True, slots=True)
class LoopMessage:
    """A message to the loop. `number`: of the signal."""

    kind: Literal["stop", "reload", "wake"]
    number: int = 0


Noted = tuple[str, str, str, int]
"""A job, its schedule, what that means, and up to where it is accounted for, in milliseconds."""
Reload = Callable[[], tuple[Profile, Sequence[Job]]]
"""The profile and the jobs of its files, read again."""


class Daemon:
    """Runs the jobs of one profile until it gets a stop message."""

    def __init__(
        self, load: Reload, tables: Tables, context: JobContext, *, files: Sequence[str] = ()
    ) -> None:
        """`files` are read by `load`, beside the profile's own: when one of them changes, it is asked again."""
        self._load = load
        self._profile, self._clock = context.profile, context.clock
        self._runs = Runs(tables)
        self._definitions = Definitions(tables)
        self._tables = tables
        self.ledger = StoredRunLedger(self._runs)
        self.id = daemon_id()
        self._own: Sequence[Job] = ()
        self.scheduler = Scheduler(
            context,
            self.ledger,
            host=host_name(),
            daemon=self.id,
            lookup=lookup_of(context.profile).get,
            on_end=lambda _run: self.tell(LoopMessage("wake")),
        )
        self._mailbox: SimpleQueue[LoopMessage] = SimpleQueue()
        self._reaper = Reaper()
        self._version = -1
        self._stored: Sequence[Stored] = ()
        self._began: dict[str, float] = {}
        self._unnoted: list[Noted] = []
        self._known = False
        self._more_files = files
        self._files: dict[str, tuple[int, ...]] = {}
        self._last_beat = self._last_renewal = self._last_prune = self._held_until = -1e9
        self._offset = self._clock.now() - self._clock.monotonic()
        self._stop_by: float | None = None
        self._exit: int | None = None
        self.ready = False

    def tell(self, message: LoopMessage) -> None:
        """From any thread, and from a signal handler: SimpleQueue is made for that."""
        self._mailbox.put(message)

    def run(self) -> int:
        """Until the end; returns the exit code. Raises ConfigError for jobs that are wrong at the start."""
        become_subreaper()
        self._profile, self._own = self._load()
        self._files = self._seen_files()
        self._try(self._tables.prepare)
        self._adopt()
        self._try(self._take_over)
        _log.info("cron runs %d jobs of profile %r", len(self.scheduler.jobs), self._profile.name)
        self.scheduler.trigger([job.name for job in self._initial()], "init")
        self.ready = True
        while self._exit is None:
            self._beat_if_time()
            if self._may_claim:
                self.scheduler.tick()
            self._check_end()
            if self._exit is None:
                self._hear(self._sleep_seconds())
        self.ready = False
        self._leave()
        return self._exit

    def _initial(self) -> list[Job]:
        return [
            job
            for job in self.scheduler.jobs.values()
            if job.run_on_init and job.is_enabled(self.scheduler.lookup)
        ]

    def _sleep_seconds(self) -> float:
        due = self.scheduler.seconds_to_next if self._may_claim else None
        beat = self._last_beat + BEAT - self._clock.monotonic()
        return max(0.0, beat if due is None else min(beat, due))

    def _hear(self, seconds: float) -> None:
        try:
            message = self._mailbox.get(timeout=seconds) if seconds else self._mailbox.get_nowait()
        except Empty:
            return
        if message.kind == "stop":
            self._stop(message.number)
        elif message.kind == "reload":
            self.reload()

    # The end

    def _stop(self, number: int) -> None:
        if self._stop_by is not None:
            names = self.scheduler.stop_all("forced by a second signal", force=True)
            _log.error("forced by a second signal; killed: %s", ", ".join(names) or "nothing")
            self._await_runs(2.0)
            self._exit = 128 + number
            return
        seconds = self._profile.shutdown.timeout
        _log.info("draining, at most %g s", seconds)
        self._stop_by = self._clock.monotonic() + seconds
        self.ready = False
        self.scheduler.drain()

    def _check_end(self) -> None:
        if self._stop_by is None or self._exit is not None:
            return
        if not self.scheduler.running():
            self._exit = 0
        elif self._clock.monotonic() >= self._stop_by:
            names = self.scheduler.stop_all(SHUT_DOWN)
            _log.error("the deadline has come; stopped: %s", ", ".join(names))
            self._await_runs(self._longest_grace())
            self.scheduler.stop_all(SHUT_DOWN, force=True)
            self._await_runs(2.0)
            self._exit = 1

    def _longest_grace(self) -> float:
        """The time that what runs may need between TERM and KILL."""
        jobs = [self.scheduler.jobs.get(run.job) for run in self.scheduler.running()]
        return max((job.kill_after for job in jobs if job is not None), default=0.0)

    def _await_runs(self, seconds: float) -> None:
        while self.scheduler.running() and seconds > 0.0:
            self._clock.sleep(0.02)
            seconds -= 0.02  # not by the clock: the machine may have stood still

    def _leave(self) -> None:
        self.scheduler.close(2.0)
        self.ledger.flush()
        if self.ledger.waiting:
            _log.error("%d rows could not be written to the state database", self.ledger.waiting)
        _log.info("cron ended")

    # What others changed

    def _beat_if_time(self) -> None:
        now = self._clock.monotonic()
        if now - self._last_beat < BEAT:
            return
        self._last_beat = now
        self._notice_jump()
        self._reaper.reap(children())
        self._reload_if_changed()
        if not self._try(self._beat):
            return
        if self.ledger.waiting:
            self.ledger.flush()

    def _beat(self) -> None:
        now = self._clock.monotonic()
        if self._tables.moved:
            self._start_over()
        self._tables.prepare()
        self._obey()
        if now - self._last_renewal >= _RENEW_EVERY:
            self._last_renewal = now
            self._runs.renew(self.id)
            self._take_over()
        if now - self._last_prune >= _PRUNE_EVERY:
            self._last_prune = now
            self._runs.prune(self._profile.cron.history)
        changed = not self.scheduler.draining and self._definitions.version() != self._version
        if changed or not self._settled:
            self._adopt()
            enabled = sum(job.enabled is not False for job in self.scheduler.jobs.values())
            _log.info("jobs changed: %d of %d enabled", enabled, len(self.scheduler.jobs))

    def _start_over(self) -> None:
        """Switches to another file: writes running jobs to it, and accounts for no earlier occurrence."""
        _log.error(
            "the state database was removed or replaced: its history is lost; a start waits %g s", _HOLD
        )
        now = self._clock.now()
        for run in self.scheduler.running():
            self.ledger.record(run)
        for job in self.scheduler.jobs.values():
            self.scheduler.put(job, now)
            self._unnoted.append(_noted(job, now))
        self._held_until = self._clock.monotonic() + _HOLD
        self._version = -1

    def _obey(self) -> None:
        """Stops what others want stopped, and what is no longer ours; closes what is ours and never started."""
        runs = self.scheduler.running()
        late = self.ledger.late  # asked for second: a run is in one of both until its end is written
        here = {run.run_id for run in runs if run.state == "running"} - late
        known = self._runs.mine(self.id)
        reasons = {run_id: why for run_id, why in known.items() if why is not None and run_id in here}
        lost = here - set(known)
        lost &= {run.run_id for run in self.scheduler.running() if run.state == "running"}
        lost -= self.scheduler.release(lost)
        lost -= set(self._runs.take_back(lost, self.id, machine())) if lost else set()
        if lost:
            _log.error("the lease of %d runs was lost; they are killed", len(lost))
        self.scheduler.stop_runs({**reasons, **dict.fromkeys(lost, "its lease was lost")})
        for run_id in set(known) - {run.run_id for run in runs} - late - self.scheduler.unclaimed:
            self._runs.close_unstarted(run_id, self.id, _NOT_STARTED)

    def _take_over(self) -> None:
        """Watches runs that daemons of this machine left behind, and closes those whose lease ran out."""
        self._tables.prepare()
        dead = [daemon for daemon in self._runs.daemons() if is_known_dead(daemon)]
        for run in self._runs.abandoned(dead):
            identity = identity_of_orphan(run)
            if identity is not None and run.daemon != self.id:
                if self._runs.take_over(run, self.id, dead):
                    _log.warning(
                        "job %r: run %s outlived its daemon and is watched", run.job, run.run_id[:12]
                    )
                    self.scheduler.watch(replace(run, daemon=self.id, process=identity), identity)
                continue
            reason = _KILLED if run.daemon in dead else _DEAD
            if self._runs.close(run, reason, dead):
                self.scheduler.note_failed(replace(run, state="failed", reason=reason))

    def _try(self, call: Callable[[], None]) -> bool:
        try:
            call()
        except KataxError as error:
            self.ledger.failed(error)
            return False
        return True

    def _notice_jump(self) -> None:
        offset = self._clock.now() - self._clock.monotonic()
        by, self._offset = offset - self._offset, offset
        if by > _JUMP:
            _log.warning("the clock went on by %.0f s: a suspend, or it was set; on_miss decides", by)
        elif by < -_JUMP:
            _log.warning("the clock went back by %.0f s: nothing runs twice", -by)

    # Definitions

    def reload(self) -> None:
        """Reads the profile again; what is wrong with it is logged, and the old one stays."""
        try:
            profile, own = self._load()
        except KataxError as error:
            _log.error("not reloaded: %s", error)
            return
        self._profile, self._own = profile, own
        self.scheduler.lookup = lookup_of(profile).get
        self.scheduler.context = replace(self.scheduler.context, profile=profile)
        self._adopt()
        _log.info("reloaded: %d jobs", len(self.scheduler.jobs))

    def _ask_stored(self) -> None:
        version = self._definitions.version()
        self._stored = self._definitions.jobs()
        self._version = version

    def _reload_if_changed(self) -> None:
        files = self._seen_files()
        if files != self._files and not self.scheduler.draining:
            self._files = files
            self.reload()

    def _seen_files(self) -> dict[str, tuple[int, ...]]:
        return {path: _stamp(path) for path in (self._profile.source, *self._more_files) if path}

    @property
    def _settled(self) -> bool:
        """True when it is known up to where every job is accounted for."""
        return self._known and not self._unnoted

    @property
    def _may_claim(self) -> bool:
        return self._settled and self._clock.monotonic() >= self._held_until

    def _adopt(self) -> None:
        """Makes the scheduler's jobs those of the files and of the database; unchanged ones keep their place."""
        asked = self._try(self._ask_stored)
        notes: list[str] = []
        jobs = merged(self._own, self._stored, timezone=timezone_of(self._profile), notes=notes)
        for note in notes:
            _log.error("%s", note)
        wanted = {job.name: job for job in jobs if self._may_run(job)}
        for name in set(self.scheduler.jobs) - set(wanted):
            self.scheduler.drop(name)
        now = self._clock.now()
        stored = {each.job: each for each in self._stored}
        for job in wanted.values():
            self._put(job, stored.get(job.name), now, settling=asked and not self._known)
        self._known = self._known or asked
        self._try(self._note)

    def _put(self, job: Job, stored: Stored | None, now: float, *, settling: bool) -> None:
        """Gives the scheduler a job, due from where it is accounted for.

        A daemon that was started without the database learns that when it first answers (`settling`).
        """
        before = self.scheduler.jobs.get(job.name)
        if before is not None and not settling and before.is_due_like(job):
            self.scheduler.change(job)
            return
        began = now if self._known else self._began.setdefault(job.name, now)
        after = began if before is not None and self._known else self._accounted(job, stored, began)
        if after == began and (settling or self._known):
            self._unnoted.append(_noted(job, began))
        self.scheduler.put(job, after)

    def _note(self) -> None:
        """Writes up to where jobs that are new, or mean something else now, are accounted for."""
        if self._known:
            self._definitions.note_schedules(self._unnoted)
            self._unnoted.clear()

    def _accounted(self, job: Job, stored: Stored | None, now: float) -> float:
        """Up to where the job is accounted for; one that is new, or means something else now, begins now."""
        if stored is None or stored.accounted_until is None or stored.canonical != job.schedule.canonical:
            return now
        until = stored.accounted_until / 1000
        if until > now + _FAR_AHEAD:
            _log.warning("job %r was accounted for until a future day; it starts again from now", job.name)
            return now
        return until

    def _may_run(self, job: Job) -> bool:
        try:
            refuse_other_user(job)
            refuse_foreign_code(
                job, shared=self._tables.shared, allowed=self._profile.cron.allow_dynamic_commands
            )
        except KataxError as error:
            _log.error("%s", error)
            return False
        return True


def _noted(job: Job, at: float) -> Noted:
    return job.name, job.schedule.text, job.schedule.canonical, int(at * 1000)


def _stamp(path: str) -> tuple[int, ...]:
    try:
        seen = os.stat(path)
    except OSError:
        return ()
    return seen.st_mtime_ns, seen.st_size, seen.st_ino
