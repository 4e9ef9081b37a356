"""The parts of `katax db query` and `exec` that are about words on the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Never

import typer

from katax_cli.cli.db.review import Review, review_of
from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.journal import MOST_TEXT, recorded
from katax_cli.cli.shell.output import OF_A_SERVER
from katax_cli.cli.shell.scope import Scope
from katax_cli.cli.shell.target import SQL
from katax_cli.core.settings import ConnectionSettings
from katax_cli.core.sql import AnySql, Statement, redact, split, statement_of, with_values
from katax_cli.engines.base import Params, Row, RowStream
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.databases.transaction import Transaction
from katax_cli.services.tables.scripts import harm_of, returns_rows

Query = tuple[AnySql, Params]
"""A statement and its values."""


def statement(call: Invocation, sql: str | None, file: str | None) -> str:
    """The SQL, from the argument or from a file; exactly one of them."""
    if (sql is None) == (file is None):
        raise typer.BadParameter("give the SQL as an argument or with --file, one of the two")
    source = sql if sql is not None else ("-" if file == "-" else f"@{file}")
    return call.input_bytes(str(source)).decode("utf-8-sig")


def parameters(args: Sequence[str], named: Sequence[str]) -> Params:
    """Values for placeholders: positional words, or NAME=VALUE pairs; not both."""
    if args and named:
        raise typer.BadParameter("give positional values or --param, not both")
    return named_values(named) or list(args) or None


def named_values(named: Sequence[str]) -> dict[str, str]:
    """The NAME=VALUE pairs of `--param`."""
    pairs = [pair.partition("=") for pair in named]
    for name, equals, _ in pairs:
        if not equals:
            raise typer.BadParameter(f"--param {name!r} has no value; write NAME=VALUE")
    return {name: value for name, _, value in pairs}


def may_write(statement: Statement) -> bool:
    """True for what the journal records: all but what reads, or sets its own session."""
    return statement.kind not in ("read", "session", "transaction")


def redacted(statements: Sequence[Statement]) -> str:
    """Statements without their values, for the journal; of a long script its beginning."""
    texts: list[str] = []
    for statement in statements:
        texts.append(redact(statement.text, statement.dialect, max_length=MOST_TEXT))
        if sum(map(len, texts)) > MOST_TEXT:
            break
    return "; ".join(texts)


def confirm_script(chosen: Scope, settings: ConnectionSettings, statements: Sequence[Statement]) -> None:
    """Asks once when statements lose data that they do not name, or change rights or the server."""
    harm = harm_of(statements)
    if harm is not None and not chosen.call.shared.dry_run:
        chosen.confirm(*harm, of=settings)


@dataclass(frozen=True)
class QueryPlan:
    """One statement to run on each connection.

    `query` is what is confirmed, `final` what then runs where that is not the same; `shown` asks for the rows of a
    change as they are before it. `max_rows`: the most that it may change.
    """

    query: Callable[[ConnectionSettings], Query]
    final: Callable[[SqlDatabase], Query] | None = None
    shown: Callable[[SqlDatabase], Query] | None = None
    limit: int | None = None
    max_rows: int | None = None
    replica: bool = False
    timeout: float | None = None


def watch_query(call: Invocation, plan: QueryPlan, every: float) -> Never:
    """Runs a statement that only reads again and again, and shows its rows each time."""
    height = call.streams.height if call.out.format == "table" else None
    limits = [limit for limit in (plan.limit, height) if limit is not None]

    def answer(chosen: Scope, seconds: float) -> Sequence[str]:
        for settings in chosen.settings:
            statement, _ = _read(plan.query(settings), settings)
            if statement.kind != "read":
                what = statement.effect.verb or "this statement"
                raise typer.BadParameter(f"--watch repeats the statement, and {what} is not known to read")
        # More than a terminal shows is not asked for.
        run_query(chosen, replace(plan, timeout=seconds, limit=min(limits, default=None)))
        return ()

    from katax_cli.cli.shell.watch import watch_answers

    watch_answers(call, SQL, every=every, answer=answer)


def run_query(chosen: Scope, plan: QueryPlan) -> ExitCode:
    """Streams the rows of one statement; with a glob, the rows of all that match, with their connection."""
    call = chosen.call
    runs = {}
    for settings in chosen.settings:
        run = _QueryRun(chosen, settings, *_read(plan.query(settings), settings), plan)
        runs[settings.name] = replace(run, review=run.agreed())
    if call.only_planned(connections=list(runs), executed=False):
        return ExitCode.DONE
    if call.is_glob:
        return _query_each(chosen, runs)
    database = chosen.sql
    runs[database.name].answer(database)
    return ExitCode.DONE


def _read(query: Query, settings: ConnectionSettings) -> tuple[Statement, Params]:
    assert settings.type in ("postgresql", "mysql", "sqlite")
    return statement_of(query[0], settings.type), query[1]


@dataclass(frozen=True)
class _QueryRun:
    """The run of the statement on one connection."""

    chosen: Scope
    settings: ConnectionSettings
    statement: Statement
    params: Params
    plan: QueryPlan
    review: Review | None = None

    def agreed(self) -> Review | None:
        """Asks what is to be asked before it is sent. Raises Refused."""
        max_rows, statement = self.plan.max_rows, self.statement
        if max_rows is not None and len(list(islice(split(statement.text, statement.dialect), 2))) > 1:
            raise typer.BadParameter(
                "--max-rows-affected is for one statement; run several with 'katax db exec'"
            )
        # `name LIKE :pattern` holds for every row where the pattern is `%`.
        text = with_values(statement.text, self.params, statement.dialect)
        spelled_out = [statement_of(text, statement.dialect)]
        if not may_write(statement):
            confirm_script(self.chosen, self.settings, spelled_out)
            return None
        with recorded(self.chosen, self.settings, redacted([statement]), refusals_only=True):
            confirm_script(self.chosen, self.settings, spelled_out)
            return review_of(self.chosen, self.settings, spelled_out, max_rows=max_rows)

    def answer(self, database: SqlDatabase) -> None:
        """Writes the rows as they arrive; of a statement without rows how many it changed, once that lasts."""
        out = self.chosen.call.out

        def take(rows: RowStream) -> int:
            return out.rows(rows.columns, self._cut(rows), OF_A_SERVER)

        changed = self._run(database, take)
        if changed is not None:
            out.action({"rows_affected": None if changed < 0 else changed})

    def rows(self, database: SqlDatabase) -> tuple[tuple[str, ...], list[Row]]:
        """The columns and rows; of a statement without rows how many it changed."""
        columns: tuple[str, ...] = ()
        kept: list[Row] = []

        def take(rows: RowStream) -> int:
            nonlocal columns
            columns = rows.columns
            kept.extend(row for batch in self._cut(rows, f" of {database.name!r}") for row in batch)
            return len(kept)

        changed = self._run(database, take)
        if changed is None:
            return columns, kept
        return ("rows_affected",), [(None if changed < 0 else changed,)]

    def _run(self, database: SqlDatabase, take: Callable[[RowStream], int]) -> int | None:
        """Runs it; `take` gets the rows if there can be any. Returns the rows changed where there are none."""
        if not may_write(self.statement):
            return self._send(self._source(database), database, take)[1]
        with recorded(self.chosen, self.settings, redacted([self.statement])) as record:
            if self.review is None or not self.review.in_transaction:
                record.rows, changed = self._send(self._source(database), database, take)
                return changed
            with self._source(database).transaction() as transaction:
                record.undoable = True
                if self.plan.shown is not None and self.review.asks:
                    self.review.show(transaction, self.plan.shown(database))
                record.rows, changed = self._send(transaction, database, take)
                self.review.settle(transaction, record.rows)
                record.undoable = False
            return changed

    def _source(self, database: SqlDatabase) -> SqlDatabase:
        return database.replica() if self.plan.replica else database

    def _send(
        self, on: SqlDatabase | Transaction, database: SqlDatabase, take: Callable[[RowStream], int]
    ) -> tuple[int | None, int | None]:
        """Sends the statement; returns the rows that it changed, and that number where it returned no rows."""
        final = self.plan.final
        sql, params = (self.statement, self.params) if final is None else final(database)
        effect, read = self.statement.effect, 0
        texts, timeout = self.chosen.call.out.texts, self.plan.timeout
        with on.stream(sql, params, timeout=timeout, text=texts) as rows:
            if rows.columns:
                read = take(rows)
            if not rows.columns or effect.kind != "read":
                # A change is made when its rows were read to the end.
                read += sum(map(len, rows))
            counted = rows.affected if rows.affected >= 0 else read if returns_rows(self.statement) else None
            return None if effect.uncounted else counted, None if rows.columns else rows.affected

    def _cut(self, rows: RowStream, where: str = "") -> Iterator[Sequence[Row]]:
        """The batches up to `--limit` rows; says whether there are more."""
        left = limit = self.plan.limit
        for batch in rows:
            if left is not None and len(batch) > left:
                yield batch[:left]
                self.chosen.call.diagnostics.note(f"there are more rows{where} than --limit {limit}")
                return
            yield batch
            left = None if left is None else left - len(batch)


def _query_each(chosen: Scope, runs: Mapping[str, _QueryRun]) -> ExitCode:
    header: list[tuple[str, ...]] = []

    def work(database: SqlDatabase) -> list[Row]:
        columns, rows = runs[database.name].rows(database)
        header.append(columns)
        return rows

    asks = any(run.review is not None and run.review.asks for run in runs.values())
    return chosen.answer_each(lambda: header[0] if header else (), work, manner=OF_A_SERVER, in_turn=asks)
