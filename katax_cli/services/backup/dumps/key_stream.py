"""The stream of keys in a backup of Redis: written record by record, read back the same way, proven by its last one.

After the head each record is the length of a name, the moment of its end in milliseconds since the epoch (-1: none),
the length of the value as DUMP gives it, and both. Two lengths that no name has mark the server's functions and the
end, which has the number of keys.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

HEAD = b"katax redis 1\n"
_RECORD = struct.Struct("<IqI")
_FUNCTIONS, _END = 0xFFFF_FFFE, 0xFFFF_FFFF


class StoredKey(NamedTuple):
    """A key; `name` is None for the server's functions, as FUNCTION DUMP gives them."""

    name: bytes | None
    expires_at_ms: int | None
    value: bytes


def packed(key: StoredKey) -> bytes:
    """The record of a key."""
    name = b"" if key.name is None else key.name
    length = _FUNCTIONS if key.name is None else len(name)
    ends = -1 if key.expires_at_ms is None else key.expires_at_ms
    return _RECORD.pack(length, ends, len(key.value)) + name + key.value


def end_mark(keys: int) -> bytes:
    """The last record."""
    return _RECORD.pack(_END, keys, 0)


def stored_keys(pieces: Iterable[bytes]) -> Iterator[StoredKey]:
    """The keys of a stream, one at a time. Raises ValueError for a stream that is cut or damaged."""
    source = _ByteSource(pieces)
    if source.take(len(HEAD)) != HEAD:
        raise ValueError("it is no stream of keys")
    count = 0
    while True:
        length, ends, size = _RECORD.unpack(source.take(_RECORD.size))
        if length == _END:
            if ends != count or source.more():
                raise ValueError(f"it says that it has {ends} keys, and has {count}, or goes on after them")
            return
        name = None if length == _FUNCTIONS else source.take(length)
        count += name is not None
        yield StoredKey(name, None if ends < 0 else ends, source.take(size))


class _ByteSource:
    """Pieces as one stream, from which an exact number of bytes is taken."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._buffer = bytearray()

    def take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            piece = next(self._pieces, None)
            if piece is None:
                raise ValueError("it ends in the middle")
            self._buffer += piece
        with memoryview(self._buffer) as view:  # the slice of a bytearray would be one more copy
            taken = bytes(view[:size])
        del self._buffer[:size]
        return taken

    def more(self) -> bool:
        return bool(self._buffer) or any(self._pieces)
