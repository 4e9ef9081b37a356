"""Tables, records and Markdown of cells that are text already; widths are those that a terminal shows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Literal, NamedTuple, TypeVar

from katax_cli.cli.display.widths import cell_width, shortened, wrapped

T = TypeVar("T")
Cells = Sequence[str]
Expanded = Literal["auto", "on", "off"]
BOLD, RESET = "\x1b[1m", "\x1b[0m"

_INDENT = "  "
_KEPT, _LEAST = 20, 10
"""A column this wide is shortened only where it must be; one shorter than the other says too little."""


class Look(NamedTuple):
    """How cells are laid out. `width`: columns of the terminal that they have to fit, None where none reads them."""

    header: bool = True
    bold: bool = False
    right: tuple[bool, ...] = ()
    whole: tuple[bool, ...] = ()
    """The columns that say nothing when they are shortened: times."""
    shades: tuple[Mapping[str, str], ...] = ()
    width: int | None = None
    expanded: Expanded = "auto"
    below: int | None = None
    """The column of sentences: where the table is too wide they stand whole below their rows."""

    @property
    def rigid(self) -> tuple[bool, ...]:
        """The columns that are never shortened."""
        whole = self.whole or (False,) * len(self.right)
        return tuple(right or each for right, each in zip(self.right, whole, strict=True))


def table(labels: Cells, head: Sequence[Cells], rest: Iterable[Sequence[Cells]], look: Look) -> Iterator[str]:
    """Lines of a table that is measured on `head`; where it cannot fit, its rows upright."""
    natural = _natural(labels if look.header else [""] * len(labels), head)
    if look.width is None:
        layout = _Layout(natural, look)
    else:
        is_wide = look.expanded == "auto" and not _fits(natural, look.width)
        below = look.below if is_wide else None
        widths = fitted(_without(below, natural), _without(below, look.rigid), look.width, look.expanded)
        if widths is None:
            yield from records(labels, chain([head], rest), look)
            return
        layout = (
            _Layout(widths, look)
            if below is None
            else _LayoutWithSentences(widths, look, below, labels[below])
        )
    if look.header and any(labels):
        yield from layout.heading(labels)
    for batch in chain([head], rest):
        yield "".join(map(layout.line, batch))


def records(labels: Cells, batches: Iterable[Sequence[Cells]], look: Look) -> Iterator[str]:
    """Rows upright, one line for each column, numbered from 1."""
    size = max(map(cell_width, labels), default=0)
    number = 0
    for batch in batches:
        lines: list[str] = []
        for cells in batch:
            number += 1
            if look.header:
                title = f"-[ {number} ]".ljust(size + 2, "-")
                lines.append(f"{BOLD}{title}{RESET}" if look.bold else title)
            for at, (label, cell) in enumerate(zip(labels, cells, strict=True)):
                shade = look.shades[at] if look.shades else {}
                lines.append(f"{_padded(label, size)}  {_shaded(cell, shade)}".rstrip())
        yield "".join(f"{line}\n" for line in lines)


def markdown(labels: Cells, batches: Iterable[Sequence[Cells]], look: Look) -> Iterator[str]:
    """A table as GitHub reads it."""
    yield _piped(labels)
    yield _piped(["---:" if right else "---" for right in look.right])
    for batch in batches:
        yield "".join(map(_piped, batch))


def _piped(cells: Cells) -> str:
    escaped = [re.sub(r"[\\|`*<\[]", r"\\\g<0>", cell) for cell in cells]
    return f"| {' | '.join(escaped)} |\n"


def fitted(
    natural: Sequence[int], rigid: Sequence[bool], limit: int, expanded: Expanded = "auto"
) -> tuple[int, ...] | None:
    """The widths of columns in `limit` cells, two between each; None when the rows should stand upright.

    Rigid columns are never shortened, and short ones last.
    """
    if expanded == "on":
        return None
    room = limit - 2 * (len(natural) - 1)
    if _fits(natural, limit):
        return tuple(natural)
    for least in (_KEPT, _LEAST, 3, 1) if expanded == "off" else (_KEPT, _LEAST):
        soft = [at for at, size in enumerate(natural) if size > least and not rigid[at]]
        left = room - sum(size for at, size in enumerate(natural) if at not in soft)
        if soft and left >= least * len(soft):
            shares = dict(zip(soft, _shares([natural[at] for at in soft], left), strict=True))
            return tuple(shares.get(at, size) for at, size in enumerate(natural))
    return None if expanded == "auto" else tuple(min(size, _LEAST) for size in natural)


def _fits(natural: Sequence[int], limit: int) -> bool:
    return sum(natural) + 2 * (len(natural) - 1) <= limit


def _shares(wanted: Sequence[int], room: int) -> list[int]:
    """`room` divided so that no one is cut who wants less than the others get."""
    shares = [0] * len(wanted)
    for left, at in zip(
        range(len(wanted), 0, -1), sorted(range(len(wanted)), key=wanted.__getitem__), strict=True
    ):
        shares[at] = min(wanted[at], room // left)
        room -= shares[at]
    return shares


def _natural(labels: Cells, head: Sequence[Cells]) -> tuple[int, ...]:
    columns = list(zip(*head, strict=False)) if head else [()] * len(labels)
    return tuple(
        max([cell_width(label), *map(cell_width, cells)])
        for label, cells in zip(labels, columns, strict=True)
    )


class _Layout:
    """Lines of a table; cells that are longer than measured push their own line, and on a terminal are shortened."""

    def __init__(self, widths: Sequence[int], look: Look) -> None:
        self._widths = widths
        self._look = look

    def line(self, cells: Cells) -> str:
        return self._columns(cells)

    def heading(self, labels: Cells) -> Iterator[str]:
        line = self._columns(labels)
        yield f"{BOLD}{line[:-1]}{RESET}\n" if self._look.bold else line
        yield "  ".join("-" * size for size in self._widths).rstrip() + "\n"

    def _columns(self, cells: Cells) -> str:
        if self._look.width is not None:
            cells = self._cut(cells, self._look.width)
        padded = [
            _padded(cell, size, right=right)
            for cell, size, right in zip(cells, self._widths, self._look.right, strict=True)
        ]
        if self._look.shades:
            padded = list(map(_shaded, padded, self._look.shades))
        return "  ".join(padded).rstrip() + "\n"

    def _cut(self, cells: Cells, limit: int) -> Cells:
        """Cells that are longer than measured: whole where their line still fits, else texts cut before numbers."""
        if _fits([max(cell_width(c), width) for c, width in zip(cells, self._widths, strict=True)], limit):
            return cells
        columns = list(zip(cells, self._widths, self._look.rigid, strict=True))
        texts_cut = [cell if is_rigid else shortened(cell, width) for cell, width, is_rigid in columns]
        if _fits(
            [max(cell_width(c), width) for c, width in zip(texts_cut, self._widths, strict=True)], limit
        ):
            return texts_cut
        return [shortened(cell, width) for cell, width, _ in columns]


class _LayoutWithSentences(_Layout):
    """The texts of the column at `at` stand last in their lines where they fit, else whole below them."""

    def __init__(self, widths: Sequence[int], look: Look, at: int, label: str) -> None:
        self._limit = look.width or 0
        self._at = at
        room = self._limit - sum(widths) - 2 * len(widths)
        self._room = room if room >= cell_width(label) else 0
        super().__init__(
            [*widths, self._room],
            look._replace(
                right=(*_without(at, look.right), False),
                whole=(*_without(at, look.whole), False) if look.whole else (),
                shades=(*_without(at, look.shades), {}) if look.shades else (),
            ),
        )

    def line(self, cells: Cells) -> str:
        text, others = cells[self._at], _without(self._at, cells)
        if cell_width(text) <= self._room:
            return self._columns([*others, text])
        sentence = wrapped(f"{_INDENT}{text}", self._limit, _INDENT)
        return self._columns([*others, ""]) + "".join(f"{part}\n" for part in sentence)

    def heading(self, labels: Cells) -> Iterator[str]:
        return super().heading([*_without(self._at, labels), labels[self._at] if self._room else ""])


def _without(at: int | None, values: Sequence[T]) -> Sequence[T]:
    """All values but the one at `at`; None, or no values: as they are."""
    return values if at is None or not values else [*values[:at], *values[at + 1 :]]


def _padded(cell: str, size: int, *, right: bool = False) -> str:
    space = " " * (size - cell_width(cell))
    return space + cell if right else cell + space


def _shaded(padded: str, shade: Mapping[str, str]) -> str:
    cell = padded.strip()
    return padded.replace(cell, f"{shade[cell]}{cell}{RESET}") if cell in shade else padded
