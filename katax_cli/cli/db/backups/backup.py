"""`katax db backup`, and the group `katax db backups`."""

from __future__ import annotations

from typing import Annotated

import typer

from katax_cli.cli.db.restore.commands import Out
from katax_cli.cli.db.restore.commands import group as restore_commands
from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation

group = Group()


@group.command("backup")
def backup(
    call: Invocation,
    out: Out = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Parallel workers of pg_dump (processors, at most 4).")
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out what cannot be read, and say so.")
    ] = False,
) -> ExitCode:
    """Back up a database by the server's own tool; the backup has its name only when all of it is proven."""
    from katax_cli.cli.db.backups.backup_run import run_backup

    return run_backup(call, out, jobs=jobs, allow_missing=allow_missing)


group.commands.update(restore_commands.commands)
group.subgroup("backups", "katax_cli.cli.db.backups.commands", "List, verify, drill and prune backups.")
