"""Operations on jobs from the command line: list, add, switch, run once."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.errors import ConfigError, KataxError
from katax_cli.profiles.model.model import Profile
from katax_cli.services.calls import left_behind
from katax_cli.services.cron.definition.catalog import (
    check_name,
    jobs_of,
    lookup_of,
    merged,
    refuse_foreign_code,
    timezone_of,
)
from katax_cli.services.cron.definition.definitions import Definitions, Stored
from katax_cli.services.cron.definition.jobs import Job, Lookup, job_named, job_of
from katax_cli.services.cron.identity import daemon_id, host_name
from katax_cli.services.cron.ledger.accounting import StoredRunLedger
from katax_cli.services.cron.ledger.store import Runs
from katax_cli.services.cron.ledger.values import Run
from katax_cli.services.cron.run.execution import Execution, JobContext
from katax_cli.services.cron.run.logins import refuse_other_user
from katax_cli.services.cron.run.output_keeper import keeper
from katax_cli.services.cron.run.outputs import Sink
from katax_cli.services.runtime.runtime import Runtime
from katax_cli.services.state.schema import Tables, refuse_network_file, state_profile

_RENEW_SECONDS = 5.0
_KILL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class JobFinding:
    """A finding of `check` about a job."""

    job: str
    status: str
    message: str | None = None

    @property
    def is_problem(self) -> bool:
        return self.status != "ok"


class Cron:
    """The jobs of a profile and their history. Opens the state database when it is first needed."""

    def __init__(self, profile: Profile, *, clock: Clock = SYSTEM) -> None:
        refuse_network_file(profile.state.connection)
        self.profile = profile
        self.clock = clock
        self._runtime = Runtime(state_profile(profile))
        self.notes: list[str] = []

    @cached_property
    def tables(self) -> Tables:
        """Opening it makes the folder of a local state file, so commands that only look ask `_is_new` first."""
        return Tables(self._runtime.sql(self.profile.state.connection), self.profile.name)

    @cached_property
    def runs(self) -> Runs:
        return Runs(self.tables)

    @cached_property
    def definitions(self) -> Definitions:
        return Definitions(self.tables)

    @property
    def _is_new(self) -> bool:
        path = self.profile.state.connection.path
        return path is not None and not os.path.exists(path)

    def close(self) -> None:
        keeper.close()
        self._runtime.close()

    def __enter__(self) -> Cron:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stored(self) -> list[Stored]:
        """The jobs of the state database; empty, with a note, when it cannot be asked."""
        if self._is_new:
            return []
        try:
            self.tables.prepare()
            return self.definitions.jobs()
        except KataxError as error:
            self.notes.append(f"added jobs and switches are not known: {error}")
            return []

    def jobs(self) -> list[Job]:
        """Every job, as a daemon would see it."""
        return merged(
            jobs_of(self.profile), self.stored(), timezone=timezone_of(self.profile), notes=self.notes
        )

    @property
    def lookup(self) -> Lookup:
        """Variables for conditions."""
        return lookup_of(self.profile).get

    def job(self, name: str) -> Job:
        """Raises ConfigError with the names that there are."""
        return job_named(self.jobs(), name)

    def check(self) -> list[JobFinding]:
        """Every job: whether it can be read, and whether its schedule still means what it meant."""
        zone = timezone_of(self.profile)
        stored = {each.job: each for each in self.stored()}
        tables: dict[str, Mapping[str, Any]] = {
            name: each.definition for name, each in stored.items() if each.definition is not None
        }
        tables.update(self.profile.cron.jobs)
        unread = [JobFinding(name, "wrong", why) for name, why in self.profile.cron.wrong.items()]
        return unread + [
            self._finding(name, table, stored.get(name), zone, added=name not in self.profile.cron.jobs)
            for name, table in tables.items()
        ]

    def _finding(
        self, name: str, table: Mapping[str, Any], stored: Stored | None, zone: str, *, added: bool
    ) -> JobFinding:
        try:
            job = job_of(name, table, timezone=zone, source="added" if added else "profile")
            self._refuse(job)
            refuse_other_user(job)
        except KataxError as error:
            return JobFinding(name, "wrong", str(error))
        text = job.schedule.text
        if stored is None or stored.schedule != text or stored.canonical == job.schedule.canonical:
            return JobFinding(name, "ok")
        return JobFinding(
            name, "changed", f"{text!r} meant {stored.canonical!r}, now it means {job.schedule.canonical!r}"
        )

    def _refuse(self, job: Job) -> None:
        refuse_foreign_code(
            job,
            shared=self.profile.state.connection.type != "sqlite",
            allowed=self.profile.cron.allow_dynamic_commands,
        )

    def plan(self, name: str, table: Mapping[str, Any]) -> Job:
        """The job that `add` would add. Raises ConfigError or Refused."""
        job = job_of(check_name(name), table, timezone=timezone_of(self.profile), source="added")
        if name in self.profile.cron.jobs:
            raise ConfigError(f"job {name!r} is defined by profile {self.profile.name!r}; change it there")
        self._refuse(job)
        return job

    def add(self, name: str, table: Mapping[str, Any], *, replacing: bool = False) -> Job:
        """Adds a job to the state database; running daemons notice within a second."""
        job = self.plan(name, table)
        self._refuse_known(name, replacing=replacing)
        self.definitions.define(name, table)
        return job

    def _refuse_known(self, name: str, *, replacing: bool) -> None:
        self.tables.prepare()
        known = {each.job for each in self.definitions.jobs() if each.definition is not None}
        if name in known and not replacing:
            raise ConfigError(f"job {name!r} exists; repeat with --replace")

    def add_all(self, tables: Mapping[str, Mapping[str, Any]], *, replacing: bool = False) -> None:
        """The same for several, after all of them were found right."""
        for name, table in tables.items():
            self.plan(name, table)
            self._refuse_known(name, replacing=replacing)
        for name, table in tables.items():
            self.definitions.define(name, table)

    def remove(self, name: str) -> None:
        """Removes an added job; its history stays. Raises ConfigError for one of the profile."""
        if self.job(name).source != "added":
            raise ConfigError(
                f"job {name!r} is defined by profile {self.profile.name!r}; remove it there, or disable it"
            )
        self.definitions.forget(name)

    def switch(self, name: str, *, on: bool) -> Job:
        """Turns a job on or off for all daemons. Turned on, its own condition rules again, unless that is `false`."""
        job = self.job(name)
        own = next((each for each in self._unswitched() if each.name == name), job)
        self.tables.prepare()
        self.definitions.switch(name, on=(True if own.enabled is False else None) if on else False)
        return self.job(name)

    def _unswitched(self) -> list[Job]:
        stored = [replace(each, switched=None) for each in self.stored()]
        return merged(jobs_of(self.profile), stored, timezone=timezone_of(self.profile))

    def run(self, name: str, sink: Sink) -> Run:
        """Runs a job beside its schedule, waits for its end, and returns its row.

        An interrupt of this thread ends the job and its tree first.
        """
        job = self.job(name)
        refuse_other_user(job)
        ledger = StoredRunLedger(self.runs)
        now = int(self.clock.now() * 1000)
        run = Run(
            name, now, trigger="manual", host=host_name(), daemon=daemon_id(), started_at=now, attempt=1
        )
        self._prepare_quietly()
        try:
            ledger.claim([run], lambda each, _others: each, [])
        except KataxError:
            ledger.record(run)  # nobody else can have a run by hand
        ended = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(ended,), name="katax-lease", daemon=True)
        renewing.start()
        try:
            execution = Execution(
                job,
                run,
                JobContext(self.profile, self.clock),
                changed=ledger.update,
                sink=sink,
                log_output=False,
            )
            return _executed(execution)
        finally:
            ended.set()
            ledger.flush()

    def _prepare_quietly(self) -> None:
        try:
            self.tables.prepare()
        except KataxError as error:
            self.notes.append(f"the run is not recorded: {error}")

    def _renew(self, ended: threading.Event) -> None:
        while not ended.wait(_RENEW_SECONDS):
            try:
                self.runs.renew(daemon_id())
            except KataxError:
                continue  # the next one may succeed; when none does, the row is closed as failed

    def active(self, jobs: Sequence[str]) -> list[Run]:
        """The running and waiting runs of these jobs, on all daemons."""
        if self._is_new:
            return []
        self.tables.prepare()
        return self.runs.active(jobs)

    def history(self, name: str | None, limit: int, *, outputs: bool = True) -> list[Run]:
        """The latest rows first."""
        if self._is_new:
            return []
        self.tables.prepare()
        return self.runs.history(job=name, limit=limit, outputs=outputs)

    def logs(self, run_id: str) -> Run | None:
        """The run of this id, or of the only one that begins so. Raises ConfigError for several."""
        if self._is_new or not run_id.isalnum():
            return None
        self.tables.prepare()
        runs: Sequence[Run] = self.runs.history(run_id=run_id, limit=2)
        if len(runs) > 1:
            raise ConfigError(f"several runs begin with {run_id!r}; write more of the id")
        return runs[0] if runs else None


def _executed(execution: Execution) -> Run:
    """Runs in a thread of its own: a signal may raise here between any two steps, and there it must not."""
    running: left_behind.Running | None = None
    try:
        running = left_behind.start(f"katax-job-{execution.job.name}", execution.execute)
        running.ended(None)
    except BaseException:
        execution.stop("interrupted")
        if running is not None and not running.ended(execution.job.kill_after + _KILL_SECONDS):
            execution.stop("interrupted", force=True)
            running.ended(_KILL_SECONDS)
        raise
    return execution.run
