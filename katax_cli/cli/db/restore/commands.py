"""`katax db restore`, and the command `drill` of the group `katax db backups`."""

from __future__ import annotations

from typing import Annotated

import typer

from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation

group, drills = Group(), Group()

Out = Annotated[
    str | None,
    typer.Option("--out", metavar="DIR|URL", help="Folder or URL of the backups ([backup] directory)."),
]
Jobs = Annotated[int | None, typer.Option("--jobs", min=1, help="Parallel workers (processors, at most 4).")]


@group.command("restore")
def restore(
    call: Invocation,
    backup: Annotated[
        str,
        typer.Argument(
            metavar="BACKUP", help="Its name as 'db backups list' shows it, or its folder or URL."
        ),
    ],
    into: Annotated[
        str,
        typer.Option(
            "--into", metavar="NAME", help="Database to make (SQLite: file; Redis: number); none, or empty."
        ),
    ],
    swap: Annotated[
        bool, typer.Option("--swap", help="Take the place of NAME, which is kept until the next prune.")
    ] = False,
    jobs: Jobs = None,
    out: Out = None,
) -> ExitCode:
    """Restore a backup into a new database; nothing is touched before the whole backup was validated."""
    from katax_cli.cli.db.restore.run import run_restore

    return run_restore(call, backup, into, swap=swap, jobs=jobs, out=out)


@drills.command("drill")
def drill(
    call: Invocation,
    backup: Annotated[
        str | None,
        typer.Argument(
            metavar="BACKUP", help="Its name as 'db backups list' shows it, or its folder or URL."
        ),
    ] = None,
    latest: Annotated[
        bool, typer.Option("--latest", help="The newest backup, with -c that of one connection.")
    ] = False,
    on: Annotated[
        str | None,
        typer.Option("--on", metavar="CONNECTION", help="The server for the throwaway database."),
    ] = None,
    embedded: Annotated[
        bool, typer.Option("--embedded", help="On a server of this command's own (SQLite, Redis).")
    ] = False,
    same_server: Annotated[
        bool, typer.Option("--same-server", help="Allow the server that the backup is from, if it has room.")
    ] = False,
    jobs: Jobs = None,
    out: Out = None,
) -> ExitCode:
    """Restore a backup into a throwaway database, compare, and stamp its manifest; exit 1 when it did not pass."""
    from katax_cli.cli.db.restore.run import run_drill

    return run_drill(
        call, backup, latest=latest, on=on, embedded=embedded, same_server=same_server, jobs=jobs, out=out
    )
