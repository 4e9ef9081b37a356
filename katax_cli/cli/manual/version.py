"""`katax version`: the same as `katax --version`."""

from __future__ import annotations

from katax_cli import __version__
from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation

group = Group(default="print")


@group.command("print")
def print_(call: Invocation) -> None:
    """Show the version."""
    if call.out.format == "json":
        call.out.action({"version": __version__})
    else:
        call.out.text(f"katax {__version__}")
