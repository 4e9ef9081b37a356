"""Records for tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from katax_cli.aio.clients import AsyncRedisDatabase
from katax_cli.aio.pubsub import AsyncSubscription
from katax_cli.core.text.duration import Duration
from katax_cli.services.redis.records import DEFAULT_PAGE_SIZE, Record, RecordPage, Records, Ttl
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

    async def get(self, value: str | int, field: str = "id", *, timeout: Duration | None = None) -> Record:
        """The record with this id, or the first one whose `field` has this value. Raises UnknownRecord."""
        return await self._home.call(self._records.get, value, field, timeout=timeout)

    async def load(
        self, value: str | int, field: str = "id", *, timeout: Duration | None = None
    ) -> Record | None:
        """The same; None when there is none."""
        return await self._home.call(self._records.load, value, field, timeout=timeout)

    async def create(
        self, record: Mapping[str, Any], *, ttl: Ttl = None, timeout: Duration | None = None
    ) -> Record:
        """Stores a new record and returns it. Raises RecordExists."""
        return await self._home.call(self._records.create, record, ttl=ttl, timeout=timeout)

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
