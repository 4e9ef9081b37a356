"""`katax db find|aggregate|command`: documents of MongoDB, and its commands."""

from __future__ import annotations

from typing import Annotated

import typer

from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.scope import Target, scope

group = Group()

DOCUMENTS = Target(types=("mongodb",), preferred="mongodb", lacks="collections of documents")

Collection = Annotated[str, typer.Argument(metavar="COLL", help="A collection.")]
Filter = Annotated[
    str | None,
    typer.Option("--filter", metavar="JSON|-|@FILE", help="MongoDB's own filter, in Extended JSON."),
]
Canonical = Annotated[
    bool, typer.Option("--canonical", help="JSON with the type of every number (canonical Extended JSON).")
]
Limit = Annotated[
    int | None, typer.Option("--limit", min=0, help="Maximum number of documents, with a note.")
]


@group.command("find")
def find(
    call: Invocation,
    collection: Collection,
    filter: Filter = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where", metavar="'FIELD OP VALUE'", help="OP: = != < <= > >= like in is; repeated: and."
        ),
    ] = None,
    projection: Annotated[
        str | None,
        typer.Option(metavar="JSON|FIELD[,FIELD]...", help="The fields to return; JSON also as - or @file."),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(metavar="JSON|'FIELD [desc][,FIELD]...'", help="Order; JSON also as - or @file."),
    ] = None,
    limit: Limit = None,
    offset: Annotated[int | None, typer.Option(min=0, help="Number of documents to skip.")] = None,
    param: Annotated[
        list[str] | None, typer.Option("--param", metavar="NAME=VALUE", help="Value of :NAME; repeatable.")
    ] = None,
    canonical: Canonical = False,
) -> ExitCode:
    """Print the documents of a collection as they arrive (MongoDB)."""
    from katax_cli.cli.db.documents.queries import run_find
    from katax_cli.cli.db.documents.words import FilterWords

    words = FilterWords(where or [], filter, param or [])
    with scope(call, DOCUMENTS) as chosen:
        return run_find(
            chosen,
            collection,
            words,
            projection=projection,
            sort=sort,
            limit=limit,
            offset=offset or 0,
            canonical=canonical,
        )


@group.command("aggregate")
def aggregate(
    call: Invocation,
    collection: Collection,
    pipeline: Annotated[
        str, typer.Argument(metavar="PIPELINE", help="An array of stages in Extended JSON; - or @file.")
    ],
    limit: Limit = None,
    canonical: Canonical = False,
) -> ExitCode:
    """Run a pipeline and print its documents (MongoDB); $out, which replaces a collection, asks first."""
    from katax_cli.cli.db.documents.queries import run_aggregate

    with scope(call, DOCUMENTS) as chosen:
        return run_aggregate(chosen, collection, pipeline, limit=limit, canonical=canonical)


@group.command("command")
def command(
    call: Invocation,
    document: Annotated[
        str, typer.Argument(metavar="JSON", help="The command in Extended JSON, its name first; - or @file.")
    ],
    database: Annotated[
        str | None, typer.Option("--database", metavar="NAME", help="Another database, such as admin.")
    ] = None,
    canonical: Canonical = False,
) -> ExitCode:
    """Run a database command and print its answer (MongoDB); what loses data or changes the server asks first."""
    from katax_cli.cli.db.documents.queries import run_command

    with scope(call, DOCUMENTS) as chosen:
        return run_command(chosen, document, database=database, canonical=canonical)
