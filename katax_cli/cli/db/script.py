"""The parts of `katax db exec` that are about words on the command line: the script, its results, how far it came."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
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
    reviews = {
        settings.name: _agreed(chosen, settings, scripts[settings.name], max_rows)
        for settings in chosen.settings
    }
    if _only_planned(call, scripts):
        return ExitCode.DONE

    def run(database: SqlDatabase, answers: Answers) -> Row:
        statements, review = scripts[database.name], reviews[database.name]
        single = single_transaction or (review is not None and review.in_transaction)
        with _recorded(chosen, database, statements) as record:
            record.undoable = single
            result = run_script(
                database,
                statements,
                single_transaction=single,
                max_rows=max_rows,
                on_failure=partial(_note_failure, call, database.name, len(statements), single),
                answers=answers,
                review=partial(_review, review, record),
                on_interrupt=partial(_note_interrupt, call, database.name, len(statements)),
            )
            record.rows = result.affected
        return (result.statements, result.statements, result.affected)

    if call.is_glob:
        answering = any(
            may_answer(statement) for settings in chosen.settings for statement in scripts[settings.name]
        )
        asks = any(review is not None and review.asks for review in reviews.values())
        return _run_each(chosen, run, answering=answering, in_turn=asks)
    results = _Results(call)
    row = run(chosen.sql, Answers(results.take, call.out.texts))
    results.end(dict(zip(SCRIPT_HEADER, row, strict=True)))
    return ExitCode.DONE


def _agreed(
    chosen: Scope, settings: ConnectionSettings, statements: Sequence[Statement], max_rows: int | None
) -> Review | None:
    with recorded(chosen, settings, redacted(statements), refusals_only=True):
        confirm_script(chosen, settings, statements)
        review = review_of(chosen, settings, statements, max_rows=max_rows)
    # The rows of each statement are limited, not those of all.
    return None if review is None or chosen.profile.role != "prod" else replace(review, max_rows=None)


def _recorded(
    chosen: Scope, database: SqlDatabase, statements: Sequence[Statement]
) -> AbstractContextManager[WriteRecord]:
    if not any(map(may_write, statements)):
        return nullcontext(WriteRecord())
    return recorded(chosen, database.settings, redacted(statements))


def _review(review: Review | None, record: WriteRecord, transaction: Transaction, changed: int) -> None:
    record.rows = changed
    if review is not None:
        review.settle(transaction, None if review.uncounted else changed)
    record.undoable = False


def _run_each(chosen: Scope, run: Callable[..., Row], *, answering: bool, in_turn: bool) -> ExitCode:
    """A row for each connection; with the rows that its statements returned, where some can return any."""

    def work(database: SqlDatabase) -> list[Row]:
        results: list[list[dict[str, object]]] = []

        def take(columns: Sequence[str], batches: Iterable[Sequence[Row]]) -> None:
            names = unique_names(columns)
            results.append([dict(zip(names, row, strict=True)) for batch in batches for row in batch])

        row = run(database, Answers(take, "json"))
        return [(*row, results) if answering else row]

    header = (*SCRIPT_HEADER, "results") if answering else SCRIPT_HEADER
    return chosen.answer_each(header, work, in_turn=in_turn)


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


def _note_failure(
    call: Invocation,
    name: str,
    total: int,
    single: bool,
    failed: Statement | None,
    done: int,
    kept: int,
    left: KataxError | None,
) -> None:
    """Says how far a script came, and how much of it lasts."""
    where = f" on {name!r}" if call.is_glob else ""
    if left is not None:
        lasting = f"; {done} of {total} statements succeeded before it, and rolling back failed: {left}"
    elif single:
        lasting = "; all of it was rolled back"
    else:
        lasting = f"; {done} of {total} statements succeeded before it"
        lasting += "" if kept == done else f", {kept} of them stay applied"
    what = "COMMIT" if failed is None else f"line {failed.line}"
    call.diagnostics.note(f"{what} failed{where}{lasting}")


def _note_interrupt(
    call: Invocation, name: str, total: int, met: Statement | None, kept: int, in_transaction: bool
) -> None:
    """Says what lasts of a script that was interrupted; the statement under way was cancelled, or had just ended."""
    where = f" on {name!r}" if call.is_glob else ""
    if met is None:
        call.diagnostics.note(f"interrupted{where} in COMMIT: whether the script was applied is not known")
        return
    unsure = not in_transaction and may_write(met)
    applied = f"{'at least ' if unsure else ''}{kept} of {total} statements applied"
    if in_transaction:
        applied = "rolled back" if kept == 0 else f"{applied}, the open transaction rolled back"
    call.diagnostics.note(f"interrupted{where}: {applied}")
