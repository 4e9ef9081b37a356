"""`katax db insert|update|delete`: rows of a table, or documents of a collection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from katax_cli.cli.db.documents.commands import Filter
from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.scope import Scope, scope
from katax_cli.cli.shell.target import SQL, TABLES, Target
from katax_cli.core.engine_names import SQL_ENGINES

if TYPE_CHECKING:
    from collections.abc import Callable

    from katax_cli.profiles.model.model import Profile

group = Group()

TableName = Annotated[str, typer.Argument(metavar="TABLE", help="NAME, or 'NAME ALIAS'.")]
Values = Annotated[list[str] | None, typer.Argument(metavar="COL=VALUE...", help="Columns and their values.")]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="'COL OP VALUE'", help="OP: = != < <= > >= like in is; repeated: and."),
]
OneOnly = Annotated[bool, typer.Option("--one", help="MongoDB: the first document that matches, not all.")]
Param = Annotated[
    list[str] | None, typer.Option("--param", metavar="NAME=VALUE", help="Value of :NAME; repeatable.")
]
Document = Annotated[
    str | None,
    typer.Option(
        "--json", metavar="JSON|-|@FILE", help="An object with columns; insert: or an array of them."
    ),
]
MaxRows = Annotated[
    int | None,
    typer.Option(
        "--max-rows-affected",
        min=0,
        metavar="N",
        help="Undo a change of more rows; exit 4. On prod off a terminal: or --yes.",
    ),
]


@group.command("insert")
def insert(
    call: Invocation, table: TableName, values: Values = None, document: Document = None, param: Param = None
) -> ExitCode:
    """Insert a row, or the rows of a JSON document, all or none (MongoDB: documents, in order)."""
    with scope(call, _rows_or_documents(call)) as chosen:
        if _has_documents(chosen):
            from katax_cli.cli.db.documents import changes

            return changes.insert(chosen, table, values or [], document, param or [])
        from katax_cli.cli.db.build import insert

        return insert(chosen, table, values or [], document, param or [])


@group.command("update")
def update(
    call: Invocation,
    table: TableName,
    values: Values = None,
    where: Where = None,
    filter: Filter = None,
    document: Document = None,
    one: OneOnly = False,
    param: Param = None,
    max_rows_affected: MaxRows = None,
) -> ExitCode:
    """Change rows; without --where all of them, after confirmation.

    On prod it shows how many, and five of them as they were, and commits after y; no answer in 20 s rolls back.
    On MongoDB the documents of --where and --filter; --json takes fields, operators such as $inc, or a pipeline.
    """
    with scope(call, _rows_or_documents(call)) as chosen:
        if _has_documents(chosen):
            from katax_cli.cli.db.documents import changes
            from katax_cli.cli.db.documents.words import FilterWords

            words = FilterWords(where or [], filter, param or [])
            given = values or []
            return changes.update(chosen, table, given, document, words, one=one, max_rows=max_rows_affected)
        from katax_cli.cli.db.build import change, run_built

        _refuse_options_of_documents(filter, one=one)
        rows = None if document is None else call.input_bytes(document)
        plan = change(table, values or [], rows, where or [])
        return run_built(chosen, plan, param or [], max_rows=max_rows_affected)


@group.command("delete")
def delete(
    call: Invocation,
    table: TableName,
    where: Where = None,
    filter: Filter = None,
    one: OneOnly = False,
    param: Param = None,
    max_rows_affected: MaxRows = None,
) -> ExitCode:
    """Delete rows; without --where (MongoDB: or --filter) all of them, after confirmation. On prod as 'db update'."""
    with scope(call, _rows_or_documents(call)) as chosen:
        if _has_documents(chosen):
            from katax_cli.cli.db.documents import changes
            from katax_cli.cli.db.documents.words import FilterWords

            words = FilterWords(where or [], filter, param or [])
            return changes.delete(chosen, table, words, one=one, max_rows=max_rows_affected)
        from katax_cli.cli.db.build import deletion, run_built

        _refuse_options_of_documents(filter, one=one)
        return run_built(chosen, deletion(table, where or []), param or [], max_rows=max_rows_affected)


def _rows_or_documents(call: Invocation) -> Callable[[Profile], Target]:
    """Without -c as `select` finds its connection, in a profile with SQL; else MongoDB's too."""

    def target(profile: Profile) -> Target:
        types = {settings.type for settings in profile.connections.values()}
        unnamed = not call.connections and "main" not in profile.connections
        return SQL if unnamed and types & set(SQL_ENGINES) else TABLES

    return target


def _has_documents(chosen: Scope) -> bool:
    """True for MongoDB, which is one connection then. Raises ConfigError for it among others."""
    return any(settings.type == "mongodb" for settings in chosen.settings) and chosen.one.type == "mongodb"


def _refuse_options_of_documents(filter: str | None, *, one: bool) -> None:
    if filter is not None or one:
        raise typer.BadParameter("--filter and --one are for mongodb; write --where")
