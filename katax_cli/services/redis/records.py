"""Records on Redis: JSON objects with an `id`, one key each, and events about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from threading import Lock
from typing import Any

from katax_cli.core.callables import completed, plain
from katax_cli.core.clock import SYSTEM
from katax_cli.core.text.duration import Duration, in_seconds
from katax_cli.core.text.js_json import stringify
from katax_cli.errors import (
    MisshapedRecord,
    RecordExists,
    UnknownRecord,
    UnsupportedArgument,
)
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.clients import Commands, RedisDatabase
from katax_cli.services.redis.keyspace import Keyspace
from katax_cli.services.redis.merge import merge
from katax_cli.services.redis.pubsub import PubSub
from katax_cli.services.redis.values import JSON, Codec, encoded, positive_ms

DEFAULT_PAGE_SIZE = 10
DEFAULT_DB_ALIAS = "redis"

Record = dict[str, Any]
Ttl = Duration | datetime | None
_GET_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Pager:
    """A page of all records; pages count from 0."""

    page: int
    size: int
    total: int


@dataclass(frozen=True, slots=True)
class RecordPage:
    """Some records, in the order of their keys."""

    items: Sequence[Record]
    pager: Pager


class Records:
    """The records of one resource, at `<prefix><name>:<id>`. May be subclassed.

    `db` is a Redis database, or finds it when it is first used. A `ttl` is seconds, text such as
    "1h", or a datetime (local time unless it says otherwise). `timeout` is seconds for a whole call; without it
    each answer is waited for 2 s at most. Raises MisshapedRecord for what is no object with an `id`,
    UnsupportedArgument for a ttl, page or size that cannot be.
    """

    def __init__(
        self, name: str, db: RedisDatabase | Callable[[], RedisDatabase], *, codec: Codec = JSON
    ) -> None:
        if not name:
            raise UnsupportedArgument("the resource has no name; give it one, such as 'users'")
        self.name = name
        self.codec = codec
        self._db = db
        self._starting = Lock()

    @cached_property
    def client(self) -> RedisDatabase:
        """The database. Raises what finding it raises."""
        return self._db if isinstance(self._db, RedisDatabase) else self._db()

    @property
    def prefix(self) -> str:
        """The connection's prefix."""
        return self.client.settings.prefix

    def key(self, id: str | int | None = None) -> str:
        """The key of a record on the server, or what all keys of the resource begin with."""
        return f"{self.prefix}{self.name}" + ("" if id is None else f":{id}")

    def get(self, value: str | int, field: str = "id", *, timeout: Duration | None = None) -> Record:
        """The record with this id, or the first one whose `field` has this value. Raises UnknownRecord."""
        record = self.load(value, field, timeout=timeout)
        if record is None:
            raise UnknownRecord(self.key(value) if field == "id" else f"{self.name}[{field}={value}]")
        return record

    def load(self, value: str | int, field: str = "id", *, timeout: Duration | None = None) -> Record | None:
        """The same; None when there is none."""
        redis = self.client.within(timeout)
        if field != "id":
            return next(iter(self._matching(redis, {field: value})), None)
        data = redis.redis("GET", self._full(value), safety=Safety.READ)
        return None if data is None else self._record(data, value)

    def create(
        self, record: Mapping[str, Any], *, ttl: Ttl = None, timeout: Duration | None = None
    ) -> Record:
        """Stores a new record and returns it. Raises RecordExists."""
        if not self._set(self.client.within(timeout), record, ttl, "NX"):
            raise RecordExists(self.key(record["id"]))
        return dict(record)

    def update(
        self, record: Mapping[str, Any], *, ttl: Ttl = None, timeout: Duration | None = None
    ) -> Record:
        """Merges fields into a record and returns the whole; keeps its lifetime unless given. Raises UnknownRecord."""
        id = record_id(record)
        try:
            redis, seconds = self.client.within(timeout), seconds_of(ttl)
            whole = merge(redis, self._full(id), record, ttl=seconds, codec=self.codec)
        except ValueError as error:
            raise MisshapedRecord(str(error)) from error
        if whole is None:
            raise UnknownRecord(self.key(id))
        return whole

    def save(self, record: Mapping[str, Any], *, ttl: Ttl = None, timeout: Duration | None = None) -> Record:
        """Stores a record as a whole, new or not, and returns it."""
        self._set(self.client.within(timeout), record, ttl)
        return dict(record)

    def delete(self, id: str | int, *, timeout: Duration | None = None) -> Record | None:
        """Deletes a record and returns it; None when there is none."""
        data = self.client.within(timeout).redis("GETDEL", self._full(id))
        return None if data is None else self._record(data, id)

    def pick(self, id: str | int, *, timeout: Duration | None = None) -> Record:
        """The same. Raises UnknownRecord when there is none."""
        picked = self.delete(id, timeout=timeout)
        if picked is None:
            raise UnknownRecord(self.key(id))
        return picked

    def list(
        self,
        criteria: Mapping[str, Any] | None = None,
        page: int = 0,
        size: int = DEFAULT_PAGE_SIZE,
        *,
        timeout: Duration | None = None,
    ) -> RecordPage:
        """A page of the records whose fields have these values; with criteria all records are read."""
        if page < 0 or size < 1:
            raise UnsupportedArgument(
                f"page {page} of size {size} cannot be; expected page 0 or more, size 1 or more"
            )
        redis = self.client.within(timeout)
        if not criteria:
            ids = self._ids(redis)
            return RecordPage(
                self._at(redis, ids[page * size : (page + 1) * size]), Pager(page, size, len(ids))
            )
        matching = self._matching(redis, criteria)
        return RecordPage(matching[page * size : (page + 1) * size], Pager(page, size, len(matching)))

    def publish(self, value: Any, key: str | None = None, *, timeout: Duration | None = None) -> int:
        """Sends an event to the subscribers of the resource, or of one key of it; returns how many received it."""
        return self._pubsub.publish(self.channel(key), value, timeout=timeout)

    def subscribe(
        self,
        fn: Callable[[Any], object],
        key: str | None = None,
        *,
        once: bool = False,
        timeout: Duration | None = None,
    ) -> Callable[[], None]:
        """Calls `fn(value)` for each event; returns what ends that. `once`: for the first event only."""
        plain(fn, "subscribe()")
        channel, pubsub = self.channel(key), self._pubsub
        done = Lock()

        def heard(value: Any) -> None:
            if not once:
                completed(fn(value), fn, "subscribe()")
            elif done.acquire(blocking=False):
                pubsub.unsubscribe(channel, heard)
                completed(fn(value), fn, "subscribe()")

        pubsub.subscribe(channel, heard, timeout=timeout)
        return lambda: pubsub.unsubscribe(channel, heard)

    def channel(self, key: str | None = None) -> str:
        """The channel of events, without the connection's prefix."""
        return self.name if key is None else f"{self.name}:{key}"

    def close(self) -> None:
        """Ends all subscriptions of this store; the database stays open."""
        with self._starting:
            if "_pubsub" in self.__dict__:
                self._pubsub.close()

    @cached_property
    def _pubsub(self) -> PubSub:
        return PubSub(self.client, codec=self.codec)

    def _full(self, id: str | int) -> bytes:
        return self.key(record_id({"id": id})).encode("utf-8", "surrogateescape")

    def _set(self, redis: Commands, record: Mapping[str, Any], ttl: Ttl, *options: str) -> bool:
        key = self._full(record_id(record))
        seconds = seconds_of(ttl)
        expiry = () if seconds is None else ("PX", positive_ms(seconds))
        return redis.redis("SET", key, encoded(self.codec, dict(record)), *expiry, *options) is not None

    def _record(self, data: bytes, id: str | int) -> Record:
        value = self.codec.decode(data)
        if not isinstance(value, dict):
            raise MisshapedRecord(
                f"the value at {self.key(id)!r} is no record; expected an object with an id"
            )
        return value

    def _ids(self, redis: Commands) -> Sequence[bytes]:
        keyspace = Keyspace(redis, f"{self.key()}:")
        return sorted(id for batch in keyspace.distinct() for id in batch)

    def _at(self, redis: Commands, ids: Sequence[bytes]) -> Sequence[Record]:
        """Records by their ids; one that ended meanwhile, or that is none, is left out."""
        start = f"{self.key()}:".encode("utf-8", "surrogateescape")
        values = []
        for first in range(0, len(ids), _GET_AT_ONCE):
            commands = [("GET", start + id) for id in ids[first : first + _GET_AT_ONCE]]
            values += redis.pipeline(commands, safety=Safety.READ, tolerant=True)
        decoded = (self.codec.decode(value) for value in values if isinstance(value, bytes))
        return [value for value in decoded if isinstance(value, dict)]

    def _matching(self, redis: Commands, criteria: Mapping[str, Any]) -> Sequence[Record]:
        return [
            record
            for record in self._at(redis, self._ids(redis))
            if all(field in record and is_same(record[field], value) for field, value in criteria.items())
        ]


def is_same(stored: Any, wanted: Any) -> bool:
    """True for equal JSON, and for text that spells it: a number is found by 5 and by "5"."""
    spelled = stringify(stored)
    return stringify(wanted) == spelled or (isinstance(wanted, str) and wanted == spelled)


def record_id(record: Mapping[str, Any]) -> str | int:
    """The id of a record. Raises MisshapedRecord without one."""
    id = record.get("id") if isinstance(record, Mapping) else None
    if isinstance(id, bool) or not isinstance(id, str | int) or id == "":
        raise MisshapedRecord("a record is an object with an id that is text or a whole number")
    return id


def seconds_of(ttl: Ttl) -> float | None:
    """A lifetime in seconds from now. Raises UnsupportedArgument for one that is over, or is none."""
    if ttl is None:
        return None
    if isinstance(ttl, datetime):
        seconds = ttl.timestamp() - SYSTEM.now()
    else:
        try:
            seconds = in_seconds(ttl)
        except (TypeError, ValueError) as error:
            raise UnsupportedArgument(f"ttl cannot be: {error}") from error
    if not seconds >= 0.001:
        raise UnsupportedArgument(f"ttl ends {seconds:g} s from now, expected a moment in the future")
    return seconds
