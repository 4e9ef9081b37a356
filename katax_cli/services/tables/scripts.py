"""SQL scripts: statement by statement, in one transaction where that is asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

from katax_cli.core.interrupts import if_interrupted
from katax_cli.core.roles import Tier
from katax_cli.core.sql import Classification, Statement
from katax_cli.engines.base import Row, Text
from katax_cli.errors import ConfigError, KataxError, OutcomeUnknown, Refused
from katax_cli.services.databases.session import Session
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.databases.transaction import Transaction


@dataclass(frozen=True, slots=True)
class ScriptResult:
    """The number of statements, all of which ran, and of the rows that they changed."""

    statements: int
    affected: int


_ANSWERING = frozenset(
    ["CALL", "ANALYZE", "OPTIMIZE", "REPAIR", "WITH", "XA", "EXPLAIN", "PRAGMA", "EXECUTE"]
)
"""Verbs of statements that are no questions, and may answer with rows all the same."""
OnFailure = Callable[[Statement | None, int, int, KataxError | None], object]
"""Told the statement that failed, None for the COMMIT of a single transaction; how many succeeded before it; how many
of them stay applied; and the error of rolling back, if that failed too."""
OnInterrupt = Callable[[Statement | None, int, bool], object]
"""Told the statement that was under way, None for the COMMIT of a single transaction; how many before it stay applied;
and whether a transaction was open, which the server rolls back."""
BeforeCommit = Callable[[Transaction, int], object]
"""Given the open transaction and the rows that it changed, before it commits; raises once it rolled it back."""


class Answers(NamedTuple):
    """Where the rows go that statements of a script return: columns and batches; `text` as `stream` takes it."""

    take: Callable[[Sequence[str], Iterable[Sequence[Row]]], object]
    text: Text = False


def destructive_reasons(statements: Sequence[Statement]) -> list[str]:
    """The reasons why statements lose data that they do not name, one each; empty when none does."""
    return _losses([statement.effect for statement in statements])


def _losses(effects: Sequence[Classification]) -> list[str]:
    return [effect.reason or effect.verb for effect in effects if effect.destructive]


def harm_of(statements: Sequence[Statement]) -> tuple[Tier, str] | None:
    """The tier and the words of the question before statements lose data, or change rights or the server; else None."""
    effects = [statement.effect for statement in statements]
    losses = _losses(effects)
    disruptive = [effect.verb for effect in effects if effect.disruptive and not effect.destructive]
    reasons = dict.fromkeys([*losses, *disruptive])
    return (Tier.DESTRUCTIVE if losses else Tier.DISRUPTIVE, "; ".join(reasons)) if reasons else None


def may_answer(statement: Statement) -> bool:
    """True for what can return rows, as far as its syntax tells."""
    effect = statement.effect
    return effect.kind in ("read", "unknown") or effect.verb in _ANSWERING or returns_rows(statement)


def returns_rows(statement: Statement) -> bool:
    """True for a change with RETURNING."""
    return re.search(r"\breturning\b", statement.text, re.IGNORECASE) is not None


def run_script(
    database: SqlDatabase,
    statements: Sequence[Statement],
    *,
    single_transaction: bool = False,
    max_rows: int | None = None,
    on_failure: OnFailure = lambda _statement, _done, _kept, _left: None,
    answers: Answers | None = None,
    review: BeforeCommit | None = None,
    on_interrupt: OnInterrupt = lambda _statement, _kept, _open: None,
) -> ScriptResult:
    """Runs the statements in order on one connection; the first error stops it and is raised.

    `answers` gets the rows that statements return, result by result, before the next statement runs. `review` decides
    before the COMMIT of a single transaction. `on_interrupt` is called when what is no error ends it.

    Raises Refused, after undoing it, for a statement that changes more than `max_rows` rows, and for one that ends the
    single transaction, before anything ran for one whose rows nobody counts; KataxError, after undoing it, for a
    transaction that the script left open, and for one in the single transaction that the server committed by itself;
    ConfigError, before anything ran, for COPY … FROM stdin, and in the single transaction for what commits by itself.
    """
    statements = [one for one in statements if not one.is_ignorable]
    # A read-only session refuses every write by itself: there is nothing to undo.
    undoable = single_transaction and not database.settings.read_only
    for statement in statements:
        _refuse_unfit(statement, database, undoable=undoable)
    if max_rows is not None:
        refuse_uncounted(statements)
    affected = kept = 0
    with (
        database.session() as session,
        session.transaction() if single_transaction else nullcontext(session) as run,
    ):
        for done, statement in enumerate(statements):
            try:
                affected += _run(run, statement, max_rows, answers)
            except KataxError:
                on_failure(statement, done, kept, _rolled_back(run))
                raise
            except Exception:
                raise
            except BaseException:
                on_interrupt(statement, kept, session.in_transaction)
                raise
            if not session.in_transaction:
                kept = done + 1
            if kept and undoable:
                raise KataxError(
                    f"line {statement.line} ended the transaction by itself; "
                    f"{kept} of {len(statements)} statements stay applied, the rest did not run"
                )
        if isinstance(run, Transaction):
            if review is not None:
                review(run, affected)
            with if_interrupted(lambda: on_interrupt(None, 0, session.in_transaction)):
                _commit(run, len(statements), on_failure)
        if not single_transaction and session.in_transaction:
            raise KataxError(
                f"the script left its transaction on {database.name!r} open, so it was rolled back; end it with COMMIT"
            )
    return ScriptResult(len(statements), affected)


def _refuse_unfit(statement: Statement, database: SqlDatabase, *, undoable: bool) -> None:
    """Raises ConfigError for what a script cannot run, or, `undoable`, what could not be undone with the rest."""
    if statement.client_line is not None:
        word = statement.client_line.split()[0]
        raise ConfigError(f"line {statement.line} is for psql: {word}; run it with psql, or remove it")
    if statement.copy_data is not None:
        raise ConfigError(f"line {statement.line} copies from the script itself; run it with psql")
    if undoable and statement.commits_by_itself:
        raise ConfigError(
            f"line {statement.line}: {database.engine.name} commits by itself at {statement.effect.verb}, so "
            "--single-transaction could not undo what is before it; leave one of them out"
        )


def _rolled_back(run: Session | Transaction) -> KataxError | None:
    """Rolls back what is open; returns the error when not all of it could be."""
    try:
        if isinstance(run, Transaction):
            run.rollback()
        elif run.in_transaction:
            run.undo()
    except KataxError as error:
        return error
    return None


def _commit(run: Transaction, done: int, on_failure: OnFailure) -> None:
    try:
        run.commit()
    except OutcomeUnknown:
        raise
    except KataxError:
        on_failure(None, done, 0, None)
        raise


def refuse_uncounted(statements: Sequence[Statement]) -> None:
    """Raises Refused for a statement that changes or loses rows which no server counts."""
    for statement in statements:
        effect = statement.effect
        if effect.destructive and effect.kind == "ddl":
            raise Refused(
                f"line {statement.line}: the rows that {effect.reason} loses are not counted, so --max-rows-affected "
                "cannot hold; use DELETE, or leave the option out"
            )
        if effect.uncounted:
            raise Refused(
                f"line {statement.line}: the server does not count all rows that it changes, so --max-rows-affected "
                "cannot hold; write the changes as statements of their own, or leave the option out"
            )


def _run(
    target: Session | Transaction, statement: Statement, max_rows: int | None, answers: Answers | None
) -> int:
    """Runs one statement; returns the number of rows that it changed, as far as the server says."""
    controls = statement.begins_or_ends_transaction
    if controls and isinstance(target, Transaction):
        raise Refused(
            f"line {statement.line} begins or ends a transaction inside --single-transaction; leave one of them out"
        )
    if max_rows is None or controls:
        return _changed(target, statement, answers)
    with target.transaction() as transaction:
        changed = _changed(transaction, statement, answers)
        if changed > max_rows:
            raise Refused(
                f"line {statement.line} changes {changed} rows, more than --max-rows-affected {max_rows}; undone"
            )
    return changed


def _changed(target: Session | Transaction, statement: Statement, answers: Answers | None) -> int:
    if answers is None or not may_answer(statement):
        affected = target.execute(statement)
    else:
        affected, read = _answered(target, statement, answers)
        if affected < 0 and returns_rows(statement):
            affected = read
    return 0 if statement.kind == "read" else max(0, affected)


def _answered(target: Session | Transaction, statement: Statement, answers: Answers) -> tuple[int, int]:
    """Hands on the rows of a statement; returns the rows that it changed as the server says, and those read."""
    read = 0

    def batches() -> Iterator[Sequence[Row]]:
        nonlocal read
        for batch in rows:
            read += len(batch)
            yield batch

    with target.stream(statement, text=answers.text) as rows:
        if rows.columns:
            answers.take(rows.columns, batches())
        for _ in rows:
            pass
        return rows.affected, read
