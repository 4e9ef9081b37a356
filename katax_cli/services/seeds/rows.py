"""Rows out of `.json` and `.csv` files, checked before anything is written."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from katax_cli.errors import SeedError
from katax_cli.services.seeds.values import Rows, SeedFile

_KEYS = {"table", "key", "rows"}


def parse_rows(file: SeedFile, decode: Callable[[str], Any]) -> Rows:
    """The rows of a data file; `decode` turns JSON into values. Raises SeedError that names the place."""
    if file.kind == "csv":
        return _csv_rows(file)
    return _json_rows(file, decode)


def _json_rows(file: SeedFile, decode: Callable[[str], Any]) -> Rows:
    try:
        found = decode(file.text)
    except (ValueError, TypeError) as error:
        raise SeedError(f"seed {file.name} is no JSON: {error}") from error
    whole: Mapping[str, Any] = found if isinstance(found, Mapping) else {"rows": found}
    unknown = sorted(set(whole) - _KEYS)
    if unknown or "rows" not in whole:
        seen = ", ".join(unknown) or "no rows"
        raise SeedError(
            f'seed {file.name} has {seen}; write a list of objects, or {{"table", "key", "rows"}}'
        )
    return Rows(_table(file, whole), _key(file, whole), _objects(file, whole["rows"]))


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


def _csv_rows(file: SeedFile) -> Rows:
    reader = csv.reader(io.StringIO(file.text, newline=""), strict=True)
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    try:
        header = next(reader, [])
        if len(set(header)) < len(header):
            raise SeedError(f"seed {file.name} names a column twice in its first line")
        for cells in reader:
            if cells:
                rows.append(_csv_row(file, header, cells, reader.line_num))
                lines.append(reader.line_num)
    except csv.Error as error:
        raise SeedError(f"seed {file.name}, line {reader.line_num}: {error}") from error
    return Rows(file.table, (), rows, tuple(lines))


def _csv_row(file: SeedFile, header: Sequence[str], cells: Sequence[str], line: int) -> dict[str, Any]:
    if len(cells) != len(header):
        raise SeedError(f"seed {file.name}, line {line}: {len(cells)} cells, expected {len(header)}")
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
            raise SeedError(f"{seed}: {place(number)} has no {missing!r}, which says what row it is")
        mark = values if _only_text(values) else repr(values)
        if mark in seen:
            first = place(seen[mark])
            raise SeedError(f"{seed}: {first} and {place(number)} have the same {', '.join(key)}")
        seen[mark] = number


def _only_text(values: tuple[object, ...]) -> bool:
    return all(type(value) is str for value in values)
