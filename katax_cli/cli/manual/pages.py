"""Manual pages from the command tree: katax(1), and a page for each group as git has them (katax-db(1))."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from katax_cli import __version__
from katax_cli.cli.completion.tree import Node, nodes
from katax_cli.cli.manual.help import context_of
from katax_cli.cli.shell.exits import MEANINGS
from katax_cli.cli.shell.options import shared_options


def pages() -> dict[str, str]:
    """File name → text, in the language of man."""
    tree = list(nodes())
    groups = [node for node in tree if len(node.path) == 1]
    made = {"katax.1": _page_of_katax(tree[0], groups)}
    for group in groups:
        commands = [node for node in tree if len(node.path) > 1 and node.path[0] == group.path[0]]
        made[f"katax-{group.path[0]}.1"] = _page_of_group(group, commands)
    return made


def _page_of_katax(root: Node, groups: list[Node]) -> str:
    name = "operate the data services behind an application"
    return "".join(
        (
            _head("katax", name),
            _synopsis(("katax",)),
            _section(
                "DESCRIPTION", _paragraphs(root.help.partition("\n\n")[2].partition("\n\nDatabases:")[0])
            ),
            _section("COMMANDS", _terms((f"katax-{node.path[0]}(1)", node.summary) for node in groups)),
            _section("OPTIONS", _terms(_shared())),
            _section("EXIT STATUS", _terms((str(code.value), text) for code, text in MEANINGS.items())),
        )
    )


def _page_of_group(group: Node, commands: list[Node]) -> str:
    title = f"katax-{group.path[0]}"
    sections = "".join(
        f".SS {_escaped(' '.join(('katax', *node.path)))}\n{_preformatted(node.help)}" for node in commands
    )
    return "".join(
        (
            _head(title, group.summary[:1].lower() + group.summary[1:].rstrip(".")),
            _synopsis(("katax", *group.path)),
            _section("COMMANDS", sections),
            _section("SEE ALSO", ".BR katax (1)\n"),
        )
    )


def _head(title: str, name: str) -> str:
    heading = f'.TH {title.upper()} 1 "" "katax {__version__}" "katax manual"\n'
    return f"{heading}.SH NAME\n{_escaped(title)} \\- {_escaped(name)}\n"


def _synopsis(words: tuple[str, ...]) -> str:
    return _section("SYNOPSIS", f".B {_escaped(' '.join(words))}\n[options] command [arguments]\n")


def _section(title: str, body: str) -> str:
    return f".SH {title}\n{body}"


def _paragraphs(text: str) -> str:
    return ".PP\n".join(_escaped(" ".join(part.split())) + "\n" for part in text.split("\n\n"))


def _preformatted(text: str) -> str:
    lines = [_escaped(line.rstrip()) for line in text.strip("\n").splitlines()]
    return ".nf\n" + "\n".join(line or ".sp" for line in lines) + "\n.fi\n"


def _terms(rows: Iterator[tuple[str, str]]) -> str:
    return "".join(f".TP\n.B {_escaped(term)}\n{_escaped(text)}\n" for term, text in rows)


def _shared() -> Iterator[tuple[str, str]]:
    context = context_of(())
    for option in shared_options():
        record = option.get_help_record(context)
        if record is not None:
            yield record


def _escaped(text: str) -> str:
    """Text as man shows it again: no line is a request, and hyphens can be searched and copied."""
    shown = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    plain = "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in shown)
    return f"\\&{plain}" if plain.startswith(".") else plain


def write_all(folder: str) -> None:
    """Writes every page into `folder`."""
    os.makedirs(folder, exist_ok=True)
    for name, text in pages().items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    write_all(sys.argv[1])
