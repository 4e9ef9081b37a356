"""`katax db shell`: statements typed one by one, or the server's own client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.scope import Scope, scope
from katax_cli.cli.shell.target import ANY
from katax_cli.errors import KataxError

if TYPE_CHECKING:
    from katax_cli.cli.db.repl.languages import Language
    from katax_cli.services.databases.clients import RedisDatabase
    from katax_cli.services.databases.mongodb import MongoDatabase
    from katax_cli.services.databases.sql import SqlDatabase

group = Group()


@group.command("shell")
def shell(
    call: Invocation,
    native: Annotated[
        bool, typer.Option("--native", help="Run psql, mariadb, sqlite3, redis-cli or mongosh instead.")
    ] = False,
) -> ExitCode:
    """Type statements one by one, with completion; lines of a pipe run up to the first error."""
    if call.shared.dry_run:
        raise typer.BadParameter("a shell has no --dry-run")
    with scope(call, ANY, endless=True) as chosen:
        return _native(chosen) if native else _talk(chosen)


def _native(chosen: Scope) -> ExitCode:
    from katax_cli.services.dialogue.native import native_client, run_native

    client = native_client(chosen.runtime.open(chosen.one).settings)
    return ExitCode(run_native(client))


def _talk(chosen: Scope) -> ExitCode:
    from katax_cli.cli.db.repl.loop import Shell, typed_lines

    call, language = chosen.call, _language(chosen)
    shell = Shell(chosen, language)
    if not call.streams.interactive:
        return shell.run_piped(typed_lines(call.streams.stdin))
    from katax_cli.cli.db.repl.line import InputLine

    line = InputLine(
        history=_history(chosen),
        whole=language.is_whole,
        suggest=language.suggest,
        language=chosen.one.type,
        stream=call.streams.stderr,
        color=call.streams.color,
    )
    call.diagnostics.note("\\? lists the commands of this shell, Ctrl-D leaves")
    return shell.run_typed(line)


def _history(chosen: Scope) -> str | None:
    """The file of the history; None, with a note, where none can be written."""
    from katax_cli.cli.db.repl.history import history_file

    try:
        return history_file(chosen.profile, chosen.one)
    except (KataxError, OSError) as error:
        chosen.call.diagnostics.note(f"the history of this shell is not kept: {error}")
        return None


def _language(chosen: Scope) -> Language:
    from katax_cli.cli.db.repl.languages import MongoLanguage, RedisLanguage, SqlLanguage
    from katax_cli.services.dialogue.mongodb import MongoDialogue
    from katax_cli.services.dialogue.redis import RedisDialogue
    from katax_cli.services.dialogue.sql import SqlDialogue

    settings = chosen.one
    seconds = chosen.call.shared.timeout or settings.statement_timeout
    database = chosen.runtime.open(settings)
    if settings.type == "redis":
        redis = cast("RedisDatabase", database)
        return RedisLanguage(redis, RedisDialogue(redis, seconds=seconds))
    if settings.type == "mongodb":
        mongodb = cast("MongoDatabase", database)
        return MongoLanguage(mongodb, MongoDialogue(mongodb, seconds=seconds))
    sql = cast("SqlDatabase", database)
    return SqlLanguage(sql, SqlDialogue(sql, seconds=seconds, note=chosen.call.diagnostics.note))
