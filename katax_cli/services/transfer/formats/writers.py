"""Rows as bytes of a file: CSV, JSON lines, SQL."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from katax_cli.core.text.text import hex_text, to_json
from katax_cli.engines.base import Row

_INSERTED = 100
"""Rows of one INSERT: a line that is too long for some server helps nobody."""


@dataclass(frozen=True, slots=True)
class CsvForm:
    """How CSV is written and read. An unquoted cell that is `null` is NULL; a quoted one never is."""

    null: str = ""
    delimiter: str = ","
    header: bool = True


def csv_header(columns: Sequence[str], form: CsvForm) -> bytes:
    """The first line; empty where none is wanted."""
    return csv_lines([tuple(columns)], form) if form.header else b""


def csv_lines(rows: Iterable[Row], form: CsvForm) -> bytes:
    """Lines as PostgreSQL's COPY writes them: NULL is bare, a text like it is quoted."""
    special, null, delimiter = _special(form.delimiter), form.null, form.delimiter

    def cell(value: Any) -> str:
        if value is None:
            return null
        text = value if type(value) is str else hex_text(value) if isinstance(value, bytes) else str(value)
        if text == null or text == "" or special(text):
            return '"' + text.replace('"', '""') + '"'
        return text

    lines = [delimiter.join(map(cell, row)) for row in rows]
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape") if lines else b""


@lru_cache(maxsize=16)
def _special(delimiter: str) -> Callable[[str], Any]:
    """Finds what has to be quoted; a lone `\\.` ends the data for PostgreSQL."""
    return re.compile(rf'["\r\n{re.escape(delimiter)}]|\A\\\.\Z|\A[ \t]|[ \t]\Z').search


def json_lines(columns: Sequence[str]) -> Callable[[Iterable[Row]], bytes]:
    """One object a line; JSON of a server stands in it as it is, on one line."""
    keys = [to_json(name) + ": " for name in columns]

    def line(row: Row) -> str:
        text = "{" + ", ".join([key + to_json(value) for key, value in zip(keys, row, strict=True)]) + "}\n"
        return text if text.find("\n") == len(text) - 1 and "\r" not in text else _one_line(text)

    return lambda rows: "".join(map(line, rows)).encode("utf-8", "surrogateescape")


def _one_line(text: str) -> str:
    """Only JSON of a server has line ends, which may stand between its values."""
    return text.replace("\r", " ").replace("\n", " ").rstrip() + "\n"


def inserts(
    head: str, literal: Callable[[Any], str], binds: Sequence[Callable[[Any], Any] | None]
) -> Callable[[Iterable[Row]], bytes]:
    """INSERT statements; `head` is everything up to VALUES, `binds` make the values of columns."""
    makers = [literal if bind is None else _after(bind, literal) for bind in binds]

    def statements(rows: Iterable[Row]) -> Iterator[str]:
        lines = [
            "("
            + ", ".join(["NULL" if v is None else make(v) for make, v in zip(makers, row, strict=True)])
            + ")"
            for row in rows
        ]
        for start in range(0, len(lines), _INSERTED):
            yield f"{head} VALUES\n" + ",\n".join(lines[start : start + _INSERTED]) + ";\n"

    return lambda rows: "".join(statements(rows)).encode("utf-8", "surrogateescape")


def _after(bind: Callable[[Any], Any], literal: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda value: literal(bind(value))
