"""A file of rows, opened: its columns, and its rows in batches from any place on."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from itertools import islice
from typing import Any, BinaryIO

from katax_cli.errors import ConfigError, KataxError
from katax_cli.services.transfer.ahead import Background
from katax_cli.services.transfer.formats.chunks import LARGEST_ROW, Chunk, chunks, in_utf8
from katax_cli.services.transfer.formats.files import FileKind, digest, opened
from katax_cli.services.transfer.formats.readers import (
    AsText,
    Numbered,
    Reject,
    csv_header,
    csv_rows,
    json_rows,
    parsed_object,
    why_no_csv,
)
from katax_cli.services.transfer.formats.writers import CsvForm

_SAMPLE = 2**20
_PARQUET_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one transaction: where the next batch begins, the rows, and for CSV its bytes as they are."""

    end: int
    next_line: int
    rows: Callable[[Reject], Iterator[Numbered]]
    data: bytes | None = None


@dataclass(frozen=True)
class RowFile:
    """A file. `names` are the columns where the file does not say, or not all of them."""

    name: str
    file: BinaryIO
    kind: FileKind
    csv: CsvForm = field(default_factory=CsvForm)
    encoding: str = "utf-8"
    names: Sequence[str] = ()

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the file as it is."""
        return self._hashing.result()

    def begin_digest(self) -> None:
        """Has the digest made from now on, in a thread, while modules are loaded and the server is asked."""
        _ = self._hashing

    @cached_property
    def _hashing(self) -> Background[str]:
        return Background(lambda: digest(self.file))

    @cached_property
    def columns(self) -> Sequence[str]:
        """The columns, from the header, the fields of the first MiB or the schema. Raises ConfigError without any."""
        found = self._columns()
        if not found:
            raise ConfigError(f"{self.name!r} has no columns; is it empty? name them with --columns")
        return found

    def rows_estimate(self, count: int) -> int | None:
        """How many rows there are if the rest is as long as the `count` rows that were read; None for Parquet.

        The file is read a batch ahead of its rows, which makes the first estimates too low.
        """
        if self.kind.format == "parquet":
            return None
        return round(count * self._size / max(self.file.tell(), 1))

    @cached_property
    def _size(self) -> int:
        # Not by seeking to its end: a batch may be read from the file meanwhile, in another thread.
        if isinstance(self.file, BytesIO):
            return self.file.getbuffer().nbytes
        return os.fstat(self.file.fileno()).st_size

    def _columns(self) -> Sequence[str]:
        if self.kind.format == "parquet":
            return self.names or self._parquet()[0]
        if self.kind.format == "csv" and not self.csv.header:
            return self.names
        with self._lines() as stream:
            if self.kind.format == "csv":
                header = self._header(first_row(stream, self.name))
                if self.names and len(self.names) != len(header):
                    raise ConfigError(
                        f"{self.name!r} has {len(header)} columns, and --columns names {len(self.names)}"
                    )
                return self.names or header
            return self.names or _fields(stream.read(_SAMPLE) + stream.readline(LARGEST_ROW), self.name)

    def _header(self, row: bytes) -> list[str]:
        try:
            return csv_header(row, self.csv)
        except csv.Error as error:
            raise ConfigError(f"{self.name}, line 1: is no CSV: {why_no_csv(error)}") from error

    def batches(
        self, *, size: int, position: int, line: int, as_texts: Sequence[AsText] = ()
    ) -> Iterator[Batch]:
        """The rows from `position` on, which line `line` begins; 0: from the first one on."""
        if self.kind.format == "parquet":
            yield from self._parquet_batches(position, as_texts)
            return
        columns = self.columns  # before the file is read: asking for them rewinds it
        quoted = self.kind.format == "csv"
        with self._lines() as stream:
            if position:
                _skip(stream, position)
            elif quoted and self.csv.header:
                header = first_row(stream, self.name)
                position, line = len(header), 1 + header.count(b"\n")
            for chunk in chunks(stream, size=size, quoted=quoted, offset=position, line=line, name=self.name):
                yield self._batch(chunk, columns, as_texts)

    def lines(self, *, size: int, position: int, line: int) -> Iterator[Chunk]:
        """The lines from `position` on, which line `line` begins, as they are; see `chunks`."""
        with self._lines() as stream:
            _skip(stream, position)
            yield from chunks(stream, size=size, quoted=False, offset=position, line=line, name=self.name)

    def _batch(self, chunk: Chunk, columns: Sequence[str], as_texts: Sequence[AsText]) -> Batch:
        if self.kind.format == "csv":
            width = len(columns)
            return Batch(
                chunk.end,
                chunk.next_line,
                lambda reject: csv_rows(chunk, width, self.csv, reject),
                chunk.data,
            )
        makers = as_texts or [None] * len(columns)
        return Batch(chunk.end, chunk.next_line, lambda reject: json_rows(chunk, columns, makers, reject))

    @contextmanager
    def _lines(self) -> Iterator[BinaryIO]:
        self.file.seek(0)
        with opened(self.file, self.kind.compression, self.name) as stream:
            yield in_utf8(stream, self.encoding)

    def _parquet(self, as_texts: Sequence[AsText] = ()) -> tuple[Sequence[str], Iterator[list[list[Any]]]]:
        from katax_cli.services.transfer.formats.parquet import read_parquet

        if self.kind.compression is not None:
            raise ConfigError(f"{self.name!r} is packed twice; Parquet packs itself, unpack it first")
        self.file.seek(0)
        return read_parquet(self.file, self.name, as_texts)

    def _parquet_batches(self, position: int, as_texts: Sequence[AsText]) -> Iterator[Batch]:
        _, found = self._parquet(as_texts)
        rows = islice((row for batch in found for row in batch), position, None)
        while batch := list(islice(rows, _PARQUET_ROWS)):
            numbered = list(enumerate(batch, position + 1))
            position += len(batch)
            yield Batch(position, position + 1, lambda _reject, numbered=numbered: iter(numbered))  # type: ignore[misc]


def first_row(stream: BinaryIO, name: str) -> bytes:
    """The bytes of the first row, quoted line ends included."""
    row = stream.readline(LARGEST_ROW)
    while row.count(b'"') % 2:
        more = stream.readline(LARGEST_ROW)
        row += more
        if not more or len(row) > LARGEST_ROW:
            raise KataxError(f"{name}, line 1: a quote is never closed")
    return row


def _skip(stream: BinaryIO, count: int) -> None:
    while count:
        part = stream.read(min(count, _SAMPLE))
        if not part:
            return
        count -= len(part)


def _fields(sample: bytes, name: str) -> list[str]:
    """The fields of all lines, in the order in which they come. Raises ConfigError when none is an object."""
    fields: dict[str, None] = {}
    problem = None
    for number, line in enumerate(sample.split(b"\n"), 1):
        try:
            fields |= dict.fromkeys(parsed_object(line.decode())) if line.strip() else {}
        except ValueError as error:
            problem = problem or f"{name}, line {number}: is no JSON object: {error}"
    if not fields and problem is not None:
        raise ConfigError(problem)
    return list(fields)
