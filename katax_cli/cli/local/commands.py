"""`katax local`: the embedded servers behind the built-in profile."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation

group = Group()

HEADER = ("connection", "folder", "running", "pid", "socket", "uptime_seconds", "memory_bytes", "version")


@group.command("status")
def status(
    call: Invocation,
    all: Annotated[bool, typer.Option("--all", help="Every running server of this user.")] = False,
) -> None:
    """List the embedded servers; starts none."""
    from katax_cli.services.redis import embedded as local

    servers = [asdict(server) for server in local.status(Path(call.home()), all=all)]
    call.out.rows(HEADER, [[tuple(server[name] for name in HEADER) for server in servers]])


@group.command("stop")
def stop(call: Invocation) -> ExitCode:
    """Stop the embedded server after it saved its data; exit 1 when none runs."""
    from katax_cli.services.redis import embedded as local

    home = call.home()
    if call.only_planned(folder=home, stopped=False):
        return ExitCode.DONE
    stopped = local.stop(Path(home))
    if stopped is None:
        call.diagnostics.note("no embedded server runs for this folder")
        return ExitCode.NO
    call.out.action({"connection": stopped.connection, "folder": stopped.folder, "stopped": True})
    return ExitCode.DONE
