"""Everything that goes to stdout or to `-o FILE`: data, and nothing else, the same bytes to all of them.

Rows are written as they arrive; a table measures its columns on the first 1,000 rows and then streams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple, cast, get_args

from katax_cli.cli.display.json_rows import array, lines, object_encoder
from katax_cli.core.text.js_json import parse
from katax_cli.core.text.text import (
    base64_text,
    is_utf8,
    plain,
    printable,
    to_bytes,
    to_json,
    to_text,
    unique_names,
)
from katax_cli.errors import ConfigError, KataxError, unknown_name

if TYPE_CHECKING:
    from katax_cli.cli.display.pager import LongOutput
    from katax_cli.cli.display.table import Cells, Expanded

Format = Literal["table", "vertical", "markdown", "json", "jsonl", "csv", "tsv"]
FORMATS: tuple[Format, ...] = get_args(Format)

Row = Sequence[object]
Batches = Iterable[Sequence[Row]]

_MEASURED_ROWS = 1000
GREEN, YELLOW, RED = "\x1b[32m", "\x1b[33m", "\x1b[31m"

Shades = Mapping[str, Mapping[str, str]]
"""Column → the text of a cell → its colour."""
NO_SHADES: Shades = {}


class Manner(NamedTuple):
    """Facts about rows besides their values, for people.

    `shades` are colours for a terminal, `brief` the columns that matter there, `ages` those whose moment matters less
    than how long ago it was; `below` is the column of sentences, which stand below their rows where the table is too
    wide, and `joined` those with lists of them; `texts`: the values are texts of a server, so that numbers are known by
    their digits only.
    """

    shades: Shades = NO_SHADES
    brief: Sequence[str] = ()
    ages: Sequence[str] = ()
    below: str | None = None
    joined: Sequence[str] = ()
    texts: bool = False


PLAIN = Manner()
OF_A_SERVER = Manner(texts=True)


@dataclass(slots=True)
class Output:
    """Writes answers in one format to one binary stream. `width` is that of the terminal that reads it, if one does."""

    stream: BinaryIO
    format: str = "table"
    header: bool = True
    null: str | None = None
    color: bool = False
    note: Callable[[str], None] = lambda _: None
    width: int | None = None
    expanded: Expanded = "auto"
    columns: tuple[str, ...] = ()
    """The columns that were asked for; none: all, and on a terminal those that matter, unless `all_columns`."""
    all_columns: bool = False
    pager: LongOutput | None = None
    one_line: bool = False
    """JSON without line ends: one value a line, as answers that follow each other are."""

    @property
    def wants_text(self) -> bool:
        """True when values are wanted as the server writes them, not as Python objects."""
        return self.format not in ("json", "jsonl")

    @property
    def texts(self) -> bool | Literal["json"]:
        """The SQL values that the output needs as the server's text; for JSON, those that are JSON already."""
        return self.wants_text or "json"

    def rows(self, columns: Sequence[str], batches: Batches, manner: Manner = PLAIN) -> int:
        """Writes rows as they arrive; returns their number. An empty result still has its header.

        Raises ConfigError for a column that was asked for and is none of them.
        """
        names = unique_names(columns)
        if names != tuple(columns):
            self.note("duplicate column names were numbered: " + ", ".join(names))
        counted = _Counted(batches)
        wanted: Batches = counted
        picked = self._picked(names, manner)
        if picked is not None:
            names = tuple(names[at] for at in picked)
            wanted = ([tuple(row[at] for at in picked) for row in batch] for batch in counted)
        chunks = (to_bytes(chunk) for chunk in self._chunks(names, wanted, manner))
        if self.pager is not None and self.format in ("table", "vertical", "markdown"):
            with saying_what_failed():
                self.pager.take(chunks)
        else:
            for chunk in chunks:
                self._write(chunk)
            self._write(b"", flush=True)
        return counted.rows

    def _chunks(self, names: tuple[str, ...], batches: Batches, manner: Manner) -> Iterator[str]:
        if self.format in ("table", "vertical", "markdown"):
            return self._drawn(names, batches, manner)
        if self.format in ("csv", "tsv"):
            return (self._csv if self.format == "csv" else self._tsv)(names, batches)
        return self._as_json(object_encoder(names), batches)

    def _as_json(self, encode: Callable[[Any], str], batches: Iterable[Sequence[Any]]) -> Iterator[str]:
        if self.format == "jsonl":
            return lines(encode, batches)
        return array(encode, batches, one_line=self.one_line)

    def _picked(self, names: tuple[str, ...], manner: Manner) -> list[int] | None:
        """The places of the columns to write; None for all."""
        if self.columns:
            for name in self.columns:
                if name not in names:
                    raise ConfigError(unknown_name("column", name, list(names), "columns"))
            return [names.index(name) for name in self.columns]
        if not manner.brief or self.all_columns or self.width is None or self.format != "table":
            return None
        return [names.index(name) for name in manner.brief]

    def documents(self, batches: Iterable[Sequence[str]]) -> None:
        """Writes JSON documents, which are written already, as they arrive: JSON or JSON lines."""
        for chunk in self._as_json(str, batches):
            self._write(to_bytes(chunk))
        self._write(b"", flush=True)

    def scalar(self, value: object) -> None:
        """Writes one bare answer: a string as it is, anything else as JSON; under `-f json` always JSON."""
        bare = isinstance(value, str) and self.format not in ("json", "jsonl")
        self.text(str(value) if bare else to_json(value))

    def stored(self, data: bytes, *, raw: bool = False) -> None:
        """Writes a value as it is stored: a JSON string bare, other JSON as it is, anything else as its text."""
        if raw:
            self.raw(data)
            return
        text = to_text(data)
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
        elif self.format in ("table", "vertical"):
            lists = [name for name, value in facts.items() if _is_texts(value)]
            labels, cell = self._for_reader(tuple(facts), Manner(joined=lists))
            size = max(map(len, labels), default=0)
            for name, shown, value in zip(facts, labels, facts.values(), strict=True):
                self.text(
                    f"{shown.ljust(size)}  {cell(name, value) if value is not None else 'null'}".rstrip()
                )
        else:
            self.rows(tuple(facts), [[tuple(facts.values())]])

    def arrival(self, columns: Sequence[str], row: Row) -> None:
        """Writes one row at once, for a reader who waits for it: JSON as one object a line, one header for all rows."""
        if self.format in ("json", "jsonl"):
            self.action(dict(zip(columns, row, strict=True)))
        else:
            self.rows(columns, [[row]])
            self.header = False

    def show(self, *, page: bool = True) -> None:
        """Shows what was too long for the terminal, in the pager unless the command failed (not `page`)."""
        if self.pager is not None:
            with saying_what_failed():
                self.pager.show(page=page)

    def drop(self) -> None:
        """Forgets what was too long for the terminal: its reader wants no more of it."""
        if self.pager is not None:
            self.pager.drop()

    def fit(self, columns: int, lines: int) -> None:
        """The terminal has another size by now."""
        self.width = columns
        if self.pager is not None:
            self.pager.fit(lines)

    def text(self, text: str) -> None:
        """Writes a line that is formatted already."""
        self.raw(to_bytes(text) + b"\n")

    def raw(self, data: bytes) -> None:
        """Writes bytes as they are."""
        self._write(data, flush=True)

    @contextmanager
    def writing(self) -> Iterator[BinaryIO]:
        """The stream itself, for bytes that a command makes as they come."""
        with saying_what_failed():
            yield self.stream
            self.stream.flush()

    def _write(self, data: bytes, *, flush: bool = False) -> None:
        with saying_what_failed():
            if self.pager is not None and self.pager.took(data):
                return
            self.stream.write(data)
            if flush:
                self.stream.flush()

    def _for_reader(
        self, names: Sequence[str], manner: Manner
    ) -> tuple[list[str], Callable[[str, object], str]]:
        """The labels of columns and what makes their cells: for people on a terminal, elsewhere exact."""
        null = "" if self.null is None else self.null

        def exact(name: str, value: object) -> str:
            return _cell("; ".join(cast("list[str]", value)) if name in manner.joined else value, null)

        if self.width is None or manner.texts:
            return [printable(name) for name in names], exact
        from datetime import UTC, datetime

        from katax_cli.cli.display.people import label, readable

        now = datetime.now(UTC)

        def cell(name: str, value: object) -> str:
            text = readable(name, value, age_at=now if name in manner.ages else None)
            return exact(name, value) if text is None else printable(text)

        return [printable(label(name)) for name in names], cell

    def _drawn(self, names: tuple[str, ...], batches: Batches, manner: Manner) -> Iterator[str]:
        """A table, records or Markdown: measured on the first rows, the others as they arrive."""
        from katax_cli.cli.display.table import Look, markdown, records, table

        stream = iter(batches)
        first: list[Row] = []
        for batch in stream:
            first += batch
            if len(first) >= _MEASURED_ROWS:
                break
        labels, cell = self._for_reader(names, manner)

        def texts(rows: Iterable[Row]) -> list[Cells]:
            return [[cell(name, value) for name, value in zip(names, row, strict=True)] for row in rows]

        head = texts(first)
        shades = manner.shades if self.color else NO_SHADES
        look = Look(
            header=self.header,
            bold=self.color,
            right=_numeric(first, head, len(names), texts=manner.texts),
            whole=tuple(not manner.texts and name.endswith(("_at", "timestamp")) for name in names),
            shades=tuple(shades.get(name, {}) for name in names) if shades else (),
            width=self.width,
            expanded=self.expanded,
            below=names.index(manner.below) if manner.below in names else None,
        )
        rest = map(texts, stream)
        if self.format == "table":
            return table(labels, head, rest, look)
        return (records if self.format == "vertical" else markdown)(labels, chain([head], rest), look)

    def _csv(self, names: tuple[str, ...], batches: Batches) -> Iterator[str]:
        import csv
        import io

        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        null = "" if self.null is None else self.null
        if self.header:
            writer.writerow(names)
        alike = {str} if null else {str, type(None)}
        for batch in chain([()], batches):
            # Texts, and NULL as an empty cell, are what the csv module writes by itself.
            same = alike.issuperset(map(type, chain.from_iterable(batch)))
            writer.writerows(batch if same else ([null if v is None else _text(v) for v in r] for r in batch))
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
def saying_what_failed() -> Iterator[None]:
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


def _numeric(first: Sequence[Row], head: Sequence[Cells], columns: int, *, texts: bool) -> tuple[bool, ...]:
    """The columns of numbers, which stand right: by their type, of a server's texts by their digits."""
    if texts:
        return tuple(_all(_is_number, [row[at] for row in head if row[at]]) for at in range(columns))
    return tuple(
        _all(_is_numeric, [row[at] for row in first if row[at] is not None]) for at in range(columns)
    )


def _all(check: Callable[[Any], bool], values: Sequence[Any]) -> bool:
    return bool(values) and all(map(check, values))


def _is_numeric(value: object) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


def _text(value: object) -> str:
    return value if type(value) is str else plain(value)


def _cell(value: object, null: str) -> str:
    return null if value is None else printable(_text(value))


def _tsv_cell(text: str) -> str:
    if "\\" in text or "\t" in text or "\n" in text or "\r" in text:
        return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    return text
