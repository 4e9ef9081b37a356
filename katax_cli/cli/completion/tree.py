"""The whole command tree as values, for completions and for the command reference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from katax_cli.cli import app


@dataclass(frozen=True, slots=True)
class Node:
    """A group or a command: its words, what it is for, its options with their help, and what may follow."""

    path: tuple[str, ...]
    summary: str
    options: tuple[tuple[str, str], ...]
    children: tuple[tuple[str, str], ...]
    help: str


def nodes() -> Iterator[Node]:
    """Every node, parents first. Imports all command modules, no driver."""
    root = app.root()
    context = root.make_context("katax", ["--help-is-not-asked"], resilient_parsing=True)
    yield from _walk(root, context, (), "")


def _walk(command: Any, context: Any, path: tuple[str, ...], summary: str) -> Iterator[Node]:
    names = [name for name in _names(command, context) if not command.get_command(context, name).hidden]
    found = [(name, command.get_command(context, name)) for name in names]
    children = tuple((name, _summary(child)) for name, child in found)
    yield Node(path, summary, tuple(_options(command, context)), children, command.get_help(context))
    for name, child in found:
        inner = child.context_class(child, info_name=name, parent=context)
        yield from _walk(child, inner, (*path, name), _summary(child))


def _names(command: Any, context: Any) -> list[str]:
    return command.list_commands(context) if hasattr(command, "list_commands") else []


def _summary(command: Any) -> str:
    return (command.help or "").strip().partition("\n")[0]


def _options(command: Any, context: Any) -> Iterator[tuple[str, str]]:
    for param in command.get_params(context):
        if param.param_type_name == "option":
            for word in (*param.opts, *param.secondary_opts):
                yield word, param.help or ""
