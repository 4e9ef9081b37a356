"""`katax profile`: which connections there are, and where each value came from."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation

group = Group()

Name = Annotated[str | None, typer.Argument(help="Profile; none: the one that would be used.")]


@group.command("list")
def list_(call: Invocation) -> None:
    """List the profiles and mark the selected one."""
    from katax_cli.profiles.load import list_profiles, load_profile

    entries = list_profiles(name=call.shared.profile)
    header = ("name", "role", "chosen", "source", "problem")
    call.out.rows(header, [[(e.name, e.role, e.chosen, e.source, e.problem) for e in entries]])
    chosen = next((entry.name for entry in entries if entry.chosen and entry.problem is None), None)
    if chosen is not None:
        call.note_unused(load_profile(chosen))


@group.command("show")
def show(
    call: Invocation,
    name: Name = None,
    origin: Annotated[bool, typer.Option("--origin", help="Show the origin of each value.")] = False,
) -> None:
    """Show the settings of a profile; secrets are masked."""
    from katax_cli.profiles.load import load_profile
    from katax_cli.profiles.show import origins

    rows = origins(load_profile(name or call.shared.profile))
    if origin:
        call.out.rows(("key", "value", "origin"), [rows])
    else:
        call.out.rows(("key", "value"), [[(row.key, row.value) for row in rows]])


@group.command("check")
def check(
    call: Invocation,
    name: Name = None,
    connect: Annotated[bool, typer.Option("--connect", help="Also connect to every server.")] = False,
) -> ExitCode:
    """Check a profile: report every problem, with file, line and remedy; exit 2 when there is one."""
    from katax_cli.profiles.check import check_profile

    problems = check_profile(name or call.shared.profile)
    wrong = any(problem.level == "error" for problem in problems)
    header = ("level", "file", "line", "key", "message", "remedy")
    rows: list[tuple[object, ...]] = [(p.level, p.file, p.line, p.key, p.message, p.remedy) for p in problems]
    code = ExitCode.USAGE if wrong else ExitCode.DONE
    if connect and not wrong:
        found, code = _connect_each(call, name)
        rows += found
    call.out.rows(header, [rows])
    return code


def _connect_each(call: Invocation, name: str | None) -> tuple[list[tuple[object, ...]], ExitCode]:
    """A row and the exit code for connections that cannot be opened."""
    from katax_cli.cli.shell.exits import exit_code_for, worst
    from katax_cli.cli.shell.scope import probing_scope

    with probing_scope(call, profile=name, endless=False) as chosen:
        outcomes = list(chosen.each(lambda database: database.connect()))
    failed = [(one.name, error) for one, error in outcomes if isinstance(error, BaseException)]
    rows = [("error", None, None, f"connections.{key}", str(error), None) for key, error in failed]
    return [*rows], worst([exit_code_for(error) for _, error in failed])


@group.command("init")
def init(
    call: Invocation,
    name: Annotated[str, typer.Argument(help="Name of the new profile.")] = "dev",
) -> ExitCode:
    """Write a commented starter file, profiles/NAME.toml; never over an existing one."""
    from katax_cli.profiles.template import write_template

    if call.only_planned(profile=name, file=None):
        return ExitCode.DONE
    path = write_template(os.getcwd(), name)
    call.out.action({"profile": name, "file": path})
    return ExitCode.DONE


@group.command("schema")
def schema(call: Invocation) -> None:
    """Print the JSON Schema of profile files, for editors."""
    import json

    from katax_cli.profiles.model.schema import json_schema

    call.out.text(json.dumps(json_schema(), indent=2))


@group.command("trust")
def trust(
    call: Invocation,
    file: Annotated[str | None, typer.Argument(help="Profile file; none: the chosen profile's.")] = None,
) -> None:
    """Approve the present password commands of a project's file."""
    from katax_cli.profiles.sources.trust import approve

    path = file or call.source()
    if call.only_planned(file=path, approved=0):
        return
    commands = approve(path)
    call.out.rows(("file", "command"), [[(path, command) for command in commands]])
