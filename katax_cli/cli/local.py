"""`katax local`: the embedded servers behind the built-in profile."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated

import typer

from katax_cli.cli.exits import ExitCode
from katax_cli.cli.group import Group
from katax_cli.cli.invocation import Invocation
from katax_cli.services import local

group = Group()

HEADER = tuple(field.name for field in fields(local.LocalServer))


@group.command("status")
def status(
    call: Invocation,
    all: Annotated[bool, typer.Option("--all", help="Every running server of this user.")] = False,
) -> None:
    """List the embedded servers; starts none."""
    servers = local.status(Path(call.home()), all=all)
    call.out.rows(HEADER, [[tuple(asdict(server).values()) for server in servers]])


@group.command("stop")
def stop(call: Invocation) -> ExitCode:
    """End the embedded server after it wrote its data; exit 1 when none runs."""
    stopped = local.stop(Path(call.home()))
    if stopped is None:
        call.diagnostics.note("no embedded server runs for this folder")
        return ExitCode.NO
    call.out.action({"connection": stopped.connection, "folder": stopped.folder, "stopped": True})
    return ExitCode.DONE
