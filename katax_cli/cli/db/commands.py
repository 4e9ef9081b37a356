"""`katax db`: query and describe databases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from katax_cli.cli.db.activity import group as activity_commands
from katax_cli.cli.db.backups.backup import group as backup_commands
from katax_cli.cli.db.changes import MaxRows, Param, TableName, Where
from katax_cli.cli.db.changes import group as change_commands
from katax_cli.cli.db.documents.commands import group as document_commands
from katax_cli.cli.db.journal import group as journal_commands
from katax_cli.cli.db.shell import group as shell_commands
from katax_cli.cli.db.transfer import group as transfer_commands
from katax_cli.cli.db.views import (
    COLUMN_HEADER,
    METRICS_HEADER,
    SIZE_HEADER,
    TABLE_HEADER,
    column_row,
    size_row,
    table_row,
)
from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.options import duration
from katax_cli.cli.shell.options import limit as seconds
from katax_cli.cli.shell.scope import scope
from katax_cli.cli.shell.target import ANY, SQL, TABLES

if TYPE_CHECKING:
    from katax_cli.services.databases.database import Database
    from katax_cli.services.databases.mongodb import MongoDatabase
    from katax_cli.services.databases.sql import SqlDatabase

group = Group()

PING_HEADER = ("connection", "type", "address", "latency_ms")


@group.command("ping")
def ping(call: Invocation) -> ExitCode:
    """Make one round trip to a server; exit 3 without an answer."""

    def work(database: Database) -> list[tuple[object, ...]]:
        from katax_cli.services.health.probe import ping_ms

        settings = database.settings
        return [(settings.name, settings.type, settings.address, ping_ms(database))]

    with scope(call, ANY, probing=True) as chosen:
        return chosen.answer_each(PING_HEADER, work, named=True)


@group.command("query")
def query(
    call: Invocation,
    sql: Annotated[
        str | None, typer.Argument(metavar="SQL", help="One statement; - for stdin, @file.")
    ] = None,
    args: Annotated[
        list[str] | None, typer.Argument(metavar="[ARG]...", help="Values of $1, $2 … or of each ?.")
    ] = None,
    param: Param = None,
    file: Annotated[
        str | None, typer.Option("--file", metavar="FILE|-", help="Read the SQL from a file.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=0, help="Maximum number of rows, with a note.")
    ] = None,
    replica: Annotated[
        bool, typer.Option("--replica", help="Read from a replica; never from the primary.")
    ] = False,
    max_rows_affected: MaxRows = None,
    watch: Annotated[
        str | None,
        typer.Option("--watch", metavar="DURATION", help="Run it again after each 2s, 1m, … until Ctrl-C."),
    ] = None,
) -> ExitCode:
    """Run one statement and print its rows as they arrive.

    On prod, UPDATE and DELETE are shown before they last; see 'katax db update --help'.
    """
    from katax_cli.cli.db.run import QueryPlan, parameters, run_query, statement, watch_query

    text = statement(call, sql, file)
    values = parameters(args or [], param or [])
    plan = QueryPlan(lambda _: (text, values), limit=limit, max_rows=max_rows_affected, replica=replica)
    if watch is not None:
        watch_query(call, plan, every=seconds(watch))
    with scope(call, SQL) as chosen:
        return run_query(chosen, plan)


@group.command("exec")
def exec_(
    call: Invocation,
    sql: Annotated[str | None, typer.Argument(metavar="SQL", help="A script; - for stdin, @file.")] = None,
    file: Annotated[
        str | None, typer.Option("--file", metavar="FILE|-", help="Read the script from a file.")
    ] = None,
    single_transaction: Annotated[
        bool, typer.Option("--single-transaction", help="Run all or nothing (where DDL allows it).")
    ] = False,
    max_rows_affected: MaxRows = None,
) -> ExitCode:
    """Run a script statement by statement; stops at the first error.

    All of it has 30 seconds unless --timeout says otherwise. On prod, a script with UPDATE or DELETE runs in one
    transaction, which commits after an answer.
    """
    from katax_cli.cli.db.run import statement
    from katax_cli.cli.db.script import run_exec

    text = statement(call, sql, file)
    with scope(call, SQL) as chosen:
        return run_exec(chosen, text, single_transaction=single_transaction, max_rows=max_rows_affected)


@group.command("select")
def select(
    call: Invocation,
    table: TableName,
    columns: Annotated[
        str | None,
        typer.Option(metavar="COL[,COL]...", help="name, t.name, count(name) [as ALIAS]; none: *."),
    ] = None,
    where: Where = None,
    join: Annotated[
        list[str] | None,
        typer.Option(metavar="'[left] TABLE [ALIAS] on A.X = B.Y'", help="Another table; repeatable."),
    ] = None,
    group_by: Annotated[
        str | None, typer.Option(metavar="COL[,COL]...", help="One row for each group.")
    ] = None,
    having: Annotated[
        list[str] | None, typer.Option(metavar="'COL OP VALUE'", help="Condition on groups; repeatable.")
    ] = None,
    order: Annotated[str | None, typer.Option(metavar="'COL [desc][,COL]...'", help="Order of rows.")] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="Maximum number of rows.")] = None,
    offset: Annotated[int | None, typer.Option(min=0, help="Number of rows to skip.")] = None,
    param: Param = None,
) -> ExitCode:
    """Print rows of a table; names are quoted and values bound, so that no argument becomes SQL."""
    from katax_cli.cli.db.build import run_built, selection

    plan = selection(
        table,
        columns=columns,
        where=where or [],
        join=join or [],
        group_by=group_by,
        having=having or [],
        order=order,
        limit=limit,
        offset=offset,
    )
    with scope(call, SQL) as chosen:
        return run_built(chosen, plan, param or [])


group.commands.update(change_commands.commands)


@group.command("tables")
def tables(call: Invocation) -> ExitCode:
    """List tables, views and collections with the server's estimates."""

    def work(database: SqlDatabase | MongoDatabase) -> list[tuple[object, ...]]:
        return [table_row(table) for table in database.tables()]

    with scope(call, TABLES) as chosen:
        return chosen.answer_each(TABLE_HEADER, work)


