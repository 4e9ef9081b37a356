"""Migrations that no transaction protects: an intent is written before each unit, so that a killed run can go on.

A unit is a statement, or a step of a `.py` file. Whatever the server can roll back runs in a transaction together
with the record of its being done; anything else is judged afterwards by the definitions of what it changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from katax_cli.core.sql import (
    Classification,
    Statement,
    find_outside_literals,
    mentioned,
    quote_identifier,
)
from katax_cli.engines.migrations import LacksTransactions, Migrates, RunsScripts
from katax_cli.errors import (
    DeadlineExceeded,
    KataxError,
    QueryError,
    RolledBack,
    StatementFailed,
    Unavailable,
)
from katax_cli.services.calls.guard import Safety
from katax_cli.services.migrate.connection import MigrationConnection
from katax_cli.services.migrate.files.python_errors import failing_as
from katax_cli.services.migrate.jobs import Fingerprint, MigrationJob
from katax_cli.services.migrate.ledger.intent import (
    StatementFate,
    changes,
    judge,
    objects_of,
    unnamed_indexes,
)
from katax_cli.services.migrate.ledger.ledger import Checkpoint, SqlLedger
from katax_cli.services.migrate.ledger.lost_state import only_sets, repeats_as_setting
from katax_cli.services.migrate.resumption import Resumption
from katax_cli.services.migrate.values import Outcome

_CHANGES_ROWS = frozenset(
    {"SELECT", "VALUES", "TABLE", "INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "COPY FROM"}
)
_REFUSED_IN_TRANSACTION = frozenset({"25001", "2D000"})
"""PostgreSQL's codes for statements, and for code that commits, which want no transaction around them."""
_GO_ON = (
    "correct it and go on with 'katax migrate resume', or give it up with 'katax migrate resume --abandon'"
)
_SMALL_CHANGES = frozenset({"INSERT ", "UPDATE ", "DELETE ", "REPLACE"})
_SMALL, _TOGETHER = 10_000, 500
"""Changes that share a transaction: of so many characters each, and so many of them."""


def run_statement(session: MigrationConnection, job: MigrationJob, statement: Statement) -> None:
    """Runs one statement of a job, with its data if it is a COPY."""
    if statement.copy_data is not None:
        session.copy_text(statement.text, statement.copy_data)
        return
    try:
        session.run(statement, timeout=job.directives.statement_timeout)
    except DeadlineExceeded as error:
        where = f"{job.file.name}, line {statement.line},"
        raise DeadlineExceeded(error.connection, doing=where, seconds=error.seconds) from error.__cause__


def failed_line(session: MigrationConnection, statement: Statement, error: QueryError) -> int:
    """The line of a refused statement, or of the row of its data that was refused."""
    row = session.refused_row(error) if statement.copy_data is not None else None
    if row is None:
        return statement.line
    return statement.line + statement.text[statement.text.upper().rfind("COPY") :].count("\n") + row


