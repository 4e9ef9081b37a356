"""`katax db backups`: what backups there are, whether they are whole, and which of them are kept."""

from __future__ import annotations

from typing import Annotated

import typer

from katax_cli.cli.db.restore.commands import Out, drills
from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation

group = Group()


@group.command("list")
def list_(call: Invocation, out: Out = None) -> None:
    """List the backups of all connections, the newest first, with size, age and whether they were drilled."""
    from katax_cli.cli.db.backups.run import show_list

    show_list(call, out)


@group.command("verify")
def verify(
    call: Invocation,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[BACKUP]...", help="Names, paths or URLs; default: all.")
    ] = None,
    out: Out = None,
) -> ExitCode:
    """Read every byte of backups and compare it with their manifests; exit 1 when one is not whole."""
    from katax_cli.cli.db.backups.run import verify_backups

    return verify_backups(call, out, names or [])


@group.command("prune")
def prune(
    call: Invocation,
    last: Annotated[int, typer.Option("--keep-last", min=0, help="Keep so many of the last ones.")] = 0,
    daily: Annotated[int, typer.Option("--keep-daily", min=0, help="Keep the last one of so many days.")] = 0,
    weekly: Annotated[
        int, typer.Option("--keep-weekly", min=0, help="Keep the last one of so many weeks.")
    ] = 0,
    monthly: Annotated[
        int, typer.Option("--keep-monthly", min=0, help="Keep the last one of so many months.")
    ] = 0,
    out: Out = None,
) -> ExitCode:
    """Remove backups that no rule keeps, by server and database; none while the newest is not drilled."""
    from katax_cli.cli.db.backups.run import prune_backups
    from katax_cli.services.backup.retention import Retention

    retention = Retention(last=last, daily=daily, weekly=weekly, monthly=monthly)
    return prune_backups(call, out, retention)


group.commands.update(drills.commands)
