"""The keys of one resource on Redis, and the records at them: found, told from those of other resources, changed.

The keys of `users` and of `users:archive` begin alike: `users:archive:7` may be record `archive:7` of the one or `7` of
the other. The record says whose it is, by its id; so keys keep their plain form, which other programs know.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha1
from typing import Any

from katax_cli.core.text.js_json import stringify
from katax_cli.core.text.text import to_bytes, to_text
from katax_cli.errors import MisshapedRecord
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.clients import Commands, Word
from katax_cli.services.redis.keyspace import Keyspace
from katax_cli.services.redis.lua import IF_UNCHANGED
from katax_cli.services.redis.merge import Overtaken
from katax_cli.services.redis.values import Codec, chunks

Record = dict[str, Any]
StoredRecord = tuple[bytes, bytes, Record]
"""An id, what is stored there, and the record that this is."""
_GET_AT_ONCE = 1000


class ResourceKeys:
    """`<prefix><name>:<id>` on a server; where a name or an id holds a colon, the key may be another resource's."""

    def __init__(self, prefix: str, name: str, codec: Codec) -> None:
        self._start = f"{prefix}{name}:"
        self._start_bytes = to_bytes(self._start)
        self._is_nested = ":" in name
        self._codec = codec

    def full(self, id: str | int) -> bytes:
        """The full key of a record."""
        return self._start_bytes + to_bytes(str(id))

    def is_ambiguous(self, id: str | int) -> bool:
        """True if only the record can say whose the key of this id is."""
        return self._is_nested or ":" in str(id)

    def owns(self, id: str | int, record: object) -> bool:
        """True unless what is stored at the key of this id is another resource's."""
        return not self.is_ambiguous(id) or (isinstance(record, Mapping) and str(record.get("id")) == str(id))

    def get(self, redis: Commands, id: str | int) -> tuple[bytes, Record] | None:
        """The record with this id and its bytes; None where there is none, or one of another resource.

        Raises MisshapedRecord for what is no object.
        """
        data = redis.redis("GET", self.full(id), safety=Safety.READ)
        if data is None:
            return None
        record = self.decoded(data, id)
        return (data, record) if self.owns(id, record) else None

    def decoded(self, data: bytes, id: str | int) -> Record:
        """Stored bytes as a record. Raises MisshapedRecord for what is no object."""
        value = self._codec.decode(data)
        if not isinstance(value, dict):
            raise MisshapedRecord(
                f"the value at {f'{self._start}{id}'!r} is no record; expected an object with an id"
            )
        return value

    def ids(self, redis: Commands) -> Sequence[bytes]:
        """The ids of the resource, sorted; only where a key is ambiguous is its record read."""
        candidates = self._candidates(redis)
        ambiguous = [id for id in candidates if self.is_ambiguous(to_text(id))]
        foreign = set(ambiguous).difference(id for id, _, _ in self.read(redis, ambiguous))
        return [id for id in candidates if id not in foreign]

    def read(self, redis: Commands, ids: Sequence[bytes]) -> Iterator[StoredRecord]:
        """The records at these ids, a batch at a time; not those that ended, are none, or are another resource's."""
        for batch in chunks(ids, _GET_AT_ONCE):
            commands = [("GET", self._start_bytes + id) for id in batch]
            values = redis.pipeline(commands, safety=Safety.READ, tolerant=True)
            for id, data in zip(batch, values, strict=True):
                record = self._codec.decode(data) if isinstance(data, bytes) else None
                if isinstance(record, dict) and self.owns(to_text(id), record):
                    yield id, data, record

    def matching(self, redis: Commands, criteria: Mapping[str, Any]) -> Iterator[Record]:
        """The records whose fields have these values, in the order of their ids."""
        stored = self.read(redis, self._candidates(redis))
        return (record for _, _, record in stored if matches(record, criteria))

    def purge(self, redis: Commands, criteria: Mapping[str, Any]) -> Iterator[int]:
        """Deletes the records whose fields have these values; the number of each batch.

        Each is deleted only as it was read: one that changed meanwhile is read again.
        """
        for ids in Keyspace(redis, self._start).scan(type="string"):
            yield self._purge(redis, ids, criteria)

    def delete(self, redis: Commands, id: str | int) -> Record | None:
        """Deletes a record and returns it; None where there is none, or one of another resource."""
        if not self.is_ambiguous(id):
            data = redis.redis("GETDEL", self.full(id))
            return None if data is None else self.decoded(data, id)
        overtaken = Overtaken(redis, self.full(id))
        while (found := self.get(redis, id)) is not None:
            data, record = found
            if self.if_unchanged(redis, id, data, "UNLINK"):
                return record
            overtaken.pause()
        return None

    def replace_owned(self, redis: Commands, id: str | int, *words: Word) -> None:
        """SET with these words, unless another resource's record is there: then raises MisshapedRecord."""
        overtaken = Overtaken(redis, self.full(id))
        while True:
            data = redis.redis("GET", self.full(id), safety=Safety.READ)
            if data is not None and not self.owns(id, self._codec.decode(data)):
                raise MisshapedRecord(
                    f"the value at {f'{self._start}{id}'!r} is not the record with this id, "
                    "but another resource's whose name begins alike; choose another id"
                )
            if self.if_unchanged(redis, id, data, "SET", *words):
                return
            overtaken.pause()

    def if_unchanged(self, redis: Commands, id: str | int, data: bytes | None, *words: Word) -> bool:
        """Runs a command on the key in one step with the look that these bytes (None: nothing) are still there."""
        command, *rest = words
        return bool(IF_UNCHANGED(redis, [self.full(id)], _digest(data), command, *rest))

    def _candidates(self, redis: Commands) -> Sequence[bytes]:
        keyspace = Keyspace(redis, self._start)
        return sorted(id for batch in keyspace.distinct(type="string") for id in batch)

    def _purge(self, redis: Commands, ids: Sequence[bytes], criteria: Mapping[str, Any]) -> int:
        deleted, overtaken = 0, Overtaken(redis, self._start_bytes)
        while meant := [
            (id, data) for id, data, record in self.read(redis, ids) if matches(record, criteria)
        ]:
            commands = [
                IF_UNCHANGED.command(self._start_bytes + id, _digest(data), "UNLINK") for id, data in meant
            ]
            done = redis.pipeline(commands, safety=Safety.WRITE)
            deleted += sum(done)
            ids = [id for (id, _), gone in zip(meant, done, strict=True) if not gone]
            if not ids:
                break
            overtaken.pause()
        return deleted


def matches(record: Mapping[str, Any], criteria: Mapping[str, Any]) -> bool:
    """True if all these fields have these values."""
    return all(field in record and is_same(record[field], value) for field, value in criteria.items())


def is_same(stored: Any, wanted: Any) -> bool:
    """True for equal JSON, and for text that spells it: a number is found by 5 and by "5"."""
    spelled = stringify(stored)
    return stringify(wanted) == spelled or (isinstance(wanted, str) and wanted == spelled)


def is_equal(left: Any, right: Any) -> bool:
    """True for values that are one another's as JSON knows them: keys in any order, true is not 1."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(is_equal(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(is_equal, left, right))
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def _digest(data: bytes | None) -> str:
    return "" if data is None else sha1(data, usedforsecurity=False).hexdigest()
