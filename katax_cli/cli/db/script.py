"""The parts of `katax db exec` that are about words on the command line: the script, its results, how far it came."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

from katax_cli.cli.db.review import Review, review_of
from katax_cli.cli.db.run import confirm_script, may_write, redacted
from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.journal import WriteRecord, recorded
from katax_cli.cli.shell.output import OF_A_SERVER
from katax_cli.cli.shell.scope import Scope
from katax_cli.core.settings import ConnectionSettings
from katax_cli.core.sql import Statement, split
from katax_cli.core.text.text import to_json, unique_names
from katax_cli.engines.base import Row
from katax_cli.errors import KataxError
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.databases.transaction import Transaction
from katax_cli.services.tables.scripts import Answers, may_answer, run_script

SCRIPT_HEADER = ("statements", "executed", "rows_affected")


def run_exec(chosen: Scope, text: str, *, single_transaction: bool, max_rows: int | None) -> ExitCode:
    """Runs a script on the connection, with a glob on all that match; after the last question was answered."""
    call = chosen.call
    scripts = {settings.name: _statements(text, settings) for settings in chosen.settings}
    runs = {
        settings.name: _ScriptRun(
            chosen, settings, scripts[settings.name], single_transaction, max_rows
        ).agreed()
        for settings in chosen.settings
    }
    if _only_planned(call, scripts):
        return ExitCode.DONE
    if call.is_glob:
        return _run_each(chosen, runs)
    results = _Results(call)
    row = runs[chosen.one.name].run(chosen.sql, Answers(results.take, call.out.texts))
    results.end(dict(zip(SCRIPT_HEADER, row, strict=True)))
    return ExitCode.DONE


@dataclass(frozen=True)
class _ScriptRun:
    """The run of a script on one connection."""

    chosen: Scope
    settings: ConnectionSettings
    statements: Sequence[Statement]
    single_transaction: bool
    max_rows: int | None
    review: Review | None = None

    def agreed(self) -> _ScriptRun:
        """Asks what is to be asked before anything is run; with the answers. Raises Refused."""
        with recorded(self.chosen, self.settings, redacted(self.statements), refusals_only=True):
            confirm_script(self.chosen, self.settings, self.statements)
            review = review_of(self.chosen, self.settings, self.statements, max_rows=self.max_rows)
        if review is None or self.chosen.profile.role != "prod":
            return self
        # The rows of each statement are limited, not those of all.
        single = self.single_transaction or review.in_transaction
        return replace(self, review=replace(review, max_rows=None), single_transaction=single)

    def run(self, database: SqlDatabase, answers: Answers) -> Row:
        """Runs it; returns the values of `SCRIPT_HEADER`."""
        with self._recorded() as record:
            record.undoable = self.single_transaction
            result = run_script(
                database,
                self.statements,
                single_transaction=self.single_transaction,
                max_rows=self.max_rows,
                on_failure=self._note_failure,
                answers=answers,
                review=partial(self._settle, record),
                on_interrupt=self._note_interrupt,
            )
            record.rows = result.affected
        return (result.statements, result.statements, result.affected)

    def _recorded(self) -> AbstractContextManager[WriteRecord]:
        if not any(map(may_write, self.statements)):
            return nullcontext(WriteRecord())
        return recorded(self.chosen, self.settings, redacted(self.statements))

    def _settle(self, record: WriteRecord, transaction: Transaction, changed: int) -> None:
        record.rows = changed
        if self.review is not None:
            self.review.settle(transaction, None if self.review.uncounted else changed)
        record.undoable = False

    @property
    def _where(self) -> str:
        return f" on {self.settings.name!r}" if self.chosen.call.is_glob else ""

    def _note_failure(
        self, failed: Statement | None, done: int, kept: int, rollback_error: KataxError | None
    ) -> None:
        """Says how far the script came, and how much of it lasts."""
        lasting = f"; {done} of {len(self.statements)} statements succeeded before it"
        if rollback_error is not None:
            lasting += f", and rolling back failed: {rollback_error}"
        elif self.single_transaction:
            lasting = "; all of it was rolled back"
        elif kept != done:
            lasting += f", {kept} of them stay applied"
        what = "COMMIT" if failed is None else f"line {failed.line}"
        self.chosen.call.diagnostics.note(f"{what} failed{self._where}{lasting}")

    def _note_interrupt(self, met: Statement | None, kept: int, in_transaction: bool) -> None:
        """Says what lasts of it after an interrupt; the statement under way was cancelled, or had just ended."""
        note = self.chosen.call.diagnostics.note
        if met is None:
            note(f"interrupted{self._where} in COMMIT: whether the script was applied is not known")
            return
        unsure = not in_transaction and may_write(met)
        applied = f"{'at least ' if unsure else ''}{kept} of {len(self.statements)} statements applied"
        if in_transaction:
            applied = "rolled back" if kept == 0 else f"{applied}, the open transaction rolled back"
        note(f"interrupted{self._where}: {applied}")


def _run_each(chosen: Scope, runs: Mapping[str, _ScriptRun]) -> ExitCode:
    """A row for each connection; with the rows that its statements returned, where some can return any."""
    answering = any(may_answer(statement) for run in runs.values() for statement in run.statements)
    asks = any(run.review is not None and run.review.asks for run in runs.values())

    def work(database: SqlDatabase) -> list[Row]:
        results: list[list[dict[str, object]]] = []

        def take(columns: Sequence[str], batches: Iterable[Sequence[Row]]) -> None:
            names = unique_names(columns)
            results.append([dict(zip(names, row, strict=True)) for batch in batches for row in batch])

        row = runs[database.name].run(database, Answers(take, "json"))
        return [(*row, results) if answering else row]

    header = (*SCRIPT_HEADER, "results") if answering else SCRIPT_HEADER
    return chosen.answer_each(header, work, in_turn=asks)


class _Results:
    """Writes the results of a script as they arrive, then what it did; JSON: one object of both."""

    def __init__(self, call: Invocation) -> None:
        self._call = call
        self._count = 0

    def take(self, columns: Sequence[str], batches: Iterable[Sequence[Row]]) -> None:
        out = self._call.out
        if out.format == "json":
            out.raw(b", " if self._count else b'{"results": [')
        elif self._count and out.format != "jsonl":
            out.raw(b"\n")
        self._count += 1
        out.rows(columns, batches, OF_A_SERVER)

    def end(self, facts: Mapping[str, object]) -> None:
        if not self._count:
            self._call.out.action(facts)
        elif self._call.out.format == "json":
            self._call.out.text("], " + to_json(facts)[1:])
        else:
            self._call.diagnostics.note(
                f"{facts['executed']} statements done, {facts['rows_affected']} rows affected"
            )


def _statements(text: str, settings: ConnectionSettings) -> list[Statement]:
    assert settings.type in ("postgresql", "mysql", "sqlite")
    return list(split(text, settings.type))


def _only_planned(call: Invocation, scripts: Mapping[str, Sequence[Statement]]) -> bool:
    if call.is_glob:
        return call.only_planned(connections=list(scripts), executed=0)
    (statements,) = scripts.values()
    return call.only_planned(statements=len(statements), executed=0)
