"""`katax db export|import|copy|diff`: rows between files and tables, and between two connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.scope import Target
from katax_cli.core.engine_names import SQL_ENGINES, TABLE_ENGINES

if TYPE_CHECKING:
    pass

group = Group()

TABLES = Target(types=TABLE_ENGINES, preferred="main", lacks="tables")
SQL = Target(types=SQL_ENGINES, preferred="main", lacks="tables of rows")
MORE_FORMATS = ("sql", "parquet")

Delimiter = Annotated[
    str, typer.Option("--delimiter", metavar="CHAR", help="Between the cells of CSV; 'tab' for a tab.")
]


@group.command("export", formats=MORE_FORMATS)
def export(
    call: Invocation,
    table: Annotated[
        str | None, typer.Argument(metavar="[TABLE]", help="NAME or SCHEMA.NAME, or a collection.")
    ] = None,
    query: Annotated[
        str | None, typer.Option("--query", metavar="SQL|-|@FILE", help="Rows of a query, not of a table.")
    ] = None,
    delimiter: Delimiter = ",",
) -> None:
    """Write the rows of a table or query as csv, jsonl, sql or parquet; -o rows.csv.gz says format and compression.

    Times are in UTC, bytes hexadecimal, NULL an empty cell without quotes (an empty text has quotes). The file takes
    its name when it is complete.
    """
    from katax_cli.cli.db.files import run_export

    run_export(call, SQL, table, query, delimiter=delimiter)
