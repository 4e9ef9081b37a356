"""The parts of `katax db select`, `insert`, `update` and `delete` that are about words on the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import typer

from katax_cli.cli.db.review import refuse_unasked
from katax_cli.cli.db.run import Query, QueryPlan, named_values, redacted, run_query
from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.journal import recorded
from katax_cli.cli.shell.scope import Scope
from katax_cli.core.sql import statement_of, with_values
from katax_cli.core.sql.conditions import Condition, Value, parse_condition, parse_value
from katax_cli.core.sql.terms import Term, parse_term
from katax_cli.core.text.nesting import check_nesting
from katax_cli.core.text.text import to_json
from katax_cli.services.databases.builder.binding import Binder, TableSource, columns_of
from katax_cli.services.databases.builder.builder import Builder
from katax_cli.services.databases.builder.selection import BoundStatement
from katax_cli.services.databases.sql import SqlDatabase

_TABLE = r"\s*([\w.]+)(?:\s+(?:as\s+)?(\w+))?\s*"
_JOIN = rf"(?P<left>left\s+)?{_TABLE}on\s+(?P<on>.+)"
Row = Mapping[str, Any]
FilterRows = Callable[[Builder, Binder], Builder]
SHOWN_ROWS = 5
"""The rows that an UPDATE or DELETE shows as they were."""


@dataclass(frozen=True)
class StatementPlan:
    """A statement to be built: its table first, then those that are joined; `build` is given what binds values."""

    sources: Sequence[TableSource]
    build: Callable[[Builder, Binder], BoundStatement]
    has_values: bool
    aliases: Mapping[str, Term] = field(default_factory=dict)
    filtered: FilterRows | None = None
    """The rows that the statement changes; None for one that changes none."""


def run_built(
    chosen: Scope, plan: StatementPlan, param: Sequence[str], *, max_rows: int | None = None
) -> ExitCode:
    """Runs a statement on each connection in its own dialect, its values checked against the columns first."""
    with usage():
        planned = Binder(named_values(param))
        queries = {
            settings.name: _built(chosen.runtime.sql(settings), plan, planned) for settings in chosen.settings
        }
        planned.refuse_unused()
        if plan.filtered is not None:
            _refuse_unasked(chosen, queries, max_rows)
        checked = _checked(chosen, plan, planned) if plan.has_values else queries
        shown = None
        if plan.filtered is not None:
            counting = replace(plan, build=partial(_counting, plan.filtered))
            if chosen.call.shared.dry_run:
                return _show_planned(chosen, checked, _checked(chosen, counting, Binder(named_values(param))))
            shown = partial(_rows_before, plan, param)

        def final(database: SqlDatabase) -> Query:
            query = checked[database.name]
            if isinstance(query, Exception):
                raise query
            return query

        return run_query(chosen, QueryPlan(lambda one: queries[one.name], final, shown, max_rows=max_rows))


def _refuse_unasked(chosen: Scope, queries: Mapping[str, BoundStatement], max_rows: int | None) -> None:
    for settings in chosen.settings:
        sql = statement_of(queries[settings.name].sql, chosen.runtime.sql(settings).dialect)
        with recorded(chosen, settings, redacted([sql]), refusals_only=True):
            refuse_unasked(chosen, settings, max_rows=max_rows)


def _counting(filtered: FilterRows, built: Builder, binder: Binder) -> BoundStatement:
    return filtered(built, binder).count_statement()


def _rows_before(plan: StatementPlan, param: Sequence[str], database: SqlDatabase) -> BoundStatement:
    """The query for a few of the rows that the statement changes."""
    assert plan.filtered is not None
    binder = Binder(named_values(param), columns_of(database, plan.sources), plan.aliases)
    return plan.filtered(database.table(*plan.sources[0]), binder).limit(SHOWN_ROWS).statement()


def _show_planned(
    chosen: Scope,
    statements: Mapping[str, BoundStatement | Exception],
    counts: Mapping[str, BoundStatement | Exception],
) -> ExitCode:
    """Shows each statement with its values in their places, and how many rows it would change."""

    def work(database: SqlDatabase) -> list[tuple[object, ...]]:
        statement, count = statements[database.name], counts[database.name]
        if isinstance(statement, Exception):
            raise statement
        if isinstance(count, Exception):
            raise count
        ((rows,),) = database.run(*count).rows
        return [(with_values(*statement, database.dialect), rows)]

    if chosen.call.is_glob:
        return chosen.answer_each(("sql", "rows"), work)
    ((sql, rows),) = work(chosen.sql)
    chosen.call.only_planned(connections=[chosen.one.name], sql=sql, rows=rows, executed=False)
    return ExitCode.DONE


def _built(database: SqlDatabase, plan: StatementPlan, binder: Binder) -> BoundStatement:
    return plan.build(database.table(*plan.sources[0]), binder)


def _checked(chosen: Scope, plan: StatementPlan, planned: Binder) -> dict[str, BoundStatement | Exception]:
    """The statements with values as the columns need them. A connection that fails costs its own rows only."""

    def work(database: SqlDatabase) -> BoundStatement:
        columns = columns_of(database, plan.sources)
        return _built(database, plan, Binder(planned.params, columns, plan.aliases))

    found = {}
    for settings, result in chosen.each(work):
        if isinstance(result, ValueError) or not isinstance(result, BoundStatement | Exception):
            raise result
        found[settings.name] = result
    return found


def selection(
    table: str,
    *,
    columns: str | None,
    where: Sequence[str],
    join: Sequence[str],
    group_by: str | None,
    having: Sequence[str],
    order: str | None,
    limit: int | None,
    offset: int | None,
) -> StatementPlan:
    """The SELECT of the options of `db select`."""
    with usage():
        joins = [_parsed_join(text) for text in join]
        wanted, groups = _conditions(where), _conditions(having)
        terms = [parse_term(text) for text in _parts(columns)]

    def build(built: Builder, binder: Binder) -> BoundStatement:
        built = _filtered(built.select(*_parts(columns)), wanted, binder)
        for join in joins:
            built = (built.left_join if join.left else built.join)(join.table, join.on, join.alias)
        built = built.group_by(*_parts(group_by))
        for condition in groups:
            built = built.having(*binder.condition(condition))
        for text in _parts(order):
            column, _, direction = text.partition(" ")
            built = built.order_by(column, direction.strip() or "asc")
        built = built if limit is None else built.limit(limit)
        return (built if offset is None else built.offset(offset)).statement()

    aliases = {term.alias.lower(): term for term in terms if term.alias}
    sources = [named(table), *((one.table, one.alias) for one in joins)]
    return StatementPlan(sources, build, has_values=bool(where or having), aliases=aliases)


def change(table: str, pairs: Sequence[str], document: bytes | None, where: Sequence[str]) -> StatementPlan:
    """The UPDATE of `db update`."""
    with usage():
        rows, wanted = _given_rows(pairs, document), _conditions(where)
    if len(rows) != 1:
        raise typer.BadParameter("--json of an update takes one object")
    (new,) = rows

    def build(built: Builder, binder: Binder) -> BoundStatement:
        values = _bound(new, binder, own_columns=True)
        return _filtered(built, wanted, binder).update_statement(values, everywhere=True)

    return StatementPlan([named(table)], build, has_values=True, filtered=_matching(wanted))


def deletion(table: str, where: Sequence[str]) -> StatementPlan:
    """The DELETE of `db delete`."""
    with usage():
        wanted = _conditions(where)

    def build(built: Builder, binder: Binder) -> BoundStatement:
        return _filtered(built, wanted, binder).delete_statement(everywhere=True)

    return StatementPlan([named(table)], build, has_values=bool(where), filtered=_matching(wanted))


def _matching(conditions: Sequence[Condition]) -> FilterRows:
    return lambda built, binder: _filtered(built, conditions, binder)


def insert(
    chosen: Scope, table: str, pairs: Sequence[str], document: str | None, param: Sequence[str]
) -> ExitCode:
    """Inserts one row of words, or the rows of a JSON document; all or none."""
    call, source = chosen.call, named(table)
    with usage():
        rows = _given_rows(pairs, None if document is None else call.input_bytes(document))
        database = chosen.sql
        planned = Binder(named_values(param))
        made = [_bound(row, planned, own_columns=False) for row in rows]
        planned.refuse_unused()
        if pairs:
            binder = Binder(planned.params, columns_of(database, [source]))
            made = [_bound(row, binder, own_columns=False) for row in rows]
        if call.only_planned(connection=database.name, rows=len(rows), executed=False):
            return ExitCode.DONE
        statement, _ = database.table(source[0]).insert_statement(made[0])
        with recorded(chosen, chosen.one, redacted([statement_of(statement, database.dialect)])) as record:
            affected = record.rows = database.table(source[0]).create_many(made)
    call.out.action({"rows_affected": affected})
    return ExitCode.DONE


def given(pairs: Sequence[str]) -> dict[str, Value]:
    """`col=value` words."""
    columns_given = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ValueError(f"{pair!r} is no COL=VALUE")
        columns_given[name] = parse_value(value)
    return columns_given


def rows_of(data: bytes) -> list[Row]:
    """The rows of a JSON object, or of an array of them; what is nested goes into the database as JSON text."""
    try:
        text = data.decode(json.detect_encoding(data), "surrogatepass")
        check_nesting(text)
        document = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"--json is no JSON: {error}") from error
    rows = document if isinstance(document, list) else [document]
    if not rows or not all(isinstance(row, dict) and row for row in rows):
        raise typer.BadParameter("--json takes an object with columns, or an array of such objects")
    return [
        {name: to_json(value) if isinstance(value, dict | list) else value for name, value in row.items()}
        for row in rows
    ]


def named(text: str) -> TableSource:
    """`users`, `users u` or `users as u`."""
    match = re.fullmatch(_TABLE, text, re.IGNORECASE)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no table; write NAME, or NAME ALIAS")
    return match[1], match[2]


@contextmanager
def usage() -> Iterator[None]:
    """Turns an invalid column, operator, condition or value into a usage error."""
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


class _JoinOption(NamedTuple):
    table: str
    alias: str | None
    on: str
    left: bool


def _parsed_join(text: str) -> _JoinOption:
    match = re.fullmatch(_JOIN, text.strip(), re.IGNORECASE | re.DOTALL)
    if match is None:
        raise ValueError(f"{text!r} is no join: write '[left] TABLE [ALIAS] on a.id = b.a_id'")
    return _JoinOption(match[2], match[3], match["on"], bool(match["left"]))


def _conditions(texts: Sequence[str]) -> list[Condition]:
    return [parse_condition(text) for text in texts]


def _filtered(built: Builder, conditions: Sequence[Condition], binder: Binder) -> Builder:
    for condition in conditions:
        built = built.where(*binder.condition(condition))
    return built


def _bound(row: Row, binder: Binder, *, own_columns: bool) -> dict[str, Any]:
    return {
        name: binder.assigned(name, value, own_columns=own_columns) if isinstance(value, Value) else value
        for name, value in row.items()
    }


def _given_rows(pairs: Sequence[str], document: bytes | None) -> list[Row]:
    """`col=value` words, or the rows of a JSON document."""
    if document is None:
        return [given(pairs)]
    if pairs:
        raise typer.BadParameter("give COL=VALUE words or --json, one of the two")
    return rows_of(document)


def _parts(text: str | None) -> list[str]:
    return [part.strip() for part in text.split(",")] if text else []
