"""`katax profile`: which connections there are, and where each value came from."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, cast

import typer

from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.options import one_of
from katax_cli.cli.shell.output import Manner
from katax_cli.core.text.text import printable
from katax_cli.profiles.model.problems import Problem

if TYPE_CHECKING:
    from katax_cli.core.settings import Role

group = Group()

Name = Annotated[str | None, typer.Argument(help="Profile; none: the one that would be used.")]


@group.command("list")
def list_(call: Invocation) -> None:
    """List the profiles and mark the selected one."""
    from katax_cli.profiles.load import list_profiles, load_profile

    entries = list_profiles(name=call.shared.profile)
    header = ("name", "role", "chosen", "source", "problem")
    rows = [(e.name, e.role, e.chosen, e.source, e.problem) for e in entries]
    call.out.rows(header, [rows], Manner(below="problem"))
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
    name: Annotated[str | None, typer.Argument(help="Profile; none: all.")] = None,
    connect: Annotated[bool, typer.Option("--connect", help="Also connect to every server.")] = False,
) -> ExitCode:
    """Check profiles: report every problem, with file, line and remedy; exit 2 when there is one.

    Without a name all profiles, with --connect the one that would be used.
    """
    from katax_cli.cli.profile.views import PROBLEM_HEADER, problem_line, verdict
    from katax_cli.profiles.check import check_profile, check_profiles
    from katax_cli.services.cron.definition.catalog import mistake_of

    name = name or call.shared.profile or os.environ.get("KATAX_PROFILE")
    if name or connect:
        names, problems = [name] if name else [], check_profile(name, mistake_of=mistake_of)
    else:
        names, problems = check_profiles(mistake_of=mistake_of)
    wrong = any(problem.level == "error" for problem in problems)
    code = ExitCode.USAGE if wrong else ExitCode.DONE
    if connect and not wrong:
        outcomes, code = _connect_each(call, name)
        problems += outcomes
    if call.out.format != "table":
        call.out.rows(PROBLEM_HEADER, [[(problem.level, *problem[:-1]) for problem in problems]])
        return code
    for line in map(problem_line, problems):
        call.out.text(printable(line))
    if not problems:
        call.out.text(verdict(names))
    return code


def _connect_each(call: Invocation, name: str | None) -> tuple[list[Problem], ExitCode]:
    """The problem and the exit code of connections that cannot be opened."""
    from katax_cli.cli.shell.exits import exit_code_for, worst
    from katax_cli.cli.shell.scope import probing_scope

    with probing_scope(call, profile=name, endless=False) as chosen:
        outcomes = list(chosen.each(lambda database: database.connect()))
    failed = [(one.name, error) for one, error in outcomes if isinstance(error, BaseException)]
    problems = [Problem(None, None, f"connections.{key}", str(error)) for key, error in failed]
    return problems, worst([exit_code_for(error) for _, error in failed])


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


@group.command("add")
def add(
    call: Invocation,
    name: Annotated[str, typer.Argument(help="Name of the new profile.")],
    url: Annotated[
        str, typer.Argument(metavar="URL|env:NAME|-", help="Its connection; - reads it from stdin.")
    ],
    role: Annotated[
        str,
        typer.Option("--role", metavar="ROLE", help="dev, stage, prod, or frozen: nothing can be written."),
    ] = "prod",
) -> ExitCode:
    """Write a profile for a URL, profiles/NAME.toml; never over an existing one.

    Its password goes into .katax/passwords/NAME, where only you can read it.
    """
    from katax_cli.core.settings import ROLES
    from katax_cli.profiles.change import add_profile, plan_profile

    one_of("role", ROLES)(role)
    planned = plan_profile(name, call.input_bytes(url).decode().strip(), cast("Role", role))
    if not call.only_planned(profile=name, file=planned.path):
        add_profile(planned)
        facts = {"profile": name, "role": role, "connection": planned.connection, "file": planned.path}
        call.out.action({**facts, "password_file": planned.password_file})
    return ExitCode.DONE


@group.command("use")
def use(
    call: Invocation,
    name: Annotated[str, typer.Argument(help="Profile that is used when none is named.")],
) -> ExitCode:
    """Write the default profile into the project's katax.toml, without a project into your own."""
    from katax_cli.profiles.change import default_file, use_profile

    file = default_file(name)
    if not call.only_planned(profile=name, file=file):
        use_profile(name, file)
        call.out.action({"profile": name, "file": file})
        if os.environ.get("KATAX_PROFILE", name) != name:
            call.diagnostics.note(
                f"KATAX_PROFILE is set, and profile {os.environ['KATAX_PROFILE']!r} goes before it"
            )
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
