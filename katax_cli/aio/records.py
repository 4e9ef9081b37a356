"""Records for tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from katax_cli.aio.clients import AsyncRedisDatabase
from katax_cli.aio.pubsub import Arrivals, AsyncSubscription
from katax_cli.core.text.duration import Duration
from katax_cli.services.redis.record_keys import Record
from katax_cli.services.redis.record_watch import RecordEvent, RecordWatch
from katax_cli.services.redis.records import DEFAULT_PAGE_SIZE, IdOrCriteria, RecordPage, Records, Ttl
from katax_cli.services.redis.values import JSON, Codec


class AsyncRecords:
    """The records of one resource, at `<prefix><name>:<id>`.

    A `ttl` is seconds, text such as "1h", or a datetime (local time unless it says otherwise). Raises MisshapedRecord
    for what is no object with an `id`, UnsupportedArgument for a ttl, page or size that cannot be.
    """

    def __init__(self, name: str, redis: AsyncRedisDatabase, *, codec: Codec = JSON) -> None:
        self.name = name
        self._redis = redis
        self._records = Records(name, redis.wraps, codec=codec)
        self._home = redis.home

    def key(self, id: str | int | None = None) -> str:
        """The key of a record on the server, or what all keys of the resource begin with."""
        return self._records.key(id)

    async def get(self, value: IdOrCriteria, field: str = "id", *, timeout: Duration | None = None) -> Record:
        """The record with this id, or the first one whose `field` has this value. Raises UnknownRecord.

        A mapping is criteria, as of `list`: the first record, in the order of their keys, whose fields have these
        values. All but a look by id reads the records up to that one.
        """
        return await self._home.call(self._records.get, value, field, timeout=timeout)

    async def load(
        self, value: IdOrCriteria, field: str = "id", *, timeout: Duration | None = None
    ) -> Record | None:
        """The same; None when there is none."""
        return await self._home.call(self._records.load, value, field, timeout=timeout)

    async def create(
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
        return await self._home.call(
            self._records.create, record, ttl=ttl, generate_id=generate_id, timeout=timeout
        )

    async def update(
        self, record: Mapping[str, Any], *, ttl: Ttl = None, timeout: Duration | None = None
    ) -> Record:
        """Merges fields into a record and returns the whole; keeps its lifetime unless given. Raises UnknownRecord."""
        return await self._home.call(self._records.update, record, ttl=ttl, timeout=timeout)

    async def save(
        self, record: Mapping[str, Any], *, ttl: Ttl = None, timeout: Duration | None = None
    ) -> Record:
        """Stores a record as a whole, new or not, and returns it."""
        return await self._home.call(self._records.save, record, ttl=ttl, timeout=timeout)

    async def compare_and_set(
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
        return await self._home.call(
            self._records.compare_and_set, expected, record, ttl=ttl, timeout=timeout
        )

    async def delete(self, id: str | int, *, timeout: Duration | None = None) -> Record | None:
        """Deletes a record and returns it; None when there is none."""
        return await self._home.call(self._records.delete, id, timeout=timeout)

    async def pick(self, id: str | int, *, timeout: Duration | None = None) -> Record:
        """The same. Raises UnknownRecord when there is none."""
        return await self._home.call(self._records.pick, id, timeout=timeout)

    async def list(
        self,
        criteria: Mapping[str, Any] | None = None,
        page: int = 0,
        size: int = DEFAULT_PAGE_SIZE,
        *,
        timeout: Duration | None = None,
    ) -> RecordPage:
        """A page of the records whose fields have these values; with criteria all records are read."""
        return await self._home.call(self._records.list, criteria, page, size, timeout=timeout)

    async def count(
        self, criteria: Mapping[str, Any] | None = None, *, timeout: Duration | None = None
    ) -> int:
        """The number of records, or of those whose fields have these values.

        Without criteria keys are counted and only those read that may be another resource's (see `purge`).
        """
        return await self._home.call(self._records.count, criteria, timeout=timeout)

    async def purge(
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
        return await self._home.call(self._records.purge, criteria, on_batch=on_batch, timeout=timeout)

    async def publish(self, value: Any, key: str | None = None, *, timeout: Duration | None = None) -> int:
        """Sends an event to the subscribers of the resource, or of one key of it; returns how many received it."""
        return await self._home.call(self._records.publish, value, key, timeout=timeout)

    @asynccontextmanager
    async def subscribe(
        self, key: str | None = None, *, timeout: Duration | None = None
    ) -> AsyncIterator[AsyncIterator[Any]]:
        """The events of the resource, or of one key of it: `async with` subscribes, `async for` receives values."""
        channels = (self._records.channel(key),)
        decode = self._records.codec.decode
        messages = AsyncSubscription(self._redis, channels, (), on_gap=lambda _: None, timeout=timeout)
        async with messages:
            yield (decode(message.data) async for message in messages)

    @asynccontextmanager
    async def watch(self, *, timeout: Duration | None = None) -> AsyncIterator[AsyncIterator[RecordEvent]]:
        """The changes of records, whoever makes them: `async with` begins, `async for` receives events.

        The server tells by its keyspace events: raises ConfigError when its `notify-keyspace-events` lacks what is
        needed, which is said and never changed here. An event of the kind `missed` follows a lost connection, since
        the server keeps none meanwhile. The loop raises what ended it for good.
        """
        async with _WatchedRecords(self._redis, self.name, timeout) as events:
            yield events


class _WatchedRecords(Arrivals[RecordEvent]):
    def __init__(self, redis: AsyncRedisDatabase, name: str, timeout: Duration | None) -> None:
        watch = RecordWatch(redis.wraps, name, on_event=self._heard, on_end=self._ended)
        super().__init__(redis, start=partial(watch.start, timeout), close=watch.close)
