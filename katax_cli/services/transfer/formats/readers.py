"""Rows out of chunks of CSV and JSON lines: cells as texts, NULL as None; what is no row is told with its line."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any
from uuid import uuid4

from katax_cli.core.text.nesting import check_nesting
from katax_cli.core.text.text import plain
from katax_cli.services.transfer.formats.chunks import Chunk
from katax_cli.services.transfer.formats.writers import CsvForm

Reject = Callable[[int, str, str], object]
"""Told the line of what is no row, the reason, and the text."""
Numbered = tuple[int, list[Any]]
AsText = Callable[[Any, str], Any] | None
"""Makes the text of a column of a value and of its own JSON; None where the usual one will do."""

_QUOTED_NULL = f"\ue000{uuid4().hex}"
"""Stands for a cell that is NULL's token in quotes while the csv module, which forgets quotes, reads the row."""
_UNDECODED = re.compile("[\udc80-\udcff]")


def csv_rows(chunk: Chunk, columns: int, form: CsvForm, reject: Reject) -> Iterator[Numbered]:
    """Rows of a chunk of CSV with their line."""
    csv.field_size_limit(2**31 - 1)
    text = chunk.data.decode("utf-8", "surrogateescape")
    undecoded = _UNDECODED.search(text) is not None
    if not undecoded and '"' not in text and "\r" not in text:
        yield from _unquoted_rows(text, chunk.line, columns, form, reject)
        return
    text = _marked(text, form)
    lines = _RowLines(text)
    reader = csv.reader(lines, delimiter=form.delimiter, strict=True)
    null, line = form.null, chunk.line
    while True:
        lines.begin()
        try:
            cells: list[Any] = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reject(line, f"is no CSV: {why_no_csv(error)}", lines.seen(form.null))
        else:
            if undecoded and _UNDECODED.search(lines.seen("")):
                reject(line, "holds bytes that are not of the file's encoding", lines.seen(form.null))
            elif len(cells) == columns or (columns == 1 and not cells):
                cells = cells or [""]
                if null in cells or _QUOTED_NULL in cells:
                    cells = [None if c == null else null if c == _QUOTED_NULL else c for c in cells]
                yield line, cells
            elif cells:
                reject(line, f"has {len(cells)} cells, expected {columns}", lines.seen(form.null))
        line = chunk.line + reader.line_num


def _unquoted_rows(text: str, first: int, columns: int, form: CsvForm, reject: Reject) -> Iterator[Numbered]:
    """The same for a text in which every line is a row: several times as fast as the csv module, line by line."""
    null, delimiter = form.null, form.delimiter
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    for line, row in enumerate(lines, first):
        cells: list[Any] = row.split(delimiter)
        if len(cells) == columns:
            if null in cells:
                cells = [None if cell == null else cell for cell in cells]
            yield line, cells
        elif row:
            reject(line, f"has {len(cells)} cells, expected {columns}", row)


class _RowLines:
    """Lines for the csv module, those of the current row kept."""

    def __init__(self, text: str) -> None:
        # Only the line feed ends a line; str.splitlines knows ten more.
        self._lines = io.StringIO(text, newline="\n")
        self._row: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._row.append(line)
        return line

    def begin(self) -> None:
        self._row.clear()

    def seen(self, null: str) -> str:
        """The text of the row as it was before its quoted cells were marked."""
        return "".join(self._row).rstrip("\r\n").replace(_QUOTED_NULL, f'"{null}"')


def _marked(text: str, form: CsvForm) -> str:
    """The text with cells in quotes that say NULL's token marked: those are no NULL."""
    wanted = '"' + form.null.replace('"', '""') + '"'
    if wanted not in text:
        return text
    within = rf"[^{re.escape(form.delimiter)}\r\n]"
    in_quotes = rf'(?<!{within})"(?:[^"]|"")*"(?!{within})'
    return re.sub(in_quotes, lambda found: _QUOTED_NULL if found[0] == wanted else found[0], text)


def why_no_csv(error: csv.Error) -> str:
    """The reason, in words that are not about Python's way to open files."""
    reason = str(error)
    return "a carriage return alone ends no line" if reason.startswith("new-line character") else reason


def csv_header(data: bytes, form: CsvForm) -> list[str]:
    """The cells of a first line. Raises csv.Error."""
    csv.field_size_limit(2**31 - 1)
    return next(csv.reader([data.decode("utf-8", "replace")], delimiter=form.delimiter), [])


def json_rows(
    chunk: Chunk, columns: Sequence[str], as_texts: Sequence[AsText], reject: Reject
) -> Iterator[Numbered]:
    """Rows of a chunk of JSON lines. `as_texts` makes a column's text of a value and its own JSON; a field that is left
    out is NULL."""
    known = frozenset(columns)
    for number, data in enumerate(chunk.data.split(b"\n"), chunk.line):
        if not data.strip():
            continue
        try:
            text = data.decode()
            values = parsed_object(text)
        except ValueError as error:
            reject(number, f"is no JSON object: {error}", data.decode("utf-8", "replace"))
            continue
        unknown = next((name for name in values if name not in known), None)
        if unknown is not None:
            reject(number, f"has the field {unknown!r}, which is no column", text)
            continue
        yield (
            number,
            [_json_cell(values.get(name), make) for name, make in zip(columns, as_texts, strict=True)],
        )


def _json_cell(found: tuple[Any, str] | None, make: AsText) -> Any:
    if found is None or found[0] is None:
        return None
    value, raw = found
    if make is not None:
        return make(value, raw)
    if isinstance(value, str):
        return value
    return json_text(value, raw)


def json_text(value: Any, raw: str) -> str:
    """A value as a text for a column: numbers with the digits that they have, structures as their JSON."""
    if isinstance(value, bool):
        return "t" if value else "f"
    return raw


_DECODER = json.JSONDecoder(parse_float=Decimal)
_SPACE = re.compile(r"[ \t\r\n]*")


def parsed_object(text: str) -> dict[str, tuple[Any, str]]:
    """The fields of a JSON object, each with its value and its own text. Raises ValueError for anything else."""
    check_nesting(text)
    at = _after_space(text, 0)
    if text[at : at + 1] != "{":
        raise ValueError("expected an object")
    fields: dict[str, tuple[Any, str]] = {}
    at = _after_space(text, at + 1)
    while text[at : at + 1] != "}":
        if fields:
            at = _after(text, at, ",")
        name, at = _DECODER.raw_decode(text, at)
        if not isinstance(name, str):
            raise ValueError(f"expected the name of a field at character {at}")
        if name in fields:
            raise ValueError(f"has the field {name!r} twice")
        start = _after(text, _after_space(text, at), ":")
        value, end = _DECODER.raw_decode(text, start)
        fields[name] = (value, text[start:end])
        at = _after_space(text, end)
    if _after_space(text, at + 1) != len(text):
        raise ValueError(f"more after the object at character {at + 1}")
    return fields


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()


def _after(text: str, at: int, sign: str) -> int:
    if text[at : at + 1] != sign:
        raise ValueError(f"expected {sign!r} at character {at}")
    return _after_space(text, at + 1)


def array_literal(value: Any) -> str:
    """A list as PostgreSQL writes an array."""
    return (
        "{" + ",".join(array_literal(one) if isinstance(one, list) else _element(one) for one in value) + "}"
    )


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "t" if value else "f"
    text = plain(value)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
