"""`katax db export|import|copy|diff`: rows between files and tables, and between two connections."""

from __future__ import annotations

from typing import Annotated

import typer

from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation

group = Group()

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
    filter: Annotated[
        str | None,
        typer.Option("--filter", metavar="JSON|-|@FILE", help="MongoDB: the documents that match."),
    ] = None,
    delimiter: Delimiter = ",",
) -> None:
    """Write the rows of a table or query as csv, jsonl, sql or parquet; -o rows.csv.gz says format and compression.

    Times are in UTC, bytes hexadecimal, NULL an empty cell without quotes (an empty text has quotes). A collection
    of MongoDB is jsonl, canonical Extended JSON. The file takes its name when it is complete.
    """
    from katax_cli.cli.db.files import run_export

    run_export(call, table, query, filter, delimiter=delimiter)


@group.command("import")
def import_(
    call: Invocation,
    file: Annotated[
        str, typer.Argument(metavar="FILE|-", help="csv, jsonl or parquet; .gz and .zst are unpacked.")
    ],
    table: Annotated[str, typer.Argument(metavar="TABLE", help="NAME or SCHEMA.NAME, or a collection.")],
    key: Annotated[
        str | None,
        typer.Option(
            "--key", metavar="COL[,COL]...", help="Change the rows that have this unique key; MongoDB: _id."
        ),
    ] = None,
    create: Annotated[
        bool,
        typer.Option("--create", help="Create the table; a column gets a type only if it loses nothing."),
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Delete the rows of the table first.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Import a file that was imported before.")] = False,
    max_errors: Annotated[
        int, typer.Option("--max-errors", min=0, help="Rows that may be refused and written to --rejects.")
    ] = 0,
    rejects: Annotated[
        str | None, typer.Option("--rejects", metavar="FILE", help="Refused rows (FILE.rejects.csv).")
    ] = None,
    file_format: Annotated[
        str | None,
        typer.Option("--as", metavar="csv|jsonl|parquet", help="Format, where the name does not say."),
    ] = None,
    encoding: Annotated[str, typer.Option("--encoding", metavar="NAME", help="Of csv and jsonl.")] = "utf-8",
    delimiter: Delimiter = ",",
) -> None:
    """Load the rows of a file into a table, in batches; what was killed goes on where it stands when it is run again.

    The first line of csv names the columns, or --columns does (with --no-header). An empty cell without quotes is NULL,
    or what --null says. Without --max-errors the first bad row stops it. Documents replace those with their _id.
    """
    from katax_cli.cli.db.files import run_import
    from katax_cli.services.transfer.import_run import ImportPlan

    names = tuple(name.strip() for name in (key or "").split(",") if name.strip())
    plan = ImportPlan(table, names, create, replace, again, max_errors, rejects)
    run_import(call, file, plan, format=file_format, encoding=encoding, delimiter=delimiter)


Side = "NAME or PROFILE/NAME of a connection."


@group.command("copy")
def copy(
    call: Invocation,
    source: Annotated[str, typer.Argument(metavar="SRC", help=Side)],
    destination: Annotated[str, typer.Argument(metavar="DST", help=Side)],
    tables: Annotated[
        list[str] | None, typer.Argument(metavar="[TABLE]...", help="Default: all but katax's own.")
    ] = None,
    checksums: Annotated[
        bool, typer.Option("--checksums", help="Compare the values of all rows, too.")
    ] = False,
    not_consistent: Annotated[
        bool, typer.Option("--not-consistent", help="Go on behind a stop, with rows as they are now.")
    ] = False,
    zero_dates: Annotated[
        str, typer.Option("--zero-dates", metavar="refuse|null", help="MySQL's dates that are none.")
    ] = "refuse",
) -> ExitCode:
    """Copy tables between any two SQL engines, or collections between two of MongoDB; missing ones are created.

    Says first how each type changes (--dry-run stops there), reads all tables in one snapshot, and counts the rows of
    both sides at the end; exit 1 when they are not the same.
    """
    from katax_cli.cli.db.copying import run_copy
    from katax_cli.services.transfer.copy import CopyPlan

    if zero_dates not in ("refuse", "null"):
        raise typer.BadParameter(f"--zero-dates is {zero_dates!r}, expected refuse or null")
    plan = CopyPlan(
        tuple(tables or ()), checksums=checksums, not_consistent=not_consistent, zero_dates=zero_dates
    )
    return run_copy(call, (source, destination), plan)


@group.command("diff")
def diff(
    call: Invocation,
    source: Annotated[str, typer.Argument(metavar="SRC", help=Side)],
    destination: Annotated[str, typer.Argument(metavar="DST", help=Side)],
    tables: Annotated[
        list[str] | None, typer.Argument(metavar="[TABLE]...", help="Default: all but katax's own.")
    ] = None,
    rows: Annotated[
        bool, typer.Option("--rows", help="Compare the rows, too, by their primary key or _id.")
    ] = False,
) -> ExitCode:
    """Show what differs between two databases: tables, columns, indexes, migrations, counts; exit 1 if anything.

    Between two engines a column is the same when 'db copy' would give it such a type. Of two of MongoDB: collections,
    options, indexes, counts. Writes nothing on either side.
    """
    from katax_cli.cli.db.copying import run_diff
    from katax_cli.services.transfer.diff import DiffPlan

    return run_diff(call, (source, destination), DiffPlan(tuple(tables or ()), rows=rows))
