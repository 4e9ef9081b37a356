"""The parts of `katax db query` and `exec` that are about words on the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

import typer

from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.output import OF_A_SERVER
from katax_cli.cli.shell.scope import Scope
from katax_cli.core.roles import Tier
from katax_cli.core.settings import ConnectionSettings
from katax_cli.core.sql import AnySql, Statement, statement_of, with_values
from katax_cli.engines.base import Params, Row, RowStream
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.tables.scripts import destructive_reasons, disruptive_verbs

T = TypeVar("T")
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


def confirm_script(chosen: Scope, settings: ConnectionSettings, statements: Sequence[Statement]) -> None:
    """Asks once when statements lose data that they do not name, or change rights or the server."""
    if chosen.call.shared.dry_run:
        return
    destructive, disruptive = destructive_reasons(statements), disruptive_verbs(statements)
    if destructive or disruptive:
        tier = Tier.DESTRUCTIVE if destructive else Tier.DISRUPTIVE
        chosen.confirm(tier, "; ".join(dict.fromkeys([*destructive, *disruptive])), of=settings)


def run_query(
    chosen: Scope,
    query: Callable[[ConnectionSettings], Query],
    final: Callable[[SqlDatabase], Query] | None = None,
    *,
    limit: int | None,
    replica: bool = False,
) -> ExitCode:
    """Streams the rows of one statement; with a glob, the rows of all that match, with their connection.

    `query` is what is confirmed, `final` what then runs where that is not the same.
    """
    call = chosen.call
    queries = {settings.name: _read(query(settings), settings) for settings in chosen.settings}
    for settings in chosen.settings:
        confirm_script(chosen, settings, [_spelled_out(*queries[settings.name])])
    if call.only_planned(connections=list(queries), executed=False):
        return ExitCode.DONE
    ready = final or (lambda database: queries[database.name])
    if call.is_glob:
        return _query_each(chosen, ready, limit, replica=replica)
    database = chosen.sql
    source = database.replica() if replica else database
    sql, params = ready(database)
    with source.stream(sql, params, text=call.out.texts) as rows:
        _write(call, rows, limit)
    return ExitCode.DONE


def _read(query: Query, settings: ConnectionSettings) -> tuple[Statement, Params]:
    assert settings.type in ("postgresql", "mysql", "sqlite")
    return statement_of(query[0], settings.type), query[1]


def _spelled_out(statement: Statement, params: Params) -> Statement:
    """The statement as it is confirmed: `name LIKE :pattern` holds for every row where the pattern is `%`."""
    return statement_of(with_values(statement.text, params, statement.dialect), statement.dialect)


def _write(call: Invocation, rows: RowStream, limit: int | None) -> None:
    if not rows.columns:
        for _ in rows:
            pass
        call.out.action({"rows_affected": _count(rows)})
        return
    cut = Cut(rows, limit)
    call.out.rows(rows.columns, cut, OF_A_SERVER)
    if cut.more:
        _note_more(call, limit)


def _note_more(call: Invocation, limit: int | None, where: str = "") -> None:
    call.diagnostics.note(f"there are more rows{where} than --limit {limit}")


def _count(rows: RowStream) -> int | None:
    """Rows affected; None when the server does not say."""
    return None if rows.affected < 0 else rows.affected


class Cut(Generic[T]):
    """Batches up to a number of rows; `more` says whether there were others."""

    def __init__(self, batches: Iterable[Sequence[T]], limit: int | None) -> None:
        self._batches = batches
        self._limit = limit
        self.more = False

    def __iter__(self) -> Iterator[Sequence[T]]:
        left = self._limit
        for batch in self._batches:
            if left is not None and len(batch) > left:
                self.more = True
                yield batch[:left]
                return
            yield batch
            left = None if left is None else left - len(batch)


def _query_each(
    chosen: Scope, query: Callable[[SqlDatabase], Query], limit: int | None, *, replica: bool
) -> ExitCode:
    call = chosen.call
    header: list[tuple[str, ...]] = []

    def work(database: SqlDatabase) -> list[Row]:
        sql, params = query(database)
        source = database.replica() if replica else database
        with source.stream(sql, params, text=call.out.texts) as rows:
            header.append(rows.columns or ("rows_affected",))
            cut = Cut(rows, limit)
            rows_cut = [row for batch in cut for row in batch]
            if cut.more:
                _note_more(call, limit, f" of {database.name!r}")
            return rows_cut if rows.columns else [(_count(rows),)]

    return chosen.answer_each(lambda: header[0] if header else (), work, manner=OF_A_SERVER)
