"""Texts by the columns that they take on a terminal: measured, shortened, wrapped."""

from __future__ import annotations

from collections.abc import Iterator


def cell_width(text: str) -> int:
    """Columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def shortened(text: str, size: int) -> str:
    """`text` in at most `size` columns, with `…` where its end is missing."""
    if cell_width(text) <= size:
        return text
    if text.isascii():
        return f"{text[: size - 1]}…"
    from rich.cells import set_cell_size

    return f"{set_cell_size(text, size - 1).rstrip()}…"


def wrapped(text: str, size: int, indent: str = "") -> Iterator[str]:
    """The lines of `text` in `size` columns, broken at blanks; those after the first begin with `indent`.

    A word that is longer than a line stays whole: it is a path or a URL, which people copy.
    """
    margin = len(text) - len(text.lstrip(" "))
    line, width = text[:margin], margin
    is_empty = True
    for word in text[margin:].split(" "):
        more = cell_width(word)
        if not is_empty and width + 1 + more > size:
            yield line.rstrip(" ")
            line, width, is_empty = indent, len(indent), True
        line += word if is_empty else f" {word}"
        width += more if is_empty else more + 1
        is_empty = False
    yield line
