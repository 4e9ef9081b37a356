"""One table that a profile is made of, and where its keys stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Path = tuple[str, ...]


class Layer:
    """A table that a profile is made of, and where it is written.

    `file` is None for what katax makes up itself; `prefix` is where the table stands in the file.
    """

    # A plain class: the text may hold secrets and has no business in a repr.
    __slots__ = ("file", "prefix", "table", "text")

    def __init__(
        self, table: Mapping[str, Any], file: str | None = None, text: str = "", prefix: Path = ()
    ) -> None:
        self.table = table
        self.file = file
        self.text = text
        self.prefix = prefix

    def line(self, path: Path) -> int | None:
        """The line of a key, or of the nearest table or key around it."""
        from katax_cli.profiles.model.lines import line_of

        return line_of(self.text, self.prefix + path) if self.file else None

    def part(self, path: Path, table: Mapping[str, Any]) -> Layer:
        return Layer(table, self.file, self.text, self.prefix + path)


def dotted(path: Sequence[str]) -> str:
    """A key path as TOML writes it."""
    return ".".join(
        part if part.replace("-", "").replace("_", "").isalnum() else f'"{part}"' for part in path
    )


class FromEnvironment(str):
    """A string that a variable went into: it may be a number, and it is never quoted in a message."""

    __slots__ = ()


class Unset:
    """Stands where a variable was missing; the missing variable is the only problem reported for it."""


UNSET = Unset()
