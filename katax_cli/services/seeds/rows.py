"""Rows out of `.json` and `.csv` files, checked before anything is written."""

from __future__ import annotations

import csv
import io
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from katax_cli.core.text.nesting import check_nesting
from katax_cli.errors import SeedError
from katax_cli.services.seeds.values import PlainCsv, SeedFile, SeedRows
from katax_cli.services.tables.bulk_load import has_stray_quotes

_KEYS = {"table", "key", "rows"}
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_LARGEST_CELL = 2**31 - 1
"""Bytes; Python's own limit of 128 KiB is met by texts and pictures that databases keep."""
_NO_MARKS = bytes(set(range(256)) - set(b',\n\r"\0'))


def parse_rows(file: SeedFile, decode: Callable[[str], Any]) -> SeedRows:
    """The rows of a data file; `decode` turns JSON into values. Raises SeedError that names the place."""
    if file.kind == "csv":
        return _csv_rows(file)
    return _json_rows(file, decode)


def _json_rows(file: SeedFile, decode: Callable[[str], Any]) -> SeedRows:
    try:
        check_nesting(file.text)
        rows = decode(file.text)
    except (ValueError, TypeError) as error:
        raise SeedError(f"seed {file.name} is no JSON: {error}") from error
    whole: Mapping[str, Any] = rows if isinstance(rows, Mapping) else {"rows": rows}
    unknown = sorted(set(whole) - _KEYS)
    if unknown or "rows" not in whole:
        seen = ", ".join(unknown) or "no rows"
        raise SeedError(
            f'seed {file.name} has {seen}; write a list of objects, or {{"table", "key", "rows"}}'
        )
    return SeedRows(_table(file, whole), _key(file, whole), _objects(file, whole["rows"]))


def _table(file: SeedFile, whole: Mapping[str, Any]) -> str:
    table = whole.get("table", file.table)
    if not isinstance(table, str) or not table:
        raise SeedError(f"seed {file.name}: table is {table!r}, expected a name")
    return table


def _key(file: SeedFile, whole: Mapping[str, Any]) -> tuple[str, ...]:
    key = whole.get("key", [])
    names = [key] if isinstance(key, str) else key
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SeedError(f"seed {file.name}: key is {key!r}, expected a list of column names")
    return tuple(names)


def _objects(file: SeedFile, rows: Any) -> list[dict[str, Any]]:
    if not isinstance(rows, list):
        raise SeedError(f"seed {file.name}: rows is {type(rows).__name__}, expected a list of objects")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise SeedError(f"seed {file.name}: row {number} is {type(row).__name__}, expected an object")
    return [dict(row) for row in rows]


def _csv_rows(file: SeedFile) -> SeedRows:
    csv.field_size_limit(_LARGEST_CELL)
    data, text = file.data.removeprefix(BOM_UTF8), file.text
    header, begins = _header(file, text)
    unquoted = _unquoted_lines(data, len(header))
    lines = unquoted if unquoted is not None else _quoted_lines(file, text, len(header))
    plain = None
    if unquoted is not None or not _is_read_otherwise(data):
        plain = _plain(header, data, begins, len(lines), has_quotes=unquoted is None)
    cells = _CsvCells(header, text, len(lines), quoted=unquoted is None)
    return SeedRows(file.table, (), cells, lines, plain, header)


def _header(file: SeedFile, text: str) -> tuple[list[str], int]:
    """The names of the columns, and the number of lines that they take."""
    # A StringIO of the whole file would copy it to four bytes for each character.
    reader = csv.reader((line[0] for line in _LINE.finditer(text)), strict=True)
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise SeedError(f"seed {file.name}, line {reader.line_num}: {error}") from error
    if not header:
        raise SeedError(f"seed {file.name} has no first line that names its columns")
    if len(set(header)) < len(header):
        raise SeedError(f"seed {file.name} names a column twice in its first line")
    return header, reader.line_num


def _unquoted_lines(data: bytes, width: int) -> range | None:
    """Where each row ends, told without reading the cells: each line has `width` of them and no quote; else None."""
    # A line of one cell without a comma may be empty, which is no row.
    if not data or (width < 2 and (b"\n\n" in data or data.startswith(b"\n"))):
        return None
    line = b"," * (width - 1) + b"\n"
    marks = data.translate(None, _NO_MARKS) + (b"" if data.endswith(b"\n") else b"\n")
    count = len(marks) // len(line)
    return range(2, count + 1) if marks == line * count and b"\n\\." not in data else None


def _quoted_lines(file: SeedFile, text: str, width: int) -> list[int]:
    """The same of any CSV. Raises SeedError that names the line whose cells are not as many as `width`."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    lines: list[int] = []
    try:
        next(reader, None)
        for cells in reader:
            if len(cells) == width:
                lines.append(reader.line_num)
            elif cells:
                where = f"seed {file.name}, line {reader.line_num}"
                raise SeedError(f"{where}: {len(cells)} cells, expected {width}")
    except csv.Error as error:
        raise SeedError(f"seed {file.name}, line {reader.line_num}: {error}") from error
    return lines


def _is_read_otherwise(data: bytes) -> bool:
    """True for what PostgreSQL reads otherwise: line ends of other systems, empty lines, quotes, COPY's end mark."""
    marks = (b"\r", b"\n\n", b"\n\\.", b"\0")
    return any(mark in data for mark in marks) or has_stray_quotes(data)


def _plain(
    header: Sequence[str], data: bytes, begins: int, rows: int, *, has_quotes: bool
) -> PlainCsv | None:
    at = 0
    for _ in range(begins):
        at = data.find(b"\n", at) + 1
    return PlainCsv(tuple(header), memoryview(data)[at:], rows, has_quotes) if at else None


class _CsvCells(Sequence[Mapping[str, Any]]):
    """The rows as mappings, made when the first one is wanted: COPY needs none of them."""

    def __init__(self, header: Sequence[str], text: str, count: int, *, quoted: bool) -> None:
        self._header = header
        self._text = text
        self._count = count
        self._quoted = quoted

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, at: Any) -> Any:
        return self._made[at]

    @cached_property
    def _made(self) -> list[dict[str, Any]]:
        rows = self._read()
        next(rows, None)
        return [_csv_row(self._header, cells) for cells in rows if cells]

    def _read(self) -> Iterator[list[str]]:
        if self._quoted:
            return csv.reader(io.StringIO(self._text, newline=""), strict=True)
        return (line.split(",") for line in self._text.removesuffix("\n").split("\n"))


def _csv_row(header: Sequence[str], cells: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = dict(zip(header, cells, strict=True))
    if "" in cells:
        # As COPY reads it: an empty cell is NULL.
        row = {name: cell or None for name, cell in row.items()}
    return row


def check_keys(
    seed: str, rows: Sequence[Mapping[str, Any]], key: Sequence[str], place: Callable[[int], str]
) -> None:
    """Raises SeedError for a row without its key, and for two rows of one key; `place` says where a row stands."""
    seen: dict[object, int] = {}
    for number, row in enumerate(rows, 1):
        values = tuple([row.get(name) for name in key])
        if None in values:
            missing = key[values.index(None)]
            raise SeedError(f"{seed}: {place(number)} has no {missing!r}, the key of its row")
        mark = values if all(type(value) is str for value in values) else repr(values)
        if mark in seen:
            first = place(seen[mark])
            raise SeedError(f"{seed}: {first} and {place(number)} have the same {', '.join(key)}")
        seen[mark] = number
