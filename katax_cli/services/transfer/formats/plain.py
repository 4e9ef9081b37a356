"""CSV in which every line is a row of bare cells, read a column at a time: no object for each row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from katax_cli.engines.transfers import NULL_CELL, column_in_utc, in_utc
from katax_cli.services.transfer.formats.writers import CsvForm

Bind = Callable[[Any], Any] | None
_PIECE = 2**18
"""Bytes that are taken apart at once."""


def plain_cells(data: bytes, binds: Sequence[Bind], form: CsvForm) -> tuple[int, Iterator[list[str]]] | None:
    """How many rows there are, and their cells one after the other in pieces of whole rows, with NULL_CELL for NULL.

    None for what takes the csv module: quotes, line ends within cells, lines with more or fewer cells than `binds`,
    other tokens of NULL, bytes that are no UTF-8. `binds` make the texts of their columns.
    """
    width, delimiter = len(binds), form.delimiter.encode()
    if width < 2 or form.null or any(mark in data for mark in (b'"', b"\r", b"\0")):
        return None
    line = delimiter * (width - 1) + b"\n"
    marks = data.translate(None, bytes(set(range(256)) - set(line)))
    if not marks.endswith(b"\n"):
        marks += b"\n"
    rows = len(marks) // len(line)
    if marks != line * rows:
        return None
    try:
        text = data.decode().removesuffix("\n")
    except UnicodeDecodeError:
        return None
    return rows, _pieces(text, binds, form.delimiter)


def _pieces(text: str, binds: Sequence[Bind], delimiter: str) -> Iterator[list[str]]:
    at = 0
    while at < len(text):
        end = text.find("\n", at + _PIECE)
        end = len(text) if end < 0 else end
        cells = text[at:end].replace("\n", delimiter).split(delimiter)
        if "" in cells:
            cells = [cell or NULL_CELL for cell in cells]
        for column, bind in enumerate(binds):
            if bind is not None:
                values = cells[column :: len(binds)]
                cells[column :: len(binds)] = column_in_utc(values) if bind is in_utc else map(bind, values)
        yield cells
        at = end + 1
