"""The effects of pending migrations on others: locks, rewrites, blocking sessions, gentler ways."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from katax_cli.errors import KataxError
from katax_cli.services.migrate.connection import MigrationConnection
from katax_cli.services.migrate.jobs import MigrationJob
from katax_cli.services.migrate.migrator import Migrator


@dataclass(frozen=True, slots=True)
class Forecast:
    """One statement of a pending migration. `rewrites` is None where it is not known."""

    version: str
    name: str
    line: int
    statement: str
    lock: str | None
    on: str | None
    transactional: bool
    rewrites: bool | None
    blockers: tuple[str, ...]
    advice: str | None


def forecast(migrator: Migrator) -> list[Forecast]:
    """Every statement that `up` would run, in order. Changes nothing."""
    jobs = migrator.pending()
    with migrator.session() as session:
        return [one for job in jobs for one in _of_job(migrator, session, job)]


def _of_job(migrator: Migrator, session: MigrationConnection, job: MigrationJob) -> list[Forecast]:
    forecasts = []
    for statement in job.statements:
        impact = migrator.engine.impact(statement)
        blockers = [
            line for table in impact.objects for line in _blockers(migrator, session, table) if impact.lock
        ]
        advice = impact.advice
        if (
            not impact.transactional
            and job.directives.transaction
            and migrator.engine.facts.transactional_ddl
        ):
            advice = "cannot run in a transaction; write '-- katax: no-transaction'"
        forecasts.append(
            Forecast(
                job.version,
                job.name,
                statement.line,
                _shown(statement.text),
                impact.lock,
                ", ".join(impact.objects) or None,
                impact.transactional,
                impact.rewrites,
                tuple(blockers),
                advice,
            )
        )
    return forecasts


def _blockers(migrator: Migrator, session: MigrationConnection, table: str) -> list[str]:
    with suppress(KataxError):
        return list(session.ask(migrator.engine.blockers, table))
    return []


def _shown(sql: str) -> str:
    """Its first line that is no comment, shortened."""
    lines = [line.strip() for line in sql.splitlines()]
    first = next((line for line in lines if line and not line.startswith("--")), "")
    return first if len(first) <= 80 else first[:79] + "…"
