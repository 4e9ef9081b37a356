"""Everything that goes to stdout or to `-o FILE`: data, and nothing else, the same bytes to all of them.

Rows are written as they arrive; a table measures its columns on the first 1,000 rows and then streams.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import BinaryIO, Literal, NamedTuple, get_args

from katax_cli.core.text.js_json import parse
from katax_cli.core.text.text import base64_text, is_utf8, plain, printable, to_json, unique_names, width
from katax_cli.errors import ConfigError, KataxError

Format = Literal["table", "json", "jsonl", "csv", "tsv"]
FORMATS: tuple[Format, ...] = get_args(Format)

Row = Sequence[object]
Batches = Iterable[Sequence[Row]]

_MEASURED_ROWS = 1000
_BOLD, _RESET = "\x1b[1m", "\x1b[0m"
GREEN, YELLOW, RED = "\x1b[32m", "\x1b[33m", "\x1b[31m"

Write = Callable[[tuple[str, ...], Batches], Iterator[str]]
Shades = Mapping[str, Mapping[str, str]]
"""Column → the text of a cell → its colour."""
NO_SHADES: Shades = {}


@dataclass(slots=True)
class Output:
    """Writes answers in one format to one binary stream."""

    stream: BinaryIO
    format: str = "table"
    header: bool = True
    null: str | None = None
    color: bool = False
    note: Callable[[str], None] = lambda _: None

    @property
    def wants_text(self) -> bool:
        """True when values are wanted as the server writes them, not as Python objects."""
        return self.format in ("table", "csv", "tsv")

    @property
    def texts(self) -> bool | Literal["json"]:
        """The SQL values that the output needs as the server's text; for JSON, those that are JSON already."""
        return self.wants_text or "json"

    def rows(self, columns: Sequence[str], batches: Batches, *, shades: Shades = NO_SHADES) -> int:
        """Writes rows as they arrive; returns their number. An empty result still has its header.

        `shades` are colours for a table on a terminal.
        """
        names = unique_names(columns)
        if names != tuple(columns):
            self.note("duplicate column names were numbered: " + ", ".join(names))
        counted = _Counted(batches)
        writers: dict[str, Write] = {
            "table": partial(self._table, shades=shades if self.color else NO_SHADES),
            "json": self._json,
            "jsonl": self._jsonl,
            "csv": self._csv,
            "tsv": self._tsv,
        }
        for chunk in writers[self.format](names, counted):
            self._write(chunk.encode("utf-8", "surrogateescape"))
        self._write(b"", flush=True)
        return counted.rows

    def scalar(self, value: object) -> None:
        """Writes one bare answer: a string as it is, anything else as JSON; under `-f json` always JSON."""
        bare = isinstance(value, str) and self.format not in ("json", "jsonl")
        self.text(str(value) if bare else to_json(value))

    def stored(self, data: bytes, *, raw: bool = False) -> None:
        """Writes a value as it is stored: a JSON string bare, other JSON as it is, anything else as its text."""
        if raw:
            self.raw(data)
            return
        text = data.decode("utf-8", "surrogateescape")
        if self.format in ("json", "jsonl") and not is_utf8(data):
            self.scalar({"base64": base64_text(data)})
            return
        try:
            value = parse(text)
        except ValueError:
            value = text
        self.scalar(value) if isinstance(value, str) else self.text(text)

    def action(self, facts: Mapping[str, object]) -> None:
        """Writes what an action did: an object, or one `key  value` line each in a table."""
        if self.format in ("json", "jsonl"):
            self.text(to_json(facts))
        elif self.format == "table":
            size = max(map(len, facts), default=0)
            for name, value in facts.items():
                self.text(f"{name.ljust(size)}  {printable(plain(value))}")
        else:
            self.rows(tuple(facts), [[tuple(facts.values())]])

    def text(self, text: str) -> None:
        """Writes a line that is formatted already."""
        self.raw(text.encode("utf-8", "surrogateescape") + b"\n")

    def raw(self, data: bytes) -> None:
        """Writes bytes as they are."""
        self._write(data, flush=True)

    def _write(self, data: bytes, *, flush: bool = False) -> None:
        with _saying_what_failed():
            self.stream.write(data)
            if flush:
                self.stream.flush()

    def _table(self, names: tuple[str, ...], batches: Batches, *, shades: Shades) -> Iterator[str]:
        null = "" if self.null is None else self.null
        stream = iter(batches)
        head: list[list[str]] = []
        for batch in stream:
            head += [[_cell(v, null) for v in row] for row in batch]
            if len(head) >= _MEASURED_ROWS:
                break
        labels = [printable(name) for name in names]
        layout = _Layout.measure(labels if self.header else [""] * len(names), head)
        if shades:
            layout = layout._replace(shades=tuple(shades.get(name, {}) for name in names))
        if self.header and any(labels):
            yield from layout.heading(labels, bold=self.color)
        yield "".join(map(layout.line, head))
        for batch in stream:
            yield "".join(layout.line([_cell(v, null) for v in row]) for row in batch)

    def _json(self, names: tuple[str, ...], batches: Batches) -> Iterator[str]:
        encode = _object_encoder(names)
        first = True
        for batch in batches:
            if batch:
                yield ("[\n  " if first else ",\n  ") + ",\n  ".join(map(encode, batch))
                first = False
        yield "[]\n" if first else "\n]\n"

    def _jsonl(self, names: tuple[str, ...], batches: Batches) -> Iterator[str]:
        encode = _object_encoder(names)
        for batch in batches:
            if batch:
                # Only JSON of a server has line ends, which may stand between its values.
                lines = (encode(row).replace("\r", " ").replace("\n", " ") for row in batch)
                yield "\n".join(lines) + "\n"

    def _csv(self, names: tuple[str, ...], batches: Batches) -> Iterator[str]:
        import csv
        import io

        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        null = "" if self.null is None else self.null
        if self.header:
            writer.writerow(names)
        for batch in chain([()], batches):
            writer.writerows([null if v is None else _text(v) for v in row] for row in batch)
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()

    def _tsv(self, names: tuple[str, ...], batches: Batches) -> Iterator[str]:
        null = "\\N" if self.null is None else self.null
        if self.header:
            yield "\t".join(map(_tsv_cell, names)) + "\n"
        for batch in batches:
            yield "".join(
                "\t".join([null if v is None else _tsv_cell(_text(v)) for v in row]) + "\n" for row in batch
            )


