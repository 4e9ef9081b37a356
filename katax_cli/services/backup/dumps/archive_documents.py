"""Counts the documents in the archive that mongodump writes, piece by piece; its structure proves that it is whole.

After a number and a prelude the archive has blocks: a head that names a collection, its documents, and a terminator. A
head may say that its collection ends here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

_MAGIC = struct.pack("<I", 0x8199E26D)
_TERMINATOR = b"\xff\xff\xff\xff"
_LARGEST = 64 * 2**20
_BUCKETS = "system.buckets."
"""Begins the name of the collection that holds the documents of a time series; the prelude names the series."""
_STRING, _BOOLEAN = 2, 8
_SIZES: Mapping[int, int] = {1: 8, 8: 1, 9: 8, 16: 4, 17: 8, 18: 8, 10: 0}
"""Bytes of a value by its type in BSON, of those that heads have."""


class ArchiveDocuments:
    """Takes pieces of the archive. Raises ValueError for what is no archive."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._buffer = bytearray()
        self._skip = 0
        self._began = self._after_prelude = self._expects_head = False
        self._collection: str | None = None
        self._open: set[str] = set()

    @property
    def is_complete(self) -> bool:
        """True when it ended after a block, and every collection that began in it ended in it."""
        rests = self._skip or self._buffer or self._open
        return self._after_prelude and self._expects_head and not rests

    def take(self, data: bytes) -> None:
        """The next piece, of any size."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        self._buffer += data
        while self._step():
            pass

    def _step(self) -> bool:
        """Takes one thing out of the buffer; False when it is not all there."""
        if len(self._buffer) < 4:
            return False
        word = bytes(self._buffer[:4])
        if not self._began:
            if word != _MAGIC:
                raise ValueError("it is no archive of mongodump")
            self._began = True
            del self._buffer[:4]
            return True
        if word == _TERMINATOR:
            self._after_prelude = self._expects_head = True
            del self._buffer[:4]
            return True
        (size,) = struct.unpack("<i", word)
        if not 5 <= size <= _LARGEST:
            raise ValueError(f"it has a document of {size} bytes")
        if self._expects_head or not self._after_prelude:
            return self._head(size)
        if self._collection is not None:
            self.counts[self._collection] += 1
        self._skip = max(0, size - len(self._buffer))
        del self._buffer[:size]
        return True

    def _head(self, size: int) -> bool:
        if len(self._buffer) < size:
            return False
        fields = dict(_fields(bytes(self._buffer[4:size])))
        del self._buffer[:size]
        name = str(fields.get("collection"))
        if not self._after_prelude:
            # Views are in the prelude, too, and have no documents.
            if fields.get("type") == "timeseries":
                self._open.add(f"{_BUCKETS}{name}")
            elif fields.get("type") == "collection":
                self._open.add(name)
            return True
        self._expects_head, self._collection = False, name
        self.counts.setdefault(name, 0)
        if fields.get("EOF"):
            self._open -= {name, f"{_BUCKETS}{name}"}  # servers since 8.3 name the series here, too
        else:
            self._open.add(name)
        return True


def _fields(body: bytes) -> Iterator[tuple[str, str | bool]]:
    """The strings and booleans of a head."""
    at = 0
    while at < len(body) and body[at]:
        kind, end = body[at], body.index(b"\0", at + 1)
        name, at = body[at + 1 : end].decode(), end + 1
        if kind == _STRING:
            (size,) = struct.unpack_from("<i", body, at)
            yield name, body[at + 4 : at + 3 + size].decode()
            at += 4 + size
        elif kind in _SIZES:
            if kind == _BOOLEAN:
                yield name, bool(body[at])
            at += _SIZES[kind]
        else:
            raise ValueError(f"a head has a value of the type {kind}")
