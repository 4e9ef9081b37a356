"""`katax seed`: data that a database starts with."""

from __future__ import annotations

from typing import Annotated

import typer

from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation

group = Group()


@group.command("run")
def run(
    call: Invocation,
    name: Annotated[
        str | None, typer.Argument(help="One seed; without it the one called after the profile, else all.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Run seeds that did not change, too.")] = False,
) -> ExitCode:
    """Apply new and changed seeds, each as a whole; refused in the roles prod and frozen."""
    from katax_cli.cli.seed.run import run_seeds

    return run_seeds(call, name, again=again)


@group.command("create")
def create(
    call: Invocation,
    name: Annotated[str, typer.Argument(help="File name; .sql unless it ends in .py, .json or .csv.")],
) -> None:
    """Write a commented seed file."""
    from katax_cli.cli.seed.run import seeds_folder
    from katax_cli.services.seeds import files

    folder = seeds_folder(call.profile())
    if not call.only_planned(path=files.new_path(folder, name)):
        call.out.action({"path": files.create(folder, name)})


@group.command("status")
def status(call: Invocation) -> ExitCode:
    """List seeds and their states."""
    from katax_cli.cli.seed.run import show_status

    return show_status(call)
