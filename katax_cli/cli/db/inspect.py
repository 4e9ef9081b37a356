"""The parts of `katax db size TABLE` and `slow` that take more words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from katax_cli.cli.db.views import SLOW_HEADER, TABLE_SIZE_HEADER, table_size_row
from katax_cli.cli.shell.exits import ExitCode, worst
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.scope import scope
from katax_cli.cli.shell.target import ANY, TABLES
from katax_cli.errors import AuthenticationFailed, ConfigError
from katax_cli.services.state.report_rows import own_slow_queries

if TYPE_CHECKING:
    from katax_cli.services.databases.database import Database
    from katax_cli.services.databases.mongodb import MongoDatabase
    from katax_cli.services.databases.sql import SqlDatabase


def table_size(call: Invocation, name: str) -> ExitCode:
    """A table with its indexes, on each connection; a connection without it costs its own row and exit 1."""
    missing: list[str] = []

    def work(database: SqlDatabase | MongoDatabase) -> list[tuple[object, ...]]:
        found = database.describe(name)
        if found is None:
            missing.append(database.name)
            return []
        return [table_size_row(database.settings, found.table)]

    with scope(call, TABLES) as chosen:
        code = chosen.answer_each(TABLE_SIZE_HEADER, work, named=True)
    for connection in missing:
        call.diagnostics.note(f"no table named {name!r} on {connection!r}; see 'katax db tables'")
    return worst([code, ExitCode.NO if missing else ExitCode.DONE])


def slow_queries(call: Invocation, over_ms: float | None) -> ExitCode:
    """Slow statements that the server remembers; else, which is said, those of katax that its processes report."""
    notes: list[str] = []
    with scope(call, ANY) as chosen:
        least = chosen.profile.logging.slow_query_ms if over_ms is None else over_ms

        def work(database: Database) -> list[tuple[object, ...]]:
            try:
                return [(*query, "server") for query in database.slow_queries(least)]
            except AuthenticationFailed:
                raise
            except ConfigError as error:
                own = own_slow_queries(chosen.profile, database.name, least)
                if not own:
                    raise
                notes.append(f"{error}; these are calls of katax's own processes")
                return [(*query, "katax") for query in own]

        code = chosen.answer_each(SLOW_HEADER, work)
    for note in notes:
        call.diagnostics.note(note)
    return code
