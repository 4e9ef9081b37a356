"""`katax` itself: the table of commands, and the one place where errors become lines and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO, TextIO

import typer
from typer.core import TyperOption

from katax_cli import __version__
from katax_cli.cli.shell.diagnostics import Diagnostics
from katax_cli.cli.shell.exits import MEANINGS, ExitCode
from katax_cli.cli.shell.group import Root
from katax_cli.cli.shell.options import Streams
from katax_cli.core.text.text import printable

COMMANDS: dict[str, tuple[str, str]] = {
    "health": ("katax_cli.cli.health.commands", "Check the health of the profile's servers."),
    "db": ("katax_cli.cli.db.commands", "Query, describe and operate databases."),
    "migrate": ("katax_cli.cli.migrate.commands", "Apply migrations exactly once, and show their state."),
    "seed": ("katax_cli.cli.seed.commands", "Fill a database with initial data, once for each change of it."),
    "cache": ("katax_cli.cli.cache.commands", "Read and write a Redis cache."),
    "session": ("katax_cli.cli.session.commands", "Store sessions of users on Redis."),
    "pubsub": ("katax_cli.cli.pubsub.commands", "Publish messages and subscribe to channels."),
    "record": (
        "katax_cli.cli.record.commands",
        "Store records of a resource on Redis, and publish their events.",
    ),
    "limit": ("katax_cli.cli.limit.commands", "Apply rate limits."),
    "lock": ("katax_cli.cli.lock.commands", "Run programs one at a time across machines, under a lock."),
    "cron": ("katax_cli.cli.cron.commands", "Run jobs on a schedule, with a record of every occurrence."),
    "ws": ("katax_cli.cli.ws.commands", "Socket.IO: serve, send, listen, list clients."),
    "dashboard": ("katax_cli.cli.dashboard.commands", "Show all services of a profile on one screen."),
    "circuit": (
        "katax_cli.cli.circuit.commands",
        "Trip a circuit: refuse calls to a connection; list open breakers.",
    ),
    "shutdown-test": (
        "katax_cli.cli.shutdown_drill.commands",
        "Stop a program, and check the servers for what it left behind.",
    ),
    "profile": ("katax_cli.cli.profile.commands", "Show, check and create connection profiles."),
    "completion": ("katax_cli.cli.completion.commands", "Print or install shell completions."),
    "local": (
        "katax_cli.cli.local.commands",
        "Show or stop the embedded servers of the built-in profile 'local'.",
    ),
    "help": ("katax_cli.cli.manual.help", "Show the help of a command."),
    "options": ("katax_cli.cli.manual.options", "Explain the options that every command shares."),
    "version": ("katax_cli.cli.manual.version", "Show the version."),
}
"""Group → its module and what help says about it; listing imports none of them."""

PANELS: dict[str, tuple[str, ...]] = {
    "Databases": ("db", "migrate", "seed"),
    "Redis": ("cache", "session", "pubsub", "record", "limit", "lock"),
    "Operations": ("health", "dashboard", "circuit", "cron", "ws", "shutdown-test"),
    "Setup and help": ("profile", "local", "completion", "help", "options", "version"),
}
"""Title → the groups that `katax --help` shows under it."""

# ClickException: Typer carries a click of its own and has no public name for it.
_CLICK_ERROR: type[Exception] = typer.BadParameter.__mro__[2]


class Terminated(SystemExit):
    """SIGTERM arrived. `arrived` also tells when sqlite3, which drops what a handler raises, made another of it.

    A SystemExit, which event loops let through: what else a handler raises in a callback of theirs, they log and drop.
    """

    arrived = False


def main(
    argv: Sequence[str] | None = None,
    stdin: BinaryIO | None = None,
    stdout: BinaryIO | None = None,
    stderr: TextIO | None = None,
) -> int:
    """Runs one command in this process and returns its exit code. Streams default to the process's own."""
    try:
        words = list(sys.argv[1:] if argv is None else argv)
        return _main(words, _streams(words, stdin, stdout, stderr))
    except (KeyboardInterrupt, Terminated):
        # While an error was told, or for the second time.
        return ExitCode.TERMINATED if Terminated.arrived else ExitCode.INTERRUPTED


