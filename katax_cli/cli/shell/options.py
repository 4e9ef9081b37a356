"""The options that every command shares: declared once, merged from both places, frozen into one value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple, TextIO, TypeVar

import typer
from typer.core import TyperOption

from katax_cli.cli.shell.output import FORMATS

T = TypeVar("T")


class Streams(NamedTuple):
    """The streams of a command: stdin and stdout are bytes, stderr is text."""

    stdin: BinaryIO
    stdout: BinaryIO
    stderr: TextIO
    interactive: bool
    """True when a person can be asked: stdin and stderr are terminals."""
    color: bool
    width: int | None
    """Columns of the terminal that stdout is, None when it is none."""
    height: int | None = None
    """Its lines."""
    stderr_width: int | None = None
    """Columns of the terminal that stderr is, None when it is none."""


class Shared(NamedTuple):
    """The values of the shared options. None, False or an empty tuple: not given."""

    profile: str | None = None
    connection: tuple[str, ...] = ()
    """What `-c` names, each a name or a glob."""
    format: str | None = None
    output: str | None = None
    timeout: float | None = None
    yes: bool = False
    confirm: str | None = None
    dry_run: bool = False
    quiet: bool = False
    verbose: bool = False
    debug: bool = False
    no_color: bool = False
    log_format: str | None = None
    log_level: str | None = None
    no_header: bool = False
    null: str | None = None
    columns: str | None = None
    all_columns: bool = False
    expanded: str | None = None
    no_pager: bool = False

    def merged(self, later: Mapping[str, Any]) -> Shared:
        """These options with those given after the subcommand; the later ones win."""
        given = {name: value for name, value in later.items() if value not in (None, False, ())}
        return self._replace(**given)


SHARED_NAMES: tuple[str, ...] = Shared._fields


def one_of(subject: str, values: tuple[str, ...]) -> Callable[[str], str]:
    """A check for an option with a few words; its error names them."""

    def check(value: str) -> str:
        if value not in values:
            raise typer.BadParameter(f"no {subject} named {value!r}; expected one of: {', '.join(values)}")
        return value

    return check


def duration(value: str) -> float:
    """Seconds from `250ms`, `30s`, `5m`, `2h`, `7d` or a plain number of seconds."""
    from katax_cli.core.text.duration import parse_duration

    try:
        return parse_duration(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def limit(value: str) -> float:
    """A duration that leaves time to do something."""
    seconds = duration(value)
    if seconds <= 0:
        raise typer.BadParameter(f"it is {value}, expected more than 0 seconds")
    return seconds


def lifetime(value: str | None) -> float | None:
    """Seconds from a duration or a name (short, medium, long, session, week); None for no lifetime."""
    if value is None:
        return None
    from katax_cli.services.cache.cache import TTL_NAMES

    seconds = TTL_NAMES.get(value) or duration(value)
    if seconds <= 0:
        raise typer.BadParameter(f"ttl is {value}, expected more than 0 seconds")
    return seconds


def _option(name: str, *declarations: str, help: str, **more: Any) -> TyperOption:
    """One shared option; `flag=True` takes no value."""
    check = more.pop("check", None)
    if more.pop("flag", False):
        more |= {"is_flag": True, "default": False}
    if check is not None:
        more["callback"] = lambda _ctx, _param, value: None if value is None else check(value)
    return TyperOption(param_decls=[name, *declarations], help=help, **more)


def shared_options() -> list[TyperOption]:
    """Fresh parser options for one command, in the order in which help shows them."""
    formats = "|".join(FORMATS)
    return [
        _option("profile", "-p", "--profile", metavar="NAME", help="Profile to use (KATAX_PROFILE)."),
        _option(
            "connection",
            "-c",
            "--connection",
            metavar="NAME|GLOB|URL",
            multiple=True,
            help="Connection of the profile, a URL, or env:NAME.",
        ),
        _option("format", "-f", "--format", metavar="FORMAT", help=f"Output format: {formats}."),
        _option("output", "-o", "--output", metavar="FILE", help="Write data to FILE instead of stdout."),
        _option("timeout", "--timeout", metavar="DURATION", check=limit, help="Deadline: 250ms, 30s, 5m."),
        _option("yes", "-y", "--yes", flag=True, help="Confirm without a question."),
        _option("confirm", "--confirm", metavar="PROFILE/CONNECTION", help="Confirm a change to production."),
        _option("dry_run", "--dry-run", flag=True, help="Show what would change, change nothing."),
        _option("quiet", "-q", "--quiet", flag=True, help="No notes and no progress on stderr."),
        _option("verbose", "-v", "--verbose", flag=True, help="More detail."),
        _option("debug", "--debug", flag=True, help="Show tracebacks and the debug log."),
        _option("no_color", "--no-color", flag=True, help="No colour (NO_COLOR)."),
        _option(
            "log_format",
            "--log-format",
            metavar="console|json",
            check=one_of("log format", ("console", "json")),
            help="Format of log lines on stderr.",
        ),
        _option(
            "log_level",
            "--log-level",
            metavar="LEVEL",
            check=one_of("log level", ("trace", "debug", "info", "warning", "error", "fatal")),
            help="Lowest level that is logged.",
        ),
        _option("no_header", "--no-header", flag=True, help="No header line in table, csv and tsv."),
        _option("null", "--null", metavar="TEXT", help="Text for NULL in table, csv and tsv."),
        _option("columns", "--columns", metavar="COL[,COL]...", help="Only these columns, in this order."),
        _option("all_columns", "--all-columns", flag=True, help="All columns on a terminal, too."),
        _option(
            "expanded",
            "--expanded",
            metavar="auto|on|off",
            check=one_of("mode", ("auto", "on", "off")),
            help="Rows upright on a terminal; auto: where a table does not fit.",
        ),
        _option("no_pager", "--no-pager", flag=True, help="Long output without $PAGER."),
    ]
