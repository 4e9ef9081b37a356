"""Tables that fit: columns, rows, and which of them are shown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

from katax_cli.tui.glyphs import FADED

_WEIGHTS = ("bold", FADED)
GAP = 2
"""Cells between two columns."""


class Column(NamedTuple):
    """`rank`: the higher, the sooner it gives way where there is little room; 0 stays.

    `width`: at least so many cells. `grows`: at most one of a table, for the text that may be long.
    """

    label: str
    rank: int = 0
    width: int = 1
    grows: bool = False


class TableRow(NamedTuple):
    """`subject`: the name that an action is for, empty for none. `key` is the row's own, however it changes.

    `options` are those that a command on the row needs besides its name.
    """

    key: str
    subject: str
    cells: tuple[Text, ...]
    options: tuple[str, ...] = ()


class PanelContent(NamedTuple):
    """`note`: how old it is and why, for the title. `stale`: it is not what is true now. `empty`: instead of rows."""

    rows: tuple[TableRow, ...]
    note: str = ""
    stale: bool = False
    empty: str = ""


def faded(cells: Iterable[Text]) -> tuple[Text, ...]:
    """The same without colours: what is not known to be true now."""
    return tuple(_styled(cell, FADED) for cell in cells)


def colourless(row: TableRow) -> TableRow:
    """The same row with weights only: colours turned to grey are hard to read."""
    cells = (_styled(cell, cell.style if cell.style in _WEIGHTS else "") for cell in row.cells)
    return row._replace(cells=tuple(cells))


def _styled(cell: Text, style: str | Style) -> Text:
    return Text(cell.plain, style, justify=cell.justify, overflow=cell.overflow, no_wrap=cell.no_wrap)


def alike(cell: Text, other: Text) -> bool:
    """True when both look the same: Rich calls texts equal whose styles differ."""
    return cell == other and cell.style == other.style


def found(rows: Sequence[TableRow], words: str) -> tuple[TableRow, ...]:
    """The rows in which each of the words is somewhere, upper or lower case."""
    wanted = words.lower().split()
    if not wanted:
        return tuple(rows)
    texts = (" ".join(cell.plain for cell in row.cells).lower() for row in rows)
    return tuple(row for row, text in zip(rows, texts, strict=True) if all(word in text for word in wanted))


def fitted(columns: Sequence[Column], rows: Sequence[TableRow], width: int) -> tuple[tuple[int, int], ...]:
    """The columns that are shown and their widths: as many as fit, the highest rank gives way first.

    The one that grows may be cut down to its own width, and gets what is left over. No name takes more than half.
    """
    wide = {
        at: column.width if column.grows else _wide(column, [row.cells[at] for row in rows], width)
        for at, column in enumerate(columns)
    }
    shown = list(wide)
    while len(shown) > 1 and _total(wide, shown) > width:
        shown.remove(max(shown, key=lambda at: (columns[at].rank, at)))
    left = width - _total(wide, shown)
    return tuple((at, max(1, wide[at] + left) if columns[at].grows else wide[at]) for at in shown)


def spans(count: int, columns: int) -> list[int]:
    """The number of grid columns of each of `count` panels: the last one fills its line."""
    return [1] * (count - 1) + [columns - (count - 1) % columns] if count else []


def _wide(column: Column, cells: Sequence[Text], width: int) -> int:
    least = max(column.width, len(column.label))
    # Most of a column are the same few texts.
    return max(least, min(width // 2, max(map(cell_len, {cell.plain for cell in cells}), default=0)))


def _total(wide: Mapping[int, int], shown: Sequence[int]) -> int:
    return sum(wide[at] + GAP for at in shown) - GAP