def _main(words: list[str], streams: Streams) -> int:
    format = _format(words)
    diagnostics = Diagnostics(
        streams.stderr, json=format == "json", debug="--debug" in words, width=streams.stderr_width
    )
    try:
        code = _run(words, streams)
        streams.stdout.flush()
    except typer.Exit as stop:
        code = stop.exit_code
    except BrokenPipeError:
        code = ExitCode.DONE  # `katax … | head` took what it wanted
    except _CLICK_ERROR as error:
        code = _usage(error, diagnostics)
    except (KeyboardInterrupt, typer.Abort):
        code = ExitCode.TERMINATED if Terminated.arrived else ExitCode.INTERRUPTED
        diagnostics.end_line()
    except Terminated:
        code = ExitCode.TERMINATED
    except Exception as error:  # noqa: BLE001 - the boundary: whatever it is becomes one line and a code
        code = diagnostics.failure(error)
    if format == "nagios" and diagnostics.errors:
        code = _unknown(streams, diagnostics)
    _flush_or_drop(streams)
    return int(code)


def _run(words: list[str], streams: Streams) -> int:
    tree = root()
    with tree.make_context("katax", words, obj=streams) as context:
        return int(tree.invoke(context) or 0)


def root() -> Root:
    """The whole command tree; no group is imported yet."""
    return Root(
        COMMANDS, panels=PANELS, options=[_version_option()], name="katax", help=_HELP, epilog=_EXIT_CODES
    )


def _version_option() -> TyperOption:
    def show(ctx: Any, _param: Any, value: bool) -> None:
        if value:
            ctx.obj.stdout.write(f"katax {__version__}\n".encode())
            raise typer.Exit

    return TyperOption(
        param_decls=["version", "--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help="Show the version.",
    )


_HELP = """Operate the data services behind your application.

PostgreSQL, MySQL/MariaDB, MongoDB, Redis and SQLite, through named connection profiles.
With no configuration at all the built-in profile 'local' is used."""

_EXIT_CODES = "\b\nExit codes:\n" + "\n".join(f"  {code.value:>3}  {text}" for code, text in MEANINGS.items())


def _streams(
    words: list[str], stdin: BinaryIO | None, stdout: BinaryIO | None, stderr: TextIO | None
) -> Streams:
    out, err = stdout or sys.stdout.buffer, stderr or sys.stderr
    size = os.get_terminal_size(sys.stdout.fileno()) if stdout is None and sys.stdout.isatty() else None
    narrated = os.get_terminal_size(sys.stderr.fileno()) if stderr is None and sys.stderr.isatty() else None
    return Streams(
        stdin=stdin or sys.stdin.buffer,
        stdout=out,
        stderr=err,
        interactive=stdin is None and sys.stdin.isatty() and err.isatty(),
        color=size is not None and not os.environ.get("NO_COLOR") and "--no-color" not in words,
        width=size and (size.columns or 80),
        height=size and size.lines,
        stderr_width=narrated and (narrated.columns or 80),
    )


def _format(words: list[str]) -> str | None:
    """The output format that the words ask for; needed before, and even if, they can be parsed."""
    for word, value in zip(words, [*words[1:], ""], strict=False):
        if word in ("-f", "--format"):
            return value
        for prefix in ("--format=", "-f"):
            if word.startswith(prefix):
                return word.removeprefix(prefix)
    return None


def _unknown(streams: Streams, diagnostics: Diagnostics) -> int:
    """A check that could not be made is UNKNOWN (3) to Nagios, which reads the reason from stdout."""
    reason = printable("; ".join(diagnostics.errors)).replace("|", "/")
    streams.stdout.write(f"KATAX UNKNOWN - {reason}\n".encode())
    return 3


def _usage(error: Any, diagnostics: Diagnostics) -> ExitCode:
    context = getattr(error, "ctx", None)
    hint = f"; see '{context.command_path} --help'" if context is not None else ""
    message = error.format_message().removeprefix("Invalid value: ").rstrip(".")
    diagnostics.error(message[:1].lower() + message[1:] + hint, name="usage", exit_code=ExitCode.USAGE)
    return ExitCode.USAGE


def _flush_or_drop(streams: Streams) -> None:
    """Leaves nothing for the interpreter's own flush at exit, which would complain and change the exit code."""
    try:
        streams.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, streams.stdout.fileno())
        os.close(null)
