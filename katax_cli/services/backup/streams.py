"""Files of a backup as streams: compressed with zstd as they are written, digests of what is on the disk."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from katax_cli.services.backup.manifest import DumpFile

CHUNK = 2**20
_SMALL = 2**16
_LEVEL = 3
_GZIP_LEVEL = 1
_GZIP = 31
"""zlib's number for streams with the header of gzip."""


class CompressedFile:
    """A new file that is compressed as it is written; `close` makes it last and returns its size and digest."""

    def __init__(self, path: Path, compressor: Any) -> None:
        self._path = path
        self._digest = hashlib.sha256()
        self.size_bytes = 0
        self._file = path.open("xb")
        self._stream = compressor

    def write(self, data: bytes) -> None:
        self._append(self._stream.compress(data))

    def close(self) -> DumpFile:
        self._append(self._stream.flush())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return DumpFile(self._path.name, self.size_bytes, self._digest.hexdigest())

    def abandon(self) -> None:
        """Closes the file as it is."""
        self._file.close()

    def _append(self, data: bytes) -> None:
        if data:
            self._file.write(data)
            self._digest.update(data)
            self.size_bytes += len(data)


@contextmanager
def compressed_file(path: Path, *, threads: int | None = None) -> Iterator[CompressedFile]:
    """A file that is closed on an error, too; the caller calls `close` when it is whole.

    Its ending says how it is compressed: `.gz`, else zstd, there in so many threads beside (by default one for each
    processor, four at the most).
    """
    file = CompressedFile(
        path, _compressor(path, min(4, os.cpu_count() or 1) if threads is None else threads)
    )
    try:
        yield file
    finally:
        file.abandon()


def _compressor(path: Path, threads: int) -> Any:
    if path.suffix == ".gz":
        return _gzip_library().compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP)
    import zstandard

    return zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True, threads=threads).compressobj()


def _gzip_library() -> Any:
    """ISA-L, which compresses at four times the speed of zlib, where there is a wheel of it."""
    try:
        return import_module("isal.isal_zlib")
    except ImportError:
        return zlib


class Readable(Protocol):
    """Gives at most so many bytes, none at the end."""

    def read(self, size: int = -1, /) -> bytes: ...


class Digesting:
    """A file that is read from beginning to end, with the digest of what was read."""

    def __init__(self, file: Readable, before_each: Callable[[], object]) -> None:
        self._file = file
        self._before_each = before_each
        self.digest = hashlib.sha256()
        self.size_bytes = 0

    def read(self, size: int = -1) -> bytes:
        self._before_each()
        data = self._file.read(size)
        self.digest.update(data)
        self.size_bytes += len(data)
        return data


def digested(
    folder: Path,
    path: str,
    *,
    before_each: Callable[[], object] = lambda: None,
) -> DumpFile:
    """Size and digest of a file, read once and whole; `before_each` piece of it may raise, to end it."""
    with (folder / path).open("rb") as file:
        source = Digesting(file, before_each)
        while source.read(CHUNK):
            pass
        return DumpFile(path, source.size_bytes, source.digest.hexdigest())


@contextmanager
def opened(path: Path) -> Iterator[Iterator[bytes]]:
    """The contents of a file of a backup, decompressed, in pieces of a megabyte at most."""
    with path.open("rb") as file:
        yield _decompressed(path.name, file)


def _decompressed(name: str, source: Any) -> Iterator[bytes]:
    if name.endswith(".zst"):
        return _unzstd(source)
    return _gunzipped(source) if name.endswith(".gz") else pieces(source)


def pieces(source: Readable) -> Iterator[bytes]:
    """A stream in pieces of a megabyte at most."""
    while data := source.read(CHUNK):
        yield data


def _unzstd(source: Any) -> Iterator[bytes]:
    import zstandard

    reader: AbstractContextManager[Any] = zstandard.ZstdDecompressor().stream_reader(
        source, read_across_frames=True, closefd=False
    )
    try:
        with reader as stream:
            yield from pieces(stream)
    except zstandard.ZstdError as error:
        raise ValueError(f"its compression is damaged: {error}") from error


def _gunzipped(source: Any) -> Iterator[bytes]:
    """Never more than a megabyte of what one piece holds."""
    stream = zlib.decompressobj(_GZIP)
    waiting = b""
    try:
        while data := waiting or source.read(_SMALL):  # what is not consumed is copied each time
            yield stream.decompress(data, CHUNK)
            waiting = stream.unconsumed_tail
            if stream.eof:
                waiting, stream = stream.unused_data, zlib.decompressobj(_GZIP)
    except zlib.error as error:
        raise ValueError(f"its compression is damaged: {error}") from error
