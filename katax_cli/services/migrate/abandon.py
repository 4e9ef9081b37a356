"""Giving up a migration that stopped in its middle: what of it lasts, and its file pending again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

from katax_cli.core.sql import Dialect, tokens
from katax_cli.services.migrate.ledger.intent import StatementFate, judge, objects_of
from katax_cli.services.migrate.ledger.ledger import Checkpoint
from katax_cli.services.migrate.values import Direction, LedgerEntry, MigrationFile, Standing

if TYPE_CHECKING:
    from katax_cli.engines.migrations import Migrates
    from katax_cli.services.migrate.connection import MigrationConnection
    from katax_cli.services.migrate.jobs import MigrationJob
    from katax_cli.services.migrate.ledger.ledger import SqlLedger

_CHANGE_NOTHING = ("session", "transaction", "read")
_SHOWN = 100


class ReadsJobs(Protocol):
    """Gives the engine, the ledger and the jobs of one database's migrations."""

    engine: Migrates
    ledger: SqlLedger

    def job(self, file: MigrationFile, direction: Direction) -> MigrationJob: ...


class Lasting(NamedTuple):
    """A statement, or a step of a `.py` file, whose effect stays; `is_known` is False where that cannot be known."""

    line: int
    text: str
    is_known: bool = True

    def __str__(self) -> str:
        line = f"line {self.line}: " if self.line else ""
        return f"{line}{self.text}{'' if self.is_known else ' (unknown whether it was applied)'}"


class Abandoned(NamedTuple):
    """A migration that was given up; `reverted` when its DOWN section ran."""

    name: str
    lasting: tuple[Lasting, ...]
    reverted: bool


def lasting(migrator: ReadsJobs, session: MigrationConnection, standing: Standing) -> tuple[Lasting, ...]:
    """The lasting changes of a migration that stopped, in the order of its text as it ran; changes nothing."""
    entry = standing.entry
    assert entry is not None
    point = migrator.ledger.checkpoint(session, entry.version)
    if entry.name.endswith(".py"):
        return tuple(_steps(point))
    return tuple(_statements(migrator, session, _job(migrator, session, standing, entry), entry, point))


def _job(
    migrator: ReadsJobs, session: MigrationConnection, standing: Standing, entry: LedgerEntry
) -> MigrationJob:
    """The statements as they ran: the file may say something else by now, or be gone."""
    text = migrator.ledger.body(session, entry.version)
    kept = MigrationFile(entry.version, entry.name, entry.name, text.encode(), entry.checksum)
    return migrator.job(kept if text or standing.file is None else standing.file, entry.direction)


def _steps(point: Checkpoint) -> Iterator[Lasting]:
    yield from (Lasting(0, f"step {name!r}") for name in point.steps)
    if point.unit is not None:
        yield Lasting(0, f"step {point.unit!r}" if point.unit else "code", is_known=False)


def _statements(
    migrator: ReadsJobs,
    session: MigrationConnection,
    job: MigrationJob,
    entry: LedgerEntry,
    point: Checkpoint,
) -> Iterator[Lasting]:
    for statement in job.statements[: entry.done]:
        if statement.kind not in _CHANGE_NOTHING or statement.calls_others:
            yield Lasting(statement.line, _short(statement.text, session.dialect))
    if point.unit is None:
        return
    objects = objects_of(point.unit, session.dialect)
    now = session.ask(migrator.engine.definitions, objects) if objects else {}
    verdict = judge(point.unit, session.dialect, point.before, now, refused=entry.state == "failed")
    if verdict is not StatementFate.UNDONE:
        yield Lasting(point.line, _short(point.unit, session.dialect), is_known=verdict is StatementFate.DONE)


def _short(sql: str, dialect: Dialect) -> str:
    head = tokens(sql[: 40 * _SHOWN], dialect)
    text = " ".join("".join(" " if token.kind == "comment" else token.text for token in head).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