class Stepwise:
    """One run of one job, from a unit on to its end."""

    def __init__(
        self,
        job: MigrationJob,
        *,
        session: MigrationConnection,
        ledger: SqlLedger,
        engine: Migrates,
        check_lock: Callable[[], object],
        patiently: Callable[[MigrationJob, Callable[[], None]], None],
        outcome: Callable[[], Outcome],
        of_a_part: bool = False,
    ) -> None:
        """`of_a_part`: reverts what was applied only in part, so that it is unfinished when nothing is changed."""
        self._job = job
        self._session = session
        self._ledger = ledger
        self._engine = engine
        self._check_lock = check_lock
        self._patiently = patiently
        self._outcome = outcome
        self._dialect = session.dialect
        self._fingerprint = Fingerprint(job, session.dialect)
        self._scripts = engine if isinstance(engine, RunsScripts) else None
        self._of_a_part = of_a_part
        self._done = 0
        self._steps: tuple[str, ...] = ()
        self._step: str | None = None
        self._intent_is_open = False
        self._unprotected: frozenset[str] | None = None

    def run(self, start: int) -> Outcome:
        """Runs every unit from `start` on and says so in the ledger; returns after the last commit."""
        self._done = start
        try:
            if self._job.function is not None:
                self._run_function(self._job.function, start)
            else:
                self._run_statements(start)
        except (QueryError, StatementFailed, Unavailable) as error:
            self._note_failure(error)
            raise
        return self._finish()

    def _run_statements(self, start: int) -> None:
        for statement in self._job.statements[:start]:
            # What it set was lost with its session.
            if repeats_as_setting(statement, self._dialect):
                self._session.run(statement)
        while self._done < len(self._job.statements):
            self._check_lock()
            unit = self._next_unit()
            try:
                self._patiently(self._job, lambda unit=unit: self._unit(unit))  # type: ignore[misc]
            except RolledBack:
                raise
            except QueryError as error:
                raise self._failed(self._job.statements[self._done], error) from error
            self._done += len(unit)

    def _next_unit(self) -> Sequence[Statement]:
        """The next statement, or as many that change rows as one transaction may hold."""
        first, end = self._done, self._done + 1
        timed = self._job.directives.statement_timeout is not None
        if self._scripts is not None and not timed and not self._session.in_transaction:
            while end - first < _TOGETHER and self._is_small_change(first) and self._is_small_change(end):
                end += 1
        return self._job.statements[first:end]

    def _is_small_change(self, index: int) -> bool:
        if index >= len(self._job.statements):
            return False
        text = self._job.statements[index].text
        if len(text) > _SMALL or text[:7].upper() not in _SMALL_CHANGES:
            return False
        # Under another DELIMITER a statement may be two.
        is_one = ";" not in text or find_outside_literals(text, ";", self._dialect) == len(text)
        return is_one and self._is_protected(text)

    def _unit(self, statements: Sequence[Statement]) -> None:
        if len(statements) > 1:
            self._changes(statements)
        else:
            self._statement(statements[0])

    def _statement(self, statement: Statement) -> None:
        if self._session.in_transaction:
            self._in_own_transaction(statement)
        elif only_sets(statement):
            self._close_intent()
            self._run(statement)
        elif self._can_be_rolled_back(statement):
            self._with_its_record(statement)
        else:
            self._with_intent(statement)

    def _in_own_transaction(self, statement: Statement) -> None:
        """The file opened a transaction of its own: its records belong to that, too.

        A statement that commits what is open makes its intent durable together with all before it.
        """
        if self._commits_what_is_open(statement.effect):
            self._keep_intent(statement)
        elif not self._can_be_rolled_back(statement):
            reason = (
                "it writes a table without transactions inside the file's transaction; write it before BEGIN"
            )
            raise self._failing(statement, reason)
        self._run(statement)
        if self._session.in_transaction:
            self._keep_done()

    def _commits_what_is_open(self, effect: Classification) -> bool:
        changes_rows = effect.kind in ("read", "write", "copy") and effect.verb in _CHANGES_ROWS
        control = effect.kind in ("session", "transaction")
        return not (self._engine.facts.transactional_ddl or changes_rows or control)

    def _can_be_rolled_back(self, statement: Statement) -> bool:
        if only_sets(statement):
            return True
        changes_rows = statement.kind in ("read", "write", "copy") and statement.effect.verb in _CHANGES_ROWS
        if changes_rows or statement.kind == "session":
            return self._is_protected(statement.text)
        return self._engine.facts.transactional_ddl and self._engine.impact(statement).transactional

    def _is_protected(self, sql: str) -> bool:
        """True when a rollback undoes all that a change of rows does."""
        if self._unprotected is None:
            lacks = self._engine if isinstance(self._engine, LacksTransactions) else None
            self._unprotected = (
                frozenset() if lacks is None else self._session.ask(lacks.without_transactions)
            )
        return not self._unprotected or self._unprotected.isdisjoint(mentioned(sql, self._dialect))

    def _with_its_record(self, statement: Statement) -> None:
        self._close_intent()
        try:
            with self._session.transaction():
                self._run(statement)
                self._keep_done()
        except QueryError as error:
            if error.code not in _REFUSED_IN_TRANSACTION:
                raise
            self._with_intent(statement)

    def _with_intent(self, statement: Statement) -> None:
        self._keep_intent(statement)
        self._run(statement)
        # It may have made tables whose changes no rollback undoes.
        self._unprotected = None

    def _close_intent(self) -> None:
        """Writes down that the statement of the open intent was answered, before another is at risk."""
        if self._intent_is_open:
            self._keep(self._done)

    def _changes(self, statements: Sequence[Statement]) -> None:
        """All of them with one record; when one is refused, those before it last."""
        assert self._scripts is not None
        self._close_intent()
        with self._session.transaction():
            with self._session.guarded():
                refused = self._scripts.script(
                    self._session.connection, [statement.text for statement in statements]
                )
            why = None if refused is None else self._refusal(refused[1])
            count = len(statements) if refused is None else refused[0]
            if count:
                self._keep_done(count)
        if why is not None:
            self._done += count
            raise why

    def _refusal(self, error: BaseException) -> QueryError:
        """The error that the statement's failure means. Raises all but refusals: then none of the changes may last."""
        try:
            with self._session.translating(Safety.PART):
                raise error
        except RolledBack:
            raise
        except QueryError as refusal:
            return refusal

    def _run(self, statement: Statement) -> None:
        run_statement(self._session, self._job, statement)

    def _keep_done(self, count: int = 1) -> None:
        self._keep(self._done + count)

    def _keep(self, done: int) -> None:
        point = Checkpoint(self._fingerprint.of(done))
        self._ledger.keep(self._session, self._job.version, done, point)
        self._intent_is_open = False

    def _keep_intent(self, statement: Statement) -> None:
        point = Checkpoint(
            self._fingerprint.of(self._done),
            statement.text,
            statement.line,
            self._definitions(statement.text),
        )
        self._ledger.keep(self._session, self._job.version, self._done, point)
        self._intent_is_open = True

    def _definitions(self, sql: str) -> dict[str, str]:
        objects = objects_of(sql, self._dialect)
        return self._session.ask(self._engine.definitions, objects) if objects else {}

    def _failed(self, statement: Statement, error: QueryError) -> StatementFailed:
        line = failed_line(self._session, statement, error)
        return self._failing(statement, str(error), line=line)

    def _failing(self, statement: Statement, reason: str, *, line: int | None = None) -> StatementFailed:
        broken = self._invalid_index(statement, {})
        count = f"{self._done} of its {len(self._job.statements)} statements"
        kept = f"{count} {'lasts' if self._done == 1 else 'last'}"
        if broken is not None:
            kept += f", and the invalid index {broken}: 'katax migrate resume --drop-invalid' drops it and goes on"
        elif self._done:
            kept += f"; {_GO_ON}"
        return StatementFailed(self._job.name, line=line or statement.line, reason=reason, kept=kept)

    def _invalid_index(self, statement: Statement, before: Mapping[str, str]) -> str | None:
        with suppress(KataxError):
            now = self._definitions(statement.text)
            if not all(change.name for change in changes(statement.text, self._dialect)):
                now = unnamed_indexes(before, now, mentioned(statement.text, self._dialect))
            for key, text in now.items():
                if key.startswith("index ") and text.endswith(" INVALID"):
                    return key.removeprefix("index ")
        return None

    def drop_invalid_index(self) -> None:
        """Drops the index that the statement under way built only in part, if it did."""
        point = self._ledger.checkpoint(self._session, self._job.version)
        if not point.unit:
            return
        name = self._invalid_index(Statement(point.unit, self._dialect, point.line), point.before)
        if name is not None:
            quoted = ".".join(quote_identifier(part, self._dialect) for part in name.split("."))
            self._session.run(f"DROP INDEX CONCURRENTLY {quoted}")

    def _note_failure(self, error: KataxError) -> None:
        """A run that changed nothing leaves nothing behind; any other is there to be resumed."""
        if self._session.is_broken:
            return
        with suppress(KataxError), self._session.overtime():
            self._session.undo()
            if self._nothing_changed() and not self._of_a_part:
                if self._job.direction == "up":
                    self._ledger.remove(self._session, self._job.version)
                else:
                    self._ledger.restore(self._session, self._job.version)
            else:
                failed = isinstance(error, StatementFailed)
                why = f"line {error.line}: {error.reason}" if failed else str(error)  # type: ignore[attr-defined]
                self._ledger.fail(self._session, self._job.version, why)

    def _nothing_changed(self) -> bool:
        """Drops the intent of a statement that was refused and is proven to have changed nothing."""
        if self._steps or self._step is not None or self._job.function is not None:
            return False
        point = self._ledger.checkpoint(self._session, self._job.version)
        if (
            point.unit is not None
            and judge(point.unit, self._dialect, point.before, self._definitions(point.unit), refused=True)
            is StatementFate.UNDONE
        ):
            self._keep(self._done)
            return not self._done
        return point.unit is None and not self._done

    def _finish(self) -> Outcome:
        outcome = self._outcome()
        if self._job.direction == "up":
            at, took = outcome.applied_at, outcome.duration_ms
            self._ledger.finish(self._session, self._job.file, applied_at=at, duration_ms=took)
        else:
            self._ledger.remove(self._session, self._job.version)
        return outcome

    def _run_function(self, function: Callable[[Any], object], start: int) -> None:
        if start:
            return
        self._begin_step("")
        with failing_as(self._job, f"finished steps last, what ran outside of one runs again; {_GO_ON}"):
            self._call(function)

    def _call(self, function: Callable[[Any], object]) -> None:
        with self._session.translating(Safety.WRITE):
            function(self._session.handle(self))

    def begin(self, name: str) -> bool:
        """Steps.begin: the step before is done when the next one is asked for."""
        if self._step:
            self._steps = (*self._steps, self._step)
        if name in self._steps:
            self._step = None
            return False
        self._check_lock()
        self._begin_step(name)
        return True

    def _begin_step(self, name: str) -> None:
        self._step = name
        point = Checkpoint(unit=name, steps=self._steps)
        self._ledger.keep(self._session, self._job.version, len(self._steps), point)

    def where_to_go_on(self, assume: str | None) -> int:
        """The first unit that is not done (of a `.py` file: 1 when all of it is); raises what `Resumption` raises."""
        stopped = Resumption(self._job, self._session, self._ledger, self._fingerprint, self._definitions)
        start, self._steps = stopped.start(assume)
        if self._job.function is None:
            # Decided once: a run that dies before its next unit must not have to ask again.
            self._keep(start)
            stopped.refuse_lost_state(start)
        return start
