"""`katax help CMD`: the same as `katax CMD --help`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from katax_cli.cli.shell.group import Group, unknown_command
from katax_cli.cli.shell.help import remember_verbose
from katax_cli.cli.shell.invocation import Invocation

group = Group(default="show")


@group.command("show")
def show(
    call: Invocation,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[COMMAND]...", help="A group or a command; none: katax itself."),
    ] = None,
) -> None:
    """Show the help of a command; --verbose with the options that all commands share."""
    context = context_of(words or ())
    remember_verbose(context, ["--verbose"] if call.shared.verbose else [])
    call.out.text(context.command.get_help(context))


def context_of(words: Sequence[str]) -> Any:
    """The command of these words, in the context in which it describes itself. Raises BadParameter."""
    from katax_cli.cli.app import root

    context: Any = root().make_context("katax", ["--nothing-is-parsed"], resilient_parsing=True)
    for word in words:
        group = context.command
        names = group.list_commands(context) if hasattr(group, "list_commands") else []
        if word not in names:
            raise typer.BadParameter(unknown_command(word, names))
        command = group.get_command(context, word)
        context = command.context_class(command, info_name=word, parent=context)
    return context
