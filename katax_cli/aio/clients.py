"""Databases whose driver pools connections itself, for tasks: Redis and MongoDB."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from katax_cli.aio.database import AsyncDatabase
from katax_cli.aio.own_loop import OwnLoop
from katax_cli.core.text.duration import Duration
from katax_cli.engines.documents import Changed, Document
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
        return await self._home.call(self._database.redis, *args, timeout=timeout, safety=safety)

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
        return await self._home.call(
            self._database.pipeline, commands, timeout=timeout, safety=safety, tolerant=tolerant
        )


class AsyncDocuments:
    """Documents of one query in batches as they arrive, in constant memory.

    `async with` ends the query on the server when the block is left early; `async for` alone does so once its
    iterator is closed.
    """

    def __init__(
        self, batches: AbstractContextManager[Iterable[list[dict[str, Any]]]], home: OwnLoop
    ) -> None:
        self._context = batches
        self._home = home
        self._batches: Iterable[list[dict[str, Any]]] | None = None

    async def __aenter__(self) -> Self:
        self._batches = await self._home.call(self._context.__enter__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._home.call(self._context.__exit__, kind, error, trace)

    async def __aiter__(self) -> AsyncIterator[list[dict[str, Any]]]:
        if self._batches is None:
            async with self:
                async for batch in self:
                    yield batch
            return
        batches = iter(self._batches)

        def following() -> list[dict[str, Any]] | None:
            return next(batches, None)

        while (arrived := await self._home.call(following)) is not None:
            yield arrived


class AsyncMongoDatabase(AsyncDatabase[MongoDatabase]):
    """MongoDB for tasks; its driver waits in named threads."""

    async def command(
        self, spec: Document, *, timeout: Duration | None = None, safety: Safety | None = None
    ) -> Document:
        """Runs one database command and returns the server's answer."""
        return await self._home.call(self._database.command, spec, timeout=timeout, safety=safety)

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
        batches = self._database.find(
            collection, filter, projection=projection, sort=sort, skip=skip, limit=limit, timeout=timeout
        )
        return AsyncDocuments(batches, self._home)

    def table(self, name: str, alias: str | None = None) -> AsyncDocumentBuilder:
        """A query on a collection, built by calls; see `DocumentBuilder`. Raises ValueError for what is no name."""
        from katax_cli.aio.builder import AsyncDocumentBuilder

        return AsyncDocumentBuilder(self._database.table(name, alias), self._home)

    def aggregate(
        self, collection: str, pipeline: Sequence[Document], *, timeout: Duration | None = None
    ) -> AsyncDocuments:
        """The result of a pipeline in batches, as `find`."""
        return AsyncDocuments(self._database.aggregate(collection, pipeline, timeout=timeout), self._home)

    async def count(self, collection: str, filter: Document, *, timeout: Duration | None = None) -> int:
        """The number of documents that match."""
        return await self._home.call(self._database.count, collection, filter, timeout=timeout)

    async def insert(
        self, collection: str, documents: Sequence[Document], *, timeout: Duration | None = None
    ) -> list[Any]:
        """Inserts documents in order; returns the value of `_id` of each. Those before a refused one stay."""
        return await self._home.call(self._database.insert, collection, documents, timeout=timeout)

    async def update(
        self,
        collection: str,
        filter: Document,
        change: Document | Sequence[Document],
        *,
        one: bool = False,
        timeout: Duration | None = None,
    ) -> Changed:
        """Changes the documents that match, or the first `one`. Raises OutcomeUnknown when it ended in its middle."""
        return await self._home.call(
            self._database.update, collection, filter, change, one=one, timeout=timeout
        )

    async def delete(
        self, collection: str, filter: Document, *, one: bool = False, timeout: Duration | None = None
    ) -> int:
        """Deletes the documents that match, or the first `one`; returns how many."""
        return await self._home.call(self._database.delete, collection, filter, one=one, timeout=timeout)
