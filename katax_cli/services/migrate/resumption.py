"""Resuming a migration that stopped: the unit to go on with, judged by what its server has."""

from __future__ import annotations

from collections.abc import Callable

from katax_cli.core.sql import normalise
from katax_cli.errors import MigrationError, OutcomeUnknown
from katax_cli.services.migrate.connection import MigrationConnection
from katax_cli.services.migrate.jobs import Fingerprint, MigrationJob
from katax_cli.services.migrate.ledger.intent import StatementFate, changed_lines, judge
from katax_cli.services.migrate.ledger.ledger import Checkpoint, SqlLedger
from katax_cli.services.migrate.ledger.lost_state import lost_state
from katax_cli.services.migrate.values import LedgerEntry

_SHOWN = 6


class Resumption:
    """The checkpoint of one job, compared with its file and with the `definitions` on the server."""

    def __init__(
        self,
        job: MigrationJob,
        session: MigrationConnection,
        ledger: SqlLedger,
        fingerprint: Fingerprint,
        definitions: Callable[[str], dict[str, str]],
    ) -> None:
        self._job = job
        self._session = session
        self._ledger = ledger
        self._fingerprint = fingerprint
        self._definitions = definitions
        self._dialect = session.dialect

    def start(self, assume: str | None) -> tuple[int, tuple[str, ...]]:
        """The first unit that is not done (of a `.py` file: 1 when all of it is), and the steps that are done.

        Raises OutcomeUnknown when it cannot be known what the unit under way did.
        """
        entry = next(
            one for one in self._ledger.entries(self._session) or () if one.version == self._job.version
        )
        point = self._ledger.checkpoint(self._session, self._job.version)
        if self._job.function is not None:
            return self._after_step(point, assume, failed=entry.state == "failed")
        if point.digest and point.digest != self._fingerprint.of(entry.done):
            raise MigrationError(
                f"the {entry.done} finished statements of {self._job.name} were changed; "
                "put them back as they ran, then resume"
            )
        return entry.done + self._judged(point, assume, entry), ()

    def refuse_lost_state(self, start: int) -> None:
        """Raises MigrationError when a unit from `start` on reads what only the lost session had."""
        statements = self._job.statements
        lost = lost_state(statements[:start], statements[start:], self._dialect)
        if lost is not None:
            raise MigrationError(
                f"line {lost.line} of {self._job.name} reads {lost.name}, which was lost with the session of "
                "the statements before it; make it again in a statement before that line, then resume"
            )

    def _judged(self, point: Checkpoint, assume: str | None, entry: LedgerEntry) -> int:
        """1 if the statement under way ran, 0 if not."""
        if assume is not None:
            verdict = StatementFate.DONE if assume == "done" else StatementFate.UNDONE
        elif point.unit is None:
            return 0
        else:
            now = self._definitions(point.unit)
            verdict = judge(point.unit, self._dialect, point.before, now, refused=entry.state == "failed")
            if verdict is StatementFate.UNCLEAR:
                raise OutcomeUnknown(self._session.name, self._both_states(point, now))
        if verdict is StatementFate.DONE and point.unit is not None:
            self._refuse_edited(point.unit, entry.done)
        return int(verdict is StatementFate.DONE and entry.done < len(self._job.statements))

    def _refuse_edited(self, unit: str, done: int) -> None:
        now = self._job.statements[done].text if done < len(self._job.statements) else ""
        if normalise(now, self._dialect) != normalise(unit, self._dialect):
            raise MigrationError(
                f"statement {done + 1} of {self._job.name} was changed after it had run; "
                "put it back as it ran, then resume"
            )

    def _both_states(self, point: Checkpoint, now: dict[str, str]) -> str:
        lines = changed_lines(point.before, now)
        shown = " | ".join(lines[:_SHOWN]) or "nothing that can be compared"
        more = f" | and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        return (
            f"line {point.line} of {self._job.name} was under way; before (-) and now (+): {shown}{more}; "
            "resume with 'katax migrate resume --assume done' or '--assume undone'"
        )

    def _after_step(
        self, point: Checkpoint, assume: str | None, *, failed: bool
    ) -> tuple[int, tuple[str, ...]]:
        if point.unit is None or assume == "undone" or (failed and assume is None):
            return 0, point.steps
        if assume is None:
            what = f"step {point.unit!r}" if point.unit else "the code"
            raise OutcomeUnknown(
                self._session.name,
                f"{what} of {self._job.name} was under way; check the data, then resume with "
                "'katax migrate resume --assume done' or '--assume undone'",
            )
        # Without steps the unit is the whole file.
        return 0 if point.unit else 1, (*point.steps, point.unit)
