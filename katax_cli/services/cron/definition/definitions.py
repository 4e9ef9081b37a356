"""Jobs in the state database: added ones, switches by operators, meanings of schedules."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from katax_cli.services.databases.statements import Queries
from katax_cli.services.state.schema import Tables


@dataclass(frozen=True, slots=True)
class Stored:
    """A job in the database. `definition`: of one that was added; `switched`: by an operator."""

    job: str
    definition: Mapping[str, Any] | None
    switched: bool | None
    schedule: str | None
    canonical: str | None
    accounted_until: int | None


class Definitions:
    """The jobs of one profile, as the state database knows them."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def version(self) -> int:
        """A number that grows with every change of definitions or switches."""
        rows = self._tables.run("SELECT value FROM katax_cron_meta WHERE name = ?", [self._version_name]).rows
        return int(rows[0][0]) if rows else 0

    @property
    def _version_name(self) -> str:
        return f"jobs:{self._tables.profile}"

    def jobs(self) -> list[Stored]:
        """All that is known of the profile's jobs."""
        sql = (
            "SELECT job, definition, switched, schedule, canonical, accounted_until FROM katax_cron_jobs "
            "WHERE profile = ? ORDER BY job"
        )
        return [_stored(row) for row in self._tables.run(sql, [self._tables.profile]).rows]

    def define(self, job: str, definition: Mapping[str, Any] | None) -> None:
        """Adds a job or replaces its definition; None takes it away."""
        text = None if definition is None else json.dumps(definition)
        self._change(job, "definition = ?", [text])

    def forget(self, job: str) -> None:
        """Removes a job that was added, with its switch; its history stays."""

        def work(transaction: Queries) -> None:
            transaction.run(
                "DELETE FROM katax_cron_jobs WHERE profile = ? AND job = ?", [self._tables.profile, job]
            )
            self._bump(transaction)

        self._tables.transaction(work)

    def switch(self, job: str, on: bool | None) -> None:
        """An operator's word on whether a job runs; None: its definition rules again.

        What was due while it was off was not missed.
        """
        self._change(
            job, f"switched = ?, accounted_until = {self._tables.now}", [None if on is None else int(on)]
        )

    def note_schedules(self, known: Iterable[tuple[str, str, str, int]]) -> None:
        """Remembers (job, schedule, canonical form, accounted until) of jobs that are new or changed."""
        rows = list(known)

        def work(transaction: Queries) -> None:
            self._tables.insert(
                transaction,
                "katax_cron_jobs",
                "profile, job",
                [(self._tables.profile, row[0]) for row in rows],
            )
            transaction.execute_many(
                "UPDATE katax_cron_jobs SET schedule = ?, canonical = ?, accounted_until = ? "
                "WHERE profile = ? AND job = ?",
                [(text, canonical, at, self._tables.profile, job) for job, text, canonical, at in rows],
            )

        if rows:
            self._tables.transaction(work)

    def _change(self, job: str, assignment: str, values: Sequence[object]) -> None:
        def work(transaction: Queries) -> None:
            self._tables.insert(transaction, "katax_cron_jobs", "profile, job", [(self._tables.profile, job)])
            transaction.run(
                f"UPDATE katax_cron_jobs SET {assignment} WHERE profile = ? AND job = ?",
                [*values, self._tables.profile, job],
            )
            self._bump(transaction)

        self._tables.transaction(work)

    def _bump(self, on: Queries) -> None:
        self._tables.insert(on, "katax_cron_meta", "name, value", [(self._version_name, 0)])
        on.run("UPDATE katax_cron_meta SET value = value + 1 WHERE name = ?", [self._version_name])


def _stored(row: Sequence[Any]) -> Stored:
    job, definition, switched, schedule, canonical, accounted_until = row
    return Stored(
        job=job,
        definition=None if definition is None else json.loads(definition),
        switched=None if switched is None else bool(switched),
        schedule=schedule,
        canonical=canonical,
        accounted_until=accounted_until,
    )
