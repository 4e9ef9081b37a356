"""The rows and lines of `katax migrate`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from katax_cli.services.migrate.forecast import Forecast
    from katax_cli.services.migrate.rehearse import Rehearsal
    from katax_cli.services.migrate.values import Outcome, Standing

STATUS_HEADER = ("version", "name", "state", "applied_at", "duration_ms")
CHECK_HEADER = ("connection", "ok", "applied", "pending", "failed", "missing", "modified")

PLAN_HEADER = (
    "version", "name", "line", "statement", "lock", "on", "transactional", "rewrites", "blockers", "advice",
)  # fmt: skip


def status_row(one: Standing) -> tuple[object, ...]:
    return (one.version, one.name, one.state, one.applied_at, one.duration_ms)


def check_row(connection: str, standings: Sequence[Standing]) -> tuple[object, ...]:
    """The number of migrations in each state; `ok` when all are applied as their files say."""
    count = Counter(migration.state for migration in standings)
    states = (count["applied"], count["pending"], count["failed"], count["missing"], count["modified"])
    return (connection, is_settled(standings), *states)


def is_settled(standings: Sequence[Standing]) -> bool:
    """True if nothing is left to do or to explain."""
    return all(migration.state == "applied" for migration in standings)


def done_line(outcome: Outcome) -> str:
    """The line about a migration after its commit."""
    verb = "applied" if outcome.direction == "up" else "reverted"
    return f"{verb} {outcome.name} ({outcome.duration_ms} ms)"


def plan_row(one: Forecast) -> tuple[object, ...]:
    return (
        one.version,
        one.name,
        one.line,
        one.statement,
        one.lock,
        one.on,
        one.transactional,
        one.rewrites,
        list(one.blockers),
        one.advice,
    )


def rehearsal_facts(one: Rehearsal) -> dict[str, object]:
    """The rehearsed migrations and the differences, as JSON facts."""
    return {
        "ok": one.ok,
        "migrations": list(one.migrations),
        "copied": one.copied,
        "left_by_down": list(one.left_by_down),
        "second_up": list(one.second_up),
    }
