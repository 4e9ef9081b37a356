"""Records on Redis: JSON objects with an `id`, one key each, and events about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from logging import getLogger
from threading import Lock
from typing import Any

from katax_cli.core.callables import completed, plain
from katax_cli.core.clock import SYSTEM
from katax_cli.core.text.duration import Duration, in_seconds
from katax_cli.core.uuid7 import uuid7
from katax_cli.errors import (
    MisshapedRecord,
    RecordChanged,
    RecordExists,
    UnknownRecord,
    UnsupportedArgument,
)
from katax_cli.services.databases.clients import RedisDatabase, Word
from katax_cli.services.redis.merge import Overtaken, merge
from katax_cli.services.redis.pubsub import PubSub
from katax_cli.services.redis.record_keys import Record, ResourceKeys, is_equal
from katax_cli.services.redis.record_watch import RecordEvent, RecordWatch
from katax_cli.services.redis.values import JSON, Codec, encoded, positive_ms

DEFAULT_PAGE_SIZE = 10
DEFAULT_DB_ALIAS = "redis"

Ttl = Duration | datetime | None
IdOrCriteria = str | int | Mapping[str, Any]


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
        self._watches: set[RecordWatch] = set()

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

    def get(self, value: IdOrCriteria, field: str = "id", *, timeout: Duration | None = None) -> Record:
        """The record with this id, or the first one whose `field` has this value. Raises UnknownRecord.

        A mapping is criteria, as of `list`: the first record, in the order of their keys, whose fields have these
        values. All but a look by id reads the records up to that one.
        """
        record = self.load(value, field, timeout=timeout)
        if record is None:
            raise UnknownRecord(self._said(value, field))
        return record

    def load(
        self, value: IdOrCriteria, field: str = "id", *, timeout: Duration | None = None
    ) -> Record | None:
        """The same; None when there is none."""
        redis, criteria = self.client.within(timeout), criteria_of(value, field)
        if criteria is not None:
            return next(self._keys.matching(redis, criteria), None)
        found = self._keys.get(redis, record_id({"id": value}))
        return None if found is None else found[1]

    def create(
        self,
        record: Mapping[str, Any],
        *,
        ttl: Ttl = None,
        generate_id: bool = False,
        timeout: Duration | None = None,
    ) -> Record:
        """Stores a new record and returns it. Raises RecordExists.

        With `generate_id` a record without an id gets a UUID of version 7 (RFC 9562), which sorts by its moment.
        """
        if generate_id and isinstance(record, Mapping) and record.get("id") is None:
            record = {**record, "id": str(uuid7())}
        id = record_id(record)
        words = self._words(record, ttl)
        if self.client.within(timeout).redis("SET", self._keys.full(id), *words, "NX") is None:
            raise RecordExists(self.key(id))
        return dict(record)

    def update(
        self, record: Mapping[str, Any], *, ttl: Ttl = None, timeout: Duration | None = None
    ) -> Record:
        """Merges fields into a record and returns the whole; keeps its lifetime unless given. Raises UnknownRecord."""
        id = record_id(record)
        try:
            redis, seconds = self.client.within(timeout), seconds_of(ttl)
            whole = merge(
                redis,
                self._keys.full(id),
                record,
                ttl=seconds,
                codec=self.codec,
                owns=partial(self._keys.owns, id),
            )
        except ValueError as error:
            raise MisshapedRecord(str(error)) from error
        if whole is None:
            raise UnknownRecord(self.key(id))
        return whole

    def save(self, record: Mapping[str, Any], *, ttl: Ttl = None, timeout: Duration | None = None) -> Record:
        """Stores a record as a whole, new or not, and returns it."""
        id, redis = record_id(record), self.client.within(timeout)
        words = self._words(record, ttl)
        if self._keys.is_ambiguous(id):
            self._keys.replace_owned(redis, id, *words)
        else:
            redis.redis("SET", self._keys.full(id), *words)
        return dict(record)

    def compare_and_set(
        self,
        expected: Mapping[str, Any],
        record: Mapping[str, Any],
        *,
        ttl: Ttl = None,
        timeout: Duration | None = None,
    ) -> Record:
        """Replaces a record if it still is as `expected`, in one step, and returns the new one.

        Keeps its lifetime unless given. Both have the same id; values are compared as JSON, keys in any order. One
        that was changed and changed back is as expected: a field that counts versions tells. Raises RecordChanged,
        UnknownRecord when there is none, OutcomeUnknown when the answer was lost: then the record says what is true.
        """
        id = record_id(record)
        if str(record_id(expected)) != str(id):
            raise UnsupportedArgument(
                f"id {id!r} replaces id {expected['id']!r}; expected the same id in both records"
            )
        redis = self.client.within(timeout)
        wanted = self.codec.decode(encoded(self.codec, dict(expected)))
        words = self._words(record, ttl) if ttl is not None else (*self._words(record, ttl), "KEEPTTL")
        overtaken = Overtaken(redis, self._keys.full(id))
        while True:
            found = self._keys.get(redis, id)
            if found is None:
                raise UnknownRecord(self.key(id))
            before, stored = found
            if not is_equal(stored, wanted):
                raise RecordChanged(self.key(id))
            if self._keys.if_unchanged(redis, id, before, "SET", *words):
                return dict(record)
            overtaken.pause()

    def delete(self, id: str | int, *, timeout: Duration | None = None) -> Record | None:
        """Deletes a record and returns it; None when there is none."""
        return self._keys.delete(self.client.within(timeout), record_id({"id": id}))

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
        first, end = page * size, (page + 1) * size
        if not criteria:
            ids = self._keys.ids(redis)
            records = [record for _, _, record in self._keys.read(redis, ids[first:end])]
            return RecordPage(records, Pager(page, size, len(ids)))
        matching = [*self._keys.matching(redis, criteria)]
        return RecordPage(matching[first:end], Pager(page, size, len(matching)))

    def count(self, criteria: Mapping[str, Any] | None = None, *, timeout: Duration | None = None) -> int:
        """The number of records, or of those whose fields have these values.

        Without criteria keys are counted and only those read that may be another resource's (see `purge`).
        """
        redis = self.client.within(timeout)
        if criteria:
            return sum(1 for _ in self._keys.matching(redis, criteria))
        return len(self._keys.ids(redis))

    def purge(
        self,
        criteria: Mapping[str, Any] | None = None,
        *,
        on_batch: Callable[[int], object] = lambda _: None,
        timeout: Duration | None = None,
    ) -> int:
        """Deletes all records, or those whose fields have these values; returns how many it deleted.

        Every record is read first: what is none stays, and so does a record of a resource whose name begins with
        this one's and a colon. One that is created meanwhile may stay. `on_batch` hears the number so far. Repeated
        after a failure it deletes the rest; OutcomeUnknown says that the answer about a batch was lost.
        """
        if criteria is not None and not criteria:
            raise UnsupportedArgument("the criteria are empty; None stands for all records")
        deleted = 0
        for gone in self._keys.purge(self.client.within(timeout), criteria or {}):
            deleted += gone
            on_batch(deleted)
        return deleted

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

    def watch(
        self,
        fn: Callable[[RecordEvent], object],
        *,
        on_end: Callable[[BaseException], object] = lambda _: None,
        timeout: Duration | None = None,
    ) -> Callable[[], None]:
        """Calls `fn(event)` for each change of a record from now on, whoever makes it; returns what ends that.

        The server tells by its keyspace events: raises ConfigError when its `notify-keyspace-events` lacks what is
        needed, which is said and never changed here. An event of the kind `missed` follows a lost connection, since
        the server keeps none meanwhile. What `fn` raises is logged; it is waited for, in the thread that receives.
        """
        plain(fn, "watch()")
        plain(on_end, "on_end")

        def heard(event: RecordEvent) -> None:
            try:
                completed(fn(event), fn, "watch()")
            except Exception:  # the program's function; the next event may go better
                getLogger("katax").exception("a watcher of the records %r failed", self.name)

        watch = RecordWatch(self.client, self.name, on_event=heard, on_end=on_end)
        watch.start(timeout)
        self._watches.add(watch)

        def stop() -> None:
            self._watches.discard(watch)
            watch.close()

        return stop

    def channel(self, key: str | None = None) -> str:
        """The channel of events, without the connection's prefix."""
        return self.name if key is None else f"{self.name}:{key}"

    def close(self) -> None:
        """Ends all subscriptions and watches of this store; the database stays open."""
        # Of a copy: another thread may end a watch meanwhile.
        for watch in list(self._watches):
            self._watches.discard(watch)
            watch.close()
        with self._starting:
            if "_pubsub" in self.__dict__:
                self._pubsub.close()

    @cached_property
    def _pubsub(self) -> PubSub:
        return PubSub(self.client, codec=self.codec)

    def _words(self, record: Mapping[str, Any], ttl: Ttl) -> tuple[Word, ...]:
        """The value and the lifetime, as SET takes them."""
        seconds = seconds_of(ttl)
        data = encoded(self.codec, dict(record))
        return (data,) if seconds is None else (data, "PX", positive_ms(seconds))

    def _said(self, value: IdOrCriteria, field: str) -> str:
        if isinstance(value, str | int) and field == "id":
            return self.key(value)
        criteria = value if isinstance(value, Mapping) else {field: value}
        return f"{self.name}[{', '.join(f'{name}={wanted}' for name, wanted in criteria.items())}]"

    @cached_property
    def _keys(self) -> ResourceKeys:
        return ResourceKeys(self.prefix, self.name, self.codec)


def criteria_of(value: IdOrCriteria, field: str) -> Mapping[str, Any] | None:
    """The criteria that find one record; None where it is looked for by its id. Raises UnsupportedArgument."""
    if not isinstance(value, Mapping):
        return None if field == "id" else {field: value}
    if field != "id" or not value:
        raise UnsupportedArgument("criteria name one field or more, and no other field beside them")
    return value


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
