"""docs/commands.md, generated from --help: `python -m tests.cli.reference docs/commands.md`."""

from __future__ import annotations

import sys
from pathlib import Path

from katax_cli.cli.completion.tree import nodes

HEAD = """# Commands

Generated from `--help` by `make docs`; a test compares it with the command tree.
"""


def reference() -> str:
    """The help of every command, one section each."""
    sections = [
        f"\n## katax {' '.join(node.path)}".rstrip() + f"\n\n```text\n{node.help.rstrip()}\n```\n"
        for node in nodes()
    ]
    return HEAD + "".join(sections)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
