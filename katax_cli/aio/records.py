"""Records for tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from katax_cli.aio.clients import AsyncRedisDatabase
from katax_cli.aio.proxy import AsyncProxy, awaited
from katax_cli.aio.pubsub import Arrivals, AsyncSubscription
from katax_cli.core.text.duration import Duration
from katax_cli.services.redis.record_watch import RecordEvent, RecordWatch
from katax_cli.services.redis.records import Records
from katax_cli.services.redis.values import JSON, Codec


class AsyncRecords(AsyncProxy[Records]):
    """The methods of `Records`, awaited: the records of one resource, at `<prefix><name>:<id>`.

    A `ttl` is seconds, text such as "1h", or a datetime (local time unless it says otherwise). Raises MisshapedRecord
    for what is no object with an `id`, UnsupportedArgument for a ttl, page or size that cannot be.
    """

    def __init__(self, name: str, redis: AsyncRedisDatabase, *, codec: Codec = JSON) -> None:
        super().__init__(Records(name, redis.wraps, codec=codec), redis.home)
        self.name = name
        self._redis = redis

    def key(self, id: str | int | None = None) -> str:
        """The key of a record on the server, or what all keys of the resource begin with."""
        return self._wrapped.key(id)

    get = awaited(Records.get)
    load = awaited(Records.load)
    create = awaited(Records.create)
    update = awaited(Records.update)
    save = awaited(Records.save)
    compare_and_set = awaited(Records.compare_and_set)
    delete = awaited(Records.delete)
    pick = awaited(Records.pick)
    list = awaited(Records.list)
    count = awaited(Records.count)
    purge = awaited(Records.purge)
    publish = awaited(Records.publish)

    @asynccontextmanager
    async def subscribe(
        self, key: str | None = None, *, timeout: Duration | None = None
    ) -> AsyncIterator[AsyncIterator[Any]]:
        """The events of the resource, or of one key of it: `async with` subscribes, `async for` receives values."""
        channels = (self._wrapped.channel(key),)
        messages = AsyncSubscription(self._redis, channels, (), codec=self._wrapped.codec, timeout=timeout)
        async with messages:
            yield (message.value async for message in messages)

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
