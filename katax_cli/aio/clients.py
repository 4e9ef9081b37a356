"""Databases whose driver pools connections itself, for tasks: Redis and MongoDB."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from katax_cli.aio.database import AsyncDatabase
from katax_cli.aio.proxy import AsyncBatches, awaited
from katax_cli.core.text.duration import Duration
from katax_cli.engines.documents import Document
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.clients import RedisDatabase, Word
from katax_cli.services.databases.mongodb import MongoDatabase

if TYPE_CHECKING:
    from katax_cli.aio.builder import AsyncDocumentBuilder


class AsyncRedisDatabase(AsyncDatabase[RedisDatabase]):
    """Redis for tasks: standalone, Sentinel, Cluster or embedded."""

    async def redis(self, *args: Word, timeout: Duration | None = None, safety: Safety | None = None) -> Any:
        """Runs one command and returns its reply: bytes, int, list or None.

        Without `safety`, a command that is known to only read is repeated when it was lost, and any other is a write.
        """
        return await self._call(self._wrapped.redis, *args, timeout=timeout, safety=safety)

    async def pipeline(
        self,
        commands: Sequence[Sequence[Word]],
        *,
        timeout: Duration | None = None,
        safety: Safety | None = None,
        tolerant: bool = False,
    ) -> list[Any]:
        """Runs commands of one key each in one round trip (to each node of a cluster); replies in order.

        Not a transaction. Raises the first refusal once all were answered; when `tolerant`, a Failure stands for each.
        """
        return await self._call(
            self._wrapped.pipeline, commands, timeout=timeout, safety=safety, tolerant=tolerant
        )


class AsyncDocuments(AsyncBatches[Iterable[list[dict[str, Any]]], list[dict[str, Any]]]):
    """The documents of one query."""


class AsyncMongoDatabase(AsyncDatabase[MongoDatabase]):
    """MongoDB for tasks; its driver waits in named threads."""

    command = awaited(MongoDatabase.command)
    count = awaited(MongoDatabase.count)
    insert = awaited(MongoDatabase.insert)
    update = awaited(MongoDatabase.update)
    delete = awaited(MongoDatabase.delete)
    tables = awaited(MongoDatabase.tables)
    describe = awaited(MongoDatabase.describe)

    def find(
        self,
        collection: str,
        filter: Document | None = None,
        *,
        projection: Document | None = None,
        sort: Sequence[tuple[str, int]] = (),
        skip: int = 0,
        limit: int = 0,
        timeout: Duration | None = None,
    ) -> AsyncDocuments:
        """Documents in batches: `async with db.find("people") as found:` and `async for batch in found:`."""
        found = partial(
            self._wrapped.find, collection, filter, projection=projection, sort=sort, skip=skip, limit=limit
        )
        return AsyncDocuments(found, self, timeout)

    def table(self, name: str, alias: str | None = None) -> AsyncDocumentBuilder:
        """A query on a collection, built by calls; see `DocumentBuilder`. Raises ValueError for what is no name."""
        from katax_cli.aio.builder import AsyncDocumentBuilder

        return AsyncDocumentBuilder(self._wrapped.table(name, alias), self._home)

    def aggregate(
        self, collection: str, pipeline: Sequence[Document], *, timeout: Duration | None = None
    ) -> AsyncDocuments:
        """The result of a pipeline in batches, as `find`."""
        return AsyncDocuments(partial(self._wrapped.aggregate, collection, pipeline), self, timeout)
