"""A stream of lines cut into chunks that end where rows end, without reading their cells."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from katax_cli.errors import ConfigError, KataxError

LARGEST_ROW = 2**26
"""Bytes of one row: a quote that is never closed would make the rest of the file one."""
_PART = 2**20
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole rows: their bytes, the number of their first line, and where the next chunk begins: its offset in bytes and
    the number of its line."""

    data: bytes
    line: int
    end: int
    next_line: int


def chunks(
    stream: BinaryIO, *, size: int, quoted: bool, offset: int = 0, line: int = 1, name: str = "the file"
) -> Iterator[Chunk]:
    """Chunks of about `size` bytes; with `quoted`, a line within quotes does not end a row.

    The stream stands at `offset`, which line `line` begins. Raises KataxError for a row that is too long.
    """
    left = b""
    while part := stream.read(size):
        data = left + part
        end = row_end(data, quoted=quoted)
        if end == 0:
            if len(data) > LARGEST_ROW:
                raise KataxError(
                    f"{name}, line {line}: a row of more than {LARGEST_ROW >> 20} MiB; is a quote never closed?"
                )
            left = data
            continue
        rows, left = data[:end], data[end:]
        offset, next_line = offset + end, line + rows.count(b"\n")
        yield Chunk(rows, line, offset, next_line)
        line = next_line
    if left:
        yield Chunk(left, line, offset + len(left), line + left.count(b"\n") + 1)


def row_end(data: bytes, *, quoted: bool) -> int:
    """The place behind the last line that ends a row, 0 when there is none."""
    at = data.rfind(b"\n")
    if not quoted or b'"' not in data:
        return at + 1
    before = data.count(b'"', 0, at + 1)
    while at >= 0 and before % 2:
        previous = data.rfind(b"\n", 0, at)
        before -= data.count(b'"', previous + 1, at + 1)
        at = previous
    return at + 1


def in_utf8(stream: BinaryIO, encoding: str) -> BinaryIO:
    """The stream in UTF-8, without a byte order mark; bytes that the encoding does not know stay as they are.

    Raises ConfigError for an encoding that nobody knows, and for UTF-16 that was not asked for.
    """
    try:
        codec = codecs.lookup(encoding)
        # Python's registry also has codecs of bytes, such as hex, and of texts, such as rot13.
        "".encode(encoding)
    except LookupError as error:
        raise ConfigError(f"no encoding named {encoding!r}; expected one such as utf-8 or cp1252") from error
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(_Raw(stream), _PART)
    start = buffered.peek(4)[:4]
    seen = next((name for mark, name in _MARKS if start.startswith(mark)), None)
    if codec.name == "utf-8":
        if seen == "utf-16":
            raise ConfigError("the file is UTF-16 by its first bytes; say --encoding utf-16")
        if seen is not None:
            buffered.read(len(codecs.BOM_UTF8))
        return buffered
    return io.BufferedReader(_Transcoded(buffered, codec), _PART)


class _Raw(io.RawIOBase):
    """Any readable thing for a BufferedReader, which may look ahead."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Transcoded(io.RawIOBase):
    """UTF-8 of another encoding; bytes that it does not know become the same bytes."""

    def __init__(self, stream: BinaryIO, codec: codecs.CodecInfo) -> None:
        self._stream = stream
        errors = "replace" if codec.name.startswith(("utf-16", "utf-32")) else "surrogateescape"
        self._decoder = codec.incrementaldecoder(errors)
        self._left = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left and not self._ended:
            data = self._stream.read(_PART)
            self._ended = not data
            self._left = self._decoder.decode(data, final=not data).encode("utf-8", "surrogateescape")
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size
