"""Claims and runs in the state database.

The claim is an INSERT under a unique (profile, job, planned instant); all of one tick are one transaction. A
running row is leased by the database's clock: when its daemon does not renew it, any other closes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any

from katax_cli.errors import OutcomeUnknown
from katax_cli.services.cron.ledger.values import Decide, Remaining, Run, unless_accounted
from katax_cli.services.databases.statements import Queries
from katax_cli.services.state.schema import LEASE_SECONDS, Tables, marks, parts

_FIELDS = (
    *(
        "run_id",
        "trigger",
        "scheduled_at",
        "until_at",
        "count",
        "state",
        "reason",
        "started_at",
        "finished_at",
    ),
    *("exit_status", "attempt", "host", "daemon", "process", "stop_reason", "output_head", "output_tail"),
)
_OTHER_NAMES = {"trigger": "trigger_kind", "count": "occurrences"}
_FACTS = ", ".join(_OTHER_NAMES.get(field, field) for field in _FIELDS)
_READ = f"job, {_FACTS}"
_BRIEF = _READ.replace("output_head, output_tail", "NULL, NULL")
_COLUMNS = f"profile, job, claim, {_FACTS}"


class Runs:
    """The runs of one profile. Raises what a database raises."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def claim(
        self, runs: Sequence[Run], decide: Decide, remaining: Remaining = unless_accounted
    ) -> list[Run]:
        """Claims those of these runs that no other daemon has, as they were decided; one transaction.

        A claim whose outcome is not known is asked for again with the same ids: what an earlier one wrote is
        returned as it was written.
        """
        if not runs:
            return []
        ordered = sorted(runs, key=lambda run: (run.job, run.scheduled_at))
        decided: list[Run] = []

        def work(transaction: Queries) -> None:
            decided[:] = self._decided(transaction, ordered, decide, remaining)
            self._insert_runs(transaction, decided)
            self._advance(transaction, decided)

        with suppress(OutcomeUnknown):  # the ids say which of them were written
            self._tables.transaction(work)
        return self._written(ordered, {run.run_id: run for run in decided})

    def _written(self, runs: Sequence[Run], decided: Mapping[str, Run]) -> list[Run]:
        """The rows of these ids; as decided now, unless an earlier attempt had written something else."""
        states = self._states([run.run_id for run in runs])
        alike = {run_id for run_id, run in decided.items() if states.get(run_id) == (run.state, run.reason)}
        earlier = [run_id for run_id in states if run_id not in alike]
        stored = {run.run_id: run for run_id in earlier for run in self.history(run_id=run_id)}
        return [
            decided[run.run_id] if run.run_id in alike else stored[run.run_id]
            for run in runs
            if run.run_id in states
        ]

    def _decided(self, on: Queries, runs: Sequence[Run], decide: Decide, remaining: Remaining) -> list[Run]:
        jobs = sorted({run.job for run in runs})
        accounted = self._locked(on, jobs)
        active: dict[str, list[Run]] = {}
        for run in self._active(on, jobs):
            active.setdefault(run.job, []).append(run)
        found = []
        for run in filter(None, (remaining(run, accounted.get(run.job, -1)) for run in runs)):
            others = active.setdefault(run.job, [])
            made = decide(run, others) if run.state == "running" else run
            if made.state == "running":
                others.append(made)
            found.append(made)
        return found

    def _locked(self, on: Queries, jobs: Sequence[str]) -> dict[str, int]:
        """Up to where each job is accounted for; other daemons wait for the end of this transaction."""
        accounted: dict[str, int] = {}
        for part in parts(jobs):
            sql = (
                "SELECT job, accounted_until FROM katax_cron_jobs "
                f"WHERE profile = ? AND job IN ({marks(part)}) ORDER BY job{self._tables.for_update}"
            )
            rows = on.run(sql, [self._tables.profile, *part]).rows
            accounted.update((str(job), at) for job, at in rows if at is not None)
        return accounted

    def _active(self, on: Queries, jobs: Sequence[str]) -> list[Run]:
        runs: list[Run] = []
        for part in parts(jobs):
            where = f"state = 'running' AND profile = ? AND job IN ({marks(part)})"
            sql = f"SELECT {_READ} FROM katax_cron_runs WHERE {where}"
            runs += map(_run_of, on.run(sql, [self._tables.profile, *part]).rows)
        return runs

    def active(self, jobs: Sequence[str]) -> list[Run]:
        """The running and waiting runs of these jobs, on all daemons."""
        return self._active(self._tables.database, jobs)

    def record(self, runs: Sequence[Run]) -> None:
        """Writes rows as they are, unless their occurrence has one."""

        def work(transaction: Queries) -> None:
            self._insert_runs(transaction, runs)
            self._advance(transaction, runs)

        self._tables.transaction(work)

    def _insert_runs(self, on: Queries, runs: Sequence[Run]) -> None:
        facts = attrgetter(*_FIELDS)
        rows = [(self._tables.profile, run.job, run.claim, *facts(run)) for run in runs]
        self._tables.insert(on, "katax_cron_runs", f"{_COLUMNS}, lease_until", rows, f", {self._lease}")

    @property
    def _lease(self) -> str:
        """SQL for the moment at which a lease that is given now ends."""
        return f"{self._tables.now} + {int(LEASE_SECONDS * 1000)}"

    def _advance(self, on: Queries, runs: Sequence[Run]) -> None:
        """Up to where each job is accounted for; never back."""
        latest: dict[str, int] = {}
        for run in runs:
            if run.trigger == "schedule":
                latest[run.job] = max(latest.get(run.job, 0), run.until_at or run.scheduled_at)
        on.execute_many(
            "UPDATE katax_cron_jobs SET accounted_until = ? "
            "WHERE profile = ? AND job = ? AND (accounted_until IS NULL OR accounted_until < ?)",
            [(at, self._tables.profile, job, at) for job, at in sorted(latest.items())],
        )

    def _states(self, run_ids: Sequence[str]) -> dict[str, tuple[str, str | None]]:
        """Id to state and reason of the rows that are there."""
        states: dict[str, tuple[str, str | None]] = {}
        for part in parts(run_ids):
            sql = f"SELECT run_id, state, reason FROM katax_cron_runs WHERE run_id IN ({marks(part)})"
            states.update((str(row[0]), (str(row[1]), row[2])) for row in self._tables.run(sql, part).rows)
        return states

    def update(self, run: Run) -> None:
        """Writes the outcome of a run, unless its row was closed by another daemon.

        Without an exit status only where the run is still ours: its own daemon, which knows it, may watch it again.
        """
        unknown = run.exit_status is None
        self._tables.run(
            "UPDATE katax_cron_runs SET state = ?, reason = ?, started_at = ?, finished_at = ?, exit_status = ?, "
            "attempt = ?, process = ?, output_head = ?, output_tail = ? WHERE run_id = ? AND state = 'running'"
            + (" AND daemon = ?" if unknown else ""),
            [
                *(run.state, run.reason, run.started_at, run.finished_at, run.exit_status, run.attempt),
                *(run.process, run.output_head, run.output_tail, run.run_id),
                *([run.daemon] if unknown else []),
            ],
        )

    def note_processes(self, runs: Sequence[Run]) -> None:
        """Writes which processes runs are."""
        rows = [(run.process, run.run_id) for run in sorted(runs, key=lambda run: run.run_id)]

        def work(transaction: Queries) -> None:
            transaction.execute_many(
                "UPDATE katax_cron_runs SET process = ? WHERE run_id = ? AND state = 'running'", rows
            )

        if rows:
            self._tables.transaction(work)

    def ask_to_stop(self, run_ids: Sequence[str], reason: str) -> None:
        """Leaves word for the daemons whose runs these are."""
        for part in parts(run_ids):
            self._tables.run(
                f"UPDATE katax_cron_runs SET stop_reason = ? WHERE state = 'running' AND run_id IN ({marks(part)})",
                [reason, *part],
            )

    def renew(self, daemon: str) -> None:
        """Prolongs the leases of a daemon's runs."""
        self._tables.run(
            f"UPDATE katax_cron_runs SET lease_until = {self._lease} WHERE state = 'running' AND daemon = ?",
            [daemon],
        )

    def mine(self, daemon: str) -> dict[str, str | None]:
        """The runs of a daemon that still count as running, and why they are to be stopped, if they are."""
        sql = "SELECT run_id, stop_reason FROM katax_cron_runs WHERE state = 'running' AND daemon = ?"
        return {str(row[0]): row[1] for row in self._tables.run(sql, [daemon]).rows}

    def daemons(self) -> list[str]:
        """The daemons whose runs count as running."""
        sql = "SELECT DISTINCT daemon FROM katax_cron_runs WHERE state = 'running' AND profile = ?"
        return [str(row[0]) for row in self._tables.run(sql, [self._tables.profile]).rows]

    def abandoned(self, daemons: Iterable[str] = ()) -> list[Run]:
        """Runs whose lease ran out, and those of daemons that are known to be dead."""
        where, params = self._abandoned(list(daemons))
        rows = self._tables.run(f"SELECT {_READ} FROM katax_cron_runs WHERE {where}", params).rows
        return [_run_of(row) for row in rows]

    def close(self, run: Run, reason: str, daemons: Iterable[str] = ()) -> bool:
        """Closes an abandoned run as failed; False when it was renewed, taken over or ended a moment ago."""
        return self._seize(
            run, f"state = 'failed', reason = ?, finished_at = {self._tables.now}", reason, daemons
        )

    def close_unstarted(self, run_id: str, daemon: str, reason: str) -> None:
        """Closes a run that this daemon claimed without learning of it in time: it was missed."""
        self._tables.run(
            f"UPDATE katax_cron_runs SET state = 'missed', reason = ?, started_at = NULL, attempt = 0, "
            f"finished_at = {self._tables.now} WHERE run_id = ? AND state = 'running' AND daemon = ?",
            [reason, run_id, daemon],
        )

    def take_over(self, run: Run, daemon: str, daemons: Iterable[str] = ()) -> bool:
        """Assigns an abandoned run to another daemon; False when a third one was quicker."""
        return self._seize(run, f"daemon = ?, lease_until = {self._lease}", daemon, daemons)

    def take_back(self, run_ids: Iterable[str], daemon: str, machine: str) -> list[str]:
        """Makes runs that were taken over by daemons of the same machine those of `daemon` again; returns which."""
        runs = []
        for run_id in run_ids:
            done = self._tables.run(
                f"UPDATE katax_cron_runs SET daemon = ?, lease_until = {self._lease} "
                "WHERE run_id = ? AND state = 'running' AND daemon LIKE ?",
                [daemon, run_id, f"{machine}:%"],
            )
            runs += [run_id] * done.affected
        return runs

    def _seize(self, run: Run, assignment: str, value: str, daemons: Iterable[str]) -> bool:
        # Looked at again: it may have been renewed a moment ago.
        where, params = self._abandoned(list(daemons))
        return bool(
            self._tables.run(
                f"UPDATE katax_cron_runs SET {assignment} WHERE {where} AND run_id = ? AND daemon = ?",
                [value, *params, run.run_id, run.daemon],
            ).affected
        )

    def _abandoned(self, daemons: list[str]) -> tuple[str, list[object]]:
        dead = f" OR daemon IN ({marks(daemons)})" if daemons else ""
        where = f"state = 'running' AND profile = ? AND (lease_until < {self._tables.now}{dead})"
        return where, [self._tables.profile, *daemons]

    def history(
        self,
        *,
        job: str | None = None,
        limit: int | None = None,
        run_id: str | None = None,
        outputs: bool = True,
    ) -> list[Run]:
        """Rows, the latest first; of one run when it is asked for by (the beginning of) its id."""
        where, params = "profile = ?", [self._tables.profile]
        if job is not None:
            where, params = f"{where} AND job = ?", [*params, job]
        if run_id is not None:
            where, params = f"{where} AND run_id LIKE ?", [*params, f"{run_id}%"]
        tail = f" LIMIT {limit}" if limit is not None else ""
        rows = self._tables.run(
            f"SELECT {_READ if outputs else _BRIEF} FROM katax_cron_runs "
            f"WHERE {where} ORDER BY scheduled_at DESC, run_id{tail}",
            params,
        ).rows
        return [_run_of(row) for row in rows]

    def prune(self, seconds: float) -> int:
        """Deletes what ended longer ago; returns the number of rows."""
        return self._tables.run(
            f"DELETE FROM katax_cron_runs WHERE state <> 'running' AND profile = ? "
            f"AND scheduled_at < {self._tables.now} - {int(seconds * 1000)}",
            [self._tables.profile],
        ).affected


def _run_of(row: Sequence[Any]) -> Run:
    job, *facts = row
    return Run(job, **dict(zip(_FIELDS, facts, strict=True)))