@contextmanager
def output_stream(path: str | None, stdout: BinaryIO) -> Iterator[BinaryIO]:
    """`stdout`, or the file at `path`, which takes its name only when the body succeeded.

    Raises ConfigError when the file cannot be written.
    """
    if path is None or path == "-":
        yield stdout
        return
    special = os.path.exists(path) and not os.path.isfile(path)
    part = path if special else f"{path}.part"
    try:
        stream = open(part, "wb")  # noqa: SIM115 - closed below, before the rename
    except OSError as error:
        raise ConfigError(f"cannot write {path!r}: {error.strerror}; name another file with -o") from error
    try:
        with _saying_what_failed(), stream:
            yield stream
        if not special:
            os.replace(part, path)
    except BaseException:
        if not special:
            os.unlink(part)
        raise


@contextmanager
def _saying_what_failed() -> Iterator[None]:
    """A full disk is an answer; a reader that left is the boundary's business."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise KataxError(f"cannot write the output: {error.strerror}; the output is incomplete") from error


class _Counted:
    """Batches that count their rows as they pass."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self.rows = 0

    def __iter__(self) -> Iterator[Sequence[Row]]:
        for batch in self._batches:
            self.rows += len(batch)
            yield batch


class _Layout(NamedTuple):
    """Widths and alignment of a table's columns; longer cells later only push their own line."""

    widths: tuple[int, ...]
    right: tuple[bool, ...]
    shades: tuple[Mapping[str, str], ...] = ()

    @classmethod
    def measure(cls, labels: Sequence[str], head: Sequence[Sequence[str]]) -> _Layout:
        columns = list(zip(*head, strict=False)) if head else [()] * len(labels)
        widths = tuple(
            max([width(label), *map(width, cells)]) for label, cells in zip(labels, columns, strict=True)
        )
        return cls(widths, tuple(_all_numbers(cells) for cells in columns))

    def line(self, cells: Sequence[str]) -> str:
        padded = [
            " " * (size - width(cell)) + cell if right else cell + " " * (size - width(cell))
            for cell, size, right in zip(cells, self.widths, self.right, strict=True)
        ]
        if self.shades:
            padded = list(map(_shaded, padded, self.shades))
        return "  ".join(padded).rstrip() + "\n"

    def heading(self, labels: Sequence[str], *, bold: bool) -> Iterator[str]:
        line = self.line(labels)
        yield f"{_BOLD}{line[:-1]}{_RESET}\n" if bold else line
        yield "  ".join("-" * size for size in self.widths) + "\n"


def _shaded(padded: str, shade: Mapping[str, str]) -> str:
    cell = padded.strip()
    return padded.replace(cell, f"{shade[cell]}{cell}{_RESET}") if cell in shade else padded


def _all_numbers(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells if cell]
    return bool(filled) and all(_is_number(cell) for cell in filled)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _text(value: object) -> str:
    return value if type(value) is str else plain(value)


def _cell(value: object, null: str) -> str:
    return null if value is None else printable(_text(value))


def _tsv_cell(text: str) -> str:
    if "\\" in text or "\t" in text or "\n" in text or "\r" in text:
        return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    return text


def _object_encoder(names: tuple[str, ...]) -> Callable[[Row], str]:
    keys = [to_json(name) + ": " for name in names]

    def encode(row: Row) -> str:
        return "{" + ", ".join([key + to_json(value) for key, value in zip(keys, row, strict=True)]) + "}"

    return encode
