"""The guarded calls of a transfer on one MongoDB connection: no limit of time, each made once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from katax_cli.engines.documents import (
    CollectionFacts,
    Document,
    DocumentQuery,
    MovesDocuments,
    OutgoingDocument,
)
from katax_cli.engines.registry import part
from katax_cli.errors import KataxError
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.mongodb import MongoDatabase

T = TypeVar("T")
_FOREVER = float("inf")
BY_ID = (("_id", 1),)


class Collections:
    """The collections of one connection; `moves` is the engine's part."""

    def __init__(self, database: MongoDatabase) -> None:
        self.database = database
        self.moves: MovesDocuments = part(database.engine, "transfer")

    @contextmanager
    def read(
        self, collection: str, filter: Document | None = None, *, sorted: bool = False, limit: int = 0
    ) -> Iterator[Iterator[list[Any]]]:
        """Documents in batches, each with its BSON as `raw`; `sorted`: in the order of `_id`."""
        query = DocumentQuery(filter or {}, sort=BY_ID if sorted else (), limit=limit, raw=True)
        with self.database.answer(collection, query, timeout=_FOREVER) as batches:
            yield batches

    def count(self, collection: str) -> int:
        return self.database.count(collection, {}, timeout=_FOREVER)

    def facts(self) -> Mapping[str, CollectionFacts]:
        """All collections and views by name."""
        return self._read(self.moves.collections, "listing the collections")

    def existing(self, name: str) -> CollectionFacts:
        """One of them. Raises KataxError when there is none."""
        found = self.facts().get(name)
        if found is None:
            raise KataxError(
                f"no collection named {name!r} on {self.database.name!r}; see 'katax db tables -c {self.database.name}'"
            )
        return found

    def indexes(self, collection: str) -> Mapping[str, Document]:
        """The indexes of a collection, by their fields."""
        return self._read(lambda client: self.moves.indexes(client, collection), "listing the indexes")

    def unique_keys(self, collection: str) -> Sequence[frozenset[str]]:
        return self._read(lambda client: self.moves.unique_keys(client, collection), "listing the indexes")

    def fetch(self, collection: str, filter: Document) -> Document | None:
        return self._read(lambda client: self.moves.fetch(client, collection, filter), "find")

    def write(
        self, collection: str, documents: Sequence[OutgoingDocument], key: Sequence[str] = ("_id",)
    ) -> list[tuple[int, str]]:
        """See `MovesDocuments.write`. Raises OutcomeUnknown when the connection was lost meanwhile."""
        return self._written(lambda client: self.moves.write(client, collection, documents, key), "insert")

    def start(self, collection: str, document: Document) -> bool:
        return self._written(lambda client: self.moves.start(client, collection, document), "insert")

    def save(self, collection: str, filter: Document, change: Document) -> bool:
        return self._written(lambda client: self.moves.save(client, collection, filter, change), "update")

    def create(self, collection: str, options: Document) -> None:
        self._written(lambda client: self.moves.create(client, collection, options), "create")

    def _read(self, work: Callable[[Any], T], doing: str) -> T:
        return self._asked(work, Safety.READ, doing)

    def _written(self, work: Callable[[Any], T], doing: str) -> T:
        self.database.settings.refuse_read_only()
        return self._asked(work, Safety.WRITE, doing)

    def _asked(self, work: Callable[[Any], T], safety: Safety, doing: str) -> T:
        def call(client: Any, seconds: float | None) -> T:
            with self.moves.attempt(client, seconds):
                return work(client)

        return self.database.ask(call, safety=safety, timeout=_FOREVER, doing=doing)
