"""The examples of docs/api/ and docs/guides/types.md as programs: `python -m tests.reference DIR` writes them there."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
AWAITED = "aio"
"""The page whose examples stand inside a coroutine."""


def pages() -> Iterator[Path]:
    """The pages with examples that are run."""
    yield from sorted((DOCS / "api").glob("*.md"))
    yield DOCS / "guides" / "types.md"


def blocks(page: Path) -> list[str]:
    """The examples of a page, which run one after the other in one namespace."""
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


def names(page: Path) -> set[str]:
    """What a page describes, by its path: from its docstring, or under a heading of its own."""
    return set(re.findall(r"^(?:::: |## )(katax_cli[\w.]*)$", page.read_text(), re.MULTILINE))


def program(page: Path) -> str:
    """A page's examples as one module."""
    code = "\n".join(blocks(page))
    return f"async def main() -> None:\n{textwrap.indent(code, '    ')}" if page.stem == AWAITED else code


if __name__ == "__main__":
    for page in pages():
        (Path(sys.argv[1]) / f"reference_{page.stem}.py").write_text(program(page))
