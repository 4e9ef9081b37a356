"""The parts of `katax db select`, `insert`, `update` and `delete` that are about words on the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from katax_cli.cli.db_run import run_query
from katax_cli.cli.exits import ExitCode
from katax_cli.cli.invocation import Invocation, Target
from katax_cli.core.settings import ConnectionSettings
from katax_cli.core.sql.terms import parse_condition
from katax_cli.core.text import to_json
from katax_cli.engines.base import Params
from katax_cli.services.builder import Builder, Statement
from katax_cli.services.runtime import Runtime

_TABLE = r"\s*([\w.]+)(?:\s+(?:as\s+)?(\w+))?\s*"
_JOIN = rf"(?P<left>left\s+)?{_TABLE}on\s+(?P<on>.+)"
_NUMBER = r"-?\d+(\.\d+)?"


def run_built(
    call: Invocation, target: Target, table: str, build: Callable[[Builder], Statement]
) -> ExitCode:
    """Runs the statement that `build` makes, on each connection in its own dialect."""
    name, alias = _named(table)
    with call.runtime() as runtime, _usage():

        def made(settings: ConnectionSettings) -> tuple[str, Params]:
            return build(runtime.sql(settings).table(name, alias))

        return run_query(call, runtime, target, made, limit=None)


def selected(
    table: Builder,
    *,
    columns: str | None,
    where: Sequence[str],
    join: Sequence[str],
    group_by: str | None,
    having: Sequence[str],
    order: str | None,
    limit: int | None,
    offset: int | None,
) -> Statement:
    """The SELECT of the options of `db select`."""
    table = filtered(table.select(*_parts(columns)), where)
    for text in join:
        table = _joined(table, text)
    table = table.group_by(*_parts(group_by))
    for text in having:
        term, op, value = _condition(text)
        table = table.having(term, op, _number(value))
    for text in _parts(order):
        column, _, direction = text.partition(" ")
        table = table.order_by(column, direction.strip() or "asc")
    table = table if limit is None else table.limit(limit)
    return (table if offset is None else table.offset(offset)).statement()


def filtered(table: Builder, where: Sequence[str]) -> Builder:
    """The rows that meet all of the conditions."""
    for text in where:
        table = table.where(*_condition(text))
    return table


def insert(
    call: Invocation, target: Target, table: str, pairs: Sequence[str], document: str | None
) -> ExitCode:
    """Inserts one row of words, or the rows of a JSON document; all or none."""
    if document is not None and pairs:
        raise typer.BadParameter("give COL=VALUE words or --json, one of the two")
    rows = [given(pairs)] if document is None else rows_of(call.input_bytes(document))
    with call.runtime() as runtime, _usage():
        settings = call.settings(runtime, target)
        if call.only_planned(connection=settings.name, rows=len(rows), executed=False):
            return ExitCode.DONE
        made = _table_on(runtime, settings, table).create_many(rows)
    call.out.action({"rows_affected": made})
    return ExitCode.DONE


def given(pairs: Sequence[str]) -> dict[str, str]:
    """`col=value` words."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{pair!r} is no COL=VALUE")
        found[name] = value
    return found


def rows_of(data: bytes) -> list[Mapping[str, Any]]:
    """The rows of a JSON object, or of an array of them; what is nested goes into the database as JSON text."""
    try:
        document = json.loads(data)
    except ValueError as error:
        raise typer.BadParameter(f"--json is no JSON: {error}") from error
    rows = document if isinstance(document, list) else [document]
    if not rows or not all(isinstance(row, dict) and row for row in rows):
        raise typer.BadParameter("--json takes an object with columns, or an array of such objects")
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _table_on(runtime: Runtime, settings: ConnectionSettings, table: str) -> Builder:
    return runtime.sql(settings).table(_named(table)[0])


def _plain(value: Any) -> Any:
    return to_json(value) if isinstance(value, dict | list) else value


def _named(text: str) -> tuple[str, str | None]:
    """`users`, `users u` or `users as u`."""
    match = re.fullmatch(_TABLE, text, re.IGNORECASE)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no table; write NAME, or NAME ALIAS")
    return match[1], match[2]


def _joined(table: Builder, text: str) -> Builder:
    match = re.fullmatch(_JOIN, text.strip(), re.IGNORECASE | re.DOTALL)
    if match is None:
        raise ValueError(f"{text!r} joins nothing: write '[left] TABLE [ALIAS] on a.id = b.a_id'")
    join = table.left_join if match["left"] else table.join
    return join(match[2], match["on"], match[3])


def _condition(text: str) -> tuple[str, str, Any]:
    term, op, value = parse_condition(text)
    if op in ("in", "not in"):
        inner = value.removeprefix("(").removesuffix(")")
        return term, op, [_unquoted(part) for part in inner.split(",")]
    if op in ("is", "is not"):
        constants = {"null": None, "true": True, "false": False}
        if value.lower() not in constants:
            raise ValueError(f"{text!r}: IS takes null, true or false")
        return term, op, constants[value.lower()]
    return term, op, _unquoted(value)


def _unquoted(value: str) -> str:
    """The text itself: a value is never SQL, so its quotes are for people only."""
    said = value.strip()
    return said[1:-1] if len(said) > 1 and said[0] == said[-1] and said[0] in "'\"" else said


def _number(value: Any) -> Any:
    """What a function returns has no column whose type the server could take for the value."""
    if not isinstance(value, str) or not re.fullmatch(_NUMBER, value):
        return value
    return float(value) if "." in value else int(value)


def _parts(text: str | None) -> list[str]:
    return [part.strip() for part in text.split(",")] if text else []


@contextmanager
def _usage() -> Iterator[None]:
    """What is no column, operator or condition is a mistake on the command line."""
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
