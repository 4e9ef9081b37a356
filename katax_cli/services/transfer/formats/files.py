"""Files of rows: what their names say, and their compression."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, cast, get_args

from katax_cli.errors import KataxError

Format = Literal["csv", "jsonl", "sql", "parquet"]
Compression = Literal["gzip", "zstd"]
FORMATS: tuple[Format, ...] = get_args(Format)
_COMPRESSIONS: dict[str, Compression] = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}
_FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".sql": "sql",
    ".parquet": "parquet",
}
_CHUNK = 2**20
_HASHED = 2**23
"""Bytes that are hashed at once: each piece waits for the interpreter, which may be busy with another thread."""


@dataclass(frozen=True, slots=True)
class FileKind:
    """The format and compression of a file; `format` is None where its name does not say."""

    format: Format | None
    compression: Compression | None


def kind_of(name: str | None) -> FileKind:
    """The format and compression that a name such as `rows.csv.gz` says."""
    stem = (name or "").lower()
    compression = None
    for end, kind in _COMPRESSIONS.items():
        if stem.endswith(end):
            stem, compression = stem.removesuffix(end), kind
            break
    format = next((kind for end, kind in _FORMATS.items() if stem.endswith(end)), None)
    return FileKind(format, compression)


@contextmanager
def compressed(stream: BinaryIO, compression: Compression | None) -> Iterator[BinaryIO]:
    """A stream that compresses into `stream`, which stays open. The end of the whole is written on success only."""
    if compression is None:
        yield stream
        return
    if compression == "gzip":
        import gzip

        # No time and no name inside: the same rows are the same bytes.
        packed = cast(
            "BinaryIO", gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0, compresslevel=6)
        )
    else:
        import zstandard

        packed = cast("BinaryIO", zstandard.open(stream, "wb", closefd=False))
    yield packed
    packed.close()


@contextmanager
def opened(file: BinaryIO, compression: Compression | None, name: str) -> Iterator[BinaryIO]:
    """The rows of an open file, unpacked. Raises KataxError for a file that is damaged or ends early."""
    damages: tuple[type[Exception], ...] = (EOFError, *_damages(compression))
    try:
        if compression == "gzip":
            import gzip

            with gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
                yield cast("BinaryIO", unpacked)
        elif compression == "zstd":
            yield cast("BinaryIO", io.BufferedReader(_Unpacked(file), _CHUNK))
        else:
            yield file
    except damages as error:
        raise KataxError(f"{name!r} is damaged or cut short: {error}; write it again") from error


def _damages(compression: Compression | None) -> tuple[type[Exception], ...]:
    if compression == "gzip":
        import gzip
        import zlib

        return (gzip.BadGzipFile, zlib.error)
    if compression == "zstd":
        import zstandard

        return (zstandard.ZstdError,)
    return ()


class _Unpacked(io.RawIOBase):
    """zstd that knows where its frames end: the library's own reader takes a file cut short for a short one."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._frame: Any = None
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            packed = self._file.read(_CHUNK // 64)
            if not packed:
                if self._frame is not None:
                    raise EOFError("it ends within a frame")
                return 0
            self._left = b"".join(self._unpack(packed))
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size

    def _unpack(self, packed: bytes) -> Iterator[bytes]:
        import zstandard

        while packed:
            if self._frame is None:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            yield self._frame.decompress(packed)
            packed = self._frame.unused_data
            if self._frame.eof:
                self._frame = None


@contextmanager
def seekable(stream: BinaryIO) -> Iterator[BinaryIO]:
    """The stream, or a temporary file with the rest of it where it cannot go back, as a pipe cannot, or shall not,
    because others read a part before."""
    if isinstance(stream, io.BytesIO) or (stream.seekable() and stream.tell() == 0):
        yield stream
        return
    with tempfile.TemporaryFile() as copy:
        try:
            while chunk := stream.read(_CHUNK):
                copy.write(chunk)
            copy.seek(0)
        except OSError as error:
            raise KataxError(
                f"cannot keep the input in {tempfile.gettempdir()!r}: {error.strerror}; "
                "set TMPDIR to a folder with room for it"
            ) from error
        yield cast("BinaryIO", copy)


def digest(file: BinaryIO) -> str:
    """The SHA-256 of a file, whose position stays: others may read it meanwhile."""
    found = hashlib.sha256()
    if isinstance(file, io.BytesIO):
        found.update(file.getbuffer())
        return found.hexdigest()
    own, at = os.dup(file.fileno()), 0
    try:
        while chunk := os.pread(own, _HASHED, at):
            found.update(chunk)
            at += len(chunk)
    finally:
        os.close(own)
    return found.hexdigest()