@group.command("describe")
def describe(
    call: Invocation,
    table: Annotated[str, typer.Argument(help="NAME or SCHEMA.NAME.")],
) -> ExitCode:
    """Show the columns and indexes of a table; exit 1 when there is no such table."""
    with scope(call, TABLES) as chosen:
        found = chosen.tabular.describe(table)
    if found is None:
        call.diagnostics.note(f"no table named {table!r} on {chosen.one.name!r}; see 'katax db tables'")
        return ExitCode.NO
    call.out.rows(COLUMN_HEADER, [[column_row(found, column) for column in found.columns]])
    for index in found.indexes:
        call.diagnostics.note(
            f"index {index.name} ({', '.join(index.columns)}){' unique' if index.unique else ''}"
        )
    return ExitCode.DONE


@group.command("size")
def size(
    call: Invocation,
    table: Annotated[
        str | None, typer.Argument(metavar="[TABLE]", help="NAME or SCHEMA.NAME; none: all of it.")
    ] = None,
) -> ExitCode:
    """Show how large a database is (Redis: the memory in use), or one table with its indexes.

    Exit 1 when there is no such table.
    """
    if table is not None:
        from katax_cli.cli.db.inspect import table_size

        return table_size(call, table)

    def work(database: Database) -> list[tuple[object, ...]]:
        return [size_row(database.settings, database.metrics())]

    with scope(call, ANY) as chosen:
        return chosen.answer_each(SIZE_HEADER, work, named=True)


@group.command("metrics")
def metrics(call: Invocation) -> ExitCode:
    """Show the load of a server: connections, statements, size, as far as it counts them."""
    with scope(call, ANY) as chosen:
        if not call.is_glob:
            call.out.action(chosen.runtime.open(chosen.one).metrics())
            return ExitCode.DONE

        def work(database: Database) -> list[tuple[object, ...]]:
            return [(database.name, database.engine.name, dict(database.metrics()))]

        return chosen.answer_each(METRICS_HEADER, work, named=True)


@group.command("slow")
def slow(
    call: Invocation,
    over: Annotated[
        str | None, typer.Option("--over", metavar="DURATION", help="Shortest time (default: slow_query_ms).")
    ] = None,
) -> ExitCode:
    """List the slow statements that the server recorded, without their values, the slowest first.

    Where it keeps none, those of katax's own calls that its processes report.
    """
    from katax_cli.cli.db.inspect import slow_queries

    return slow_queries(call, None if over is None else duration(over) * 1000)


group.commands.update(transfer_commands.commands)


@group.command("truncate")
def truncate(
    call: Invocation,
    tables: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TABLE]...", help="Default: all but the ledger of migrations."),
    ] = None,
    cascade: Annotated[
        bool, typer.Option("--cascade", help="Truncate the tables that refer to these, too.")
    ] = False,
) -> None:
    """Delete all rows of tables and restart their counters; shows first what would be lost."""
    from katax_cli.cli.db.empty import empty_tables

    empty_tables(call, tables or [], cascade=cascade)


@group.command("reset")
def reset(
    call: Invocation,
    migrate: Annotated[bool, typer.Option("--migrate", help="Apply all migrations afterwards.")] = False,
    seed: Annotated[bool, typer.Option("--seed", help="Run the seeds afterwards.")] = False,
) -> None:
    """Drop everything in the database; shows first what would be lost."""
    from katax_cli.cli.db.empty import reset_database

    reset_database(call, migrate=migrate, seed=seed)


@group.command("create")
def create(call: Invocation) -> None:
    """Create the database of a connection, by its server's maintenance database; exit 0 if it exists."""
    from katax_cli.cli.db.empty import create_database

    create_database(call)


@group.command("drop")
def drop(call: Invocation) -> None:
    """Drop the database of a connection with all that is in it; shows first what would be lost."""
    from katax_cli.cli.db.empty import drop_database

    drop_database(call)


group.commands.update(document_commands.commands)
group.commands.update(journal_commands.commands)
group.commands.update(activity_commands.commands)
group.commands.update(shell_commands.commands)
group.commands.update(backup_commands.commands)
