"""The layout of `--help`: arguments as the field writes them, examples, the shared options as one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

SHARED_LINE = "Shared options (-p, -c, -f, -o, --timeout, ...): see 'katax options', --help -v"
HELP_NAMES = {"help_option_names": ["-h", "--help"]}
_EXAMPLES = "examples.txt"
_PLACEHOLDERS = {"str": "TEXT", "text": "TEXT", "int": "N", "int range": "N", "float": "N"}
_VERBOSE = "katax.verbose"


def remember_verbose(ctx: Any, words: Iterable[str]) -> None:
    """Notes whether the words ask for more detail: help is written before they are parsed."""
    if {"-v", "--verbose"} & set(words):
        ctx.meta[_VERBOSE] = True


def is_help(words: list[str]) -> bool:
    """True when help is asked for before any command is named."""
    before = words[: next((at for at, word in enumerate(words) if not word.startswith("-")), len(words))]
    return bool({"-h", "--help"} & set(before))


def name_values(params: Iterable[Any]) -> None:
    """Gives arguments and values the names that usage lines have elsewhere: `KEY VALUE`, `--port N`."""
    for param in params:
        if param.metavar is not None:
            continue
        if param.param_type_name == "argument":
            several = param.nargs != 1
            param.metavar = f"{param.name.upper().removesuffix('S')}..." if several else param.name.upper()
        elif not param.is_flag:
            param.metavar = _PLACEHOLDERS.get(param.type.name)


def usage_pieces(pieces: Iterable[str]) -> list[str]:
    """A usage line without Typer's braces around what must be given."""
    return [piece[1:-1] if piece.startswith("{") else piece for piece in pieces]


def write_records(formatter: Any, title: str, ctx: Any, params: Iterable[Any]) -> None:
    """A section with a row for each parameter."""
    records = [record for p in params if (record := p.get_help_record(ctx)) is not None]
    if records:
        with formatter.section(title):
            formatter.write_dl([(name, text.removesuffix("[required]").rstrip()) for name, text in records])


def write_shared(formatter: Any, ctx: Any, shared: Callable[[], Iterable[Any]]) -> None:
    """The shared options: one line, or each of them when more detail was asked for."""
    if ctx.meta.get(_VERBOSE):
        write_records(formatter, "Shared options", ctx, shared())
    else:
        formatter.write(f"\n{SHARED_LINE}\n")


def write_examples(formatter: Any, body: Callable[..., Any], name: str) -> None:
    """The examples of a command, as its group's `examples.txt` has them; lines are never wrapped."""
    lines = examples(body).get(name, ())
    if lines:
        formatter.write("\nExamples:\n" + "".join(f"  {line}\n" for line in lines))


def examples(body: Callable[..., Any]) -> dict[str, list[str]]:
    """Command → its examples, of the group that a function belongs to."""
    file = sys.modules[body.__module__].__file__
    try:
        with open(os.path.join(os.path.dirname(file or ""), _EXAMPLES), encoding="utf-8") as text:
            return parse_examples(text.read())
    except FileNotFoundError:
        return {}


def parse_examples(text: str) -> dict[str, list[str]]:
    """`[command]` starts the examples of a command, one on each line."""
    commands: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in filter(None, text.splitlines()):
        if line.startswith("["):
            lines = commands.setdefault(line.strip("[]"), [])
        else:
            lines.append(line)
    return commands
