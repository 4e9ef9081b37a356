"""`katax options`: what every command's help folds into one line."""

from __future__ import annotations

from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation

group = Group(default="list")


@group.command("list")
def list_(call: Invocation) -> None:
    """Explain the options that every command shares.

    They stand before the first word of a command or after the last one.
    """
    from katax_cli.cli.manual.help import context_of
    from katax_cli.cli.shell.help import write_records
    from katax_cli.cli.shell.options import shared_options

    context = context_of(())
    formatter = context.make_formatter()
    write_records(formatter, "Shared options", context, shared_options())
    call.out.text(formatter.getvalue().strip("\n"))
