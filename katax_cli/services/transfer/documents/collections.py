"""The guarded calls of a transfer on one MongoDB connection: reads without a limit of time, each made once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from katax_cli.core.text.duration import FOREVER
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
_BATCH_SECONDS, _SECONDS = 300.0, 60.0
"""A majority that is away ends a write: that of a batch, and of one small document."""
BY_ID = (("_id", 1),)


class Collections:
    """The collections of one connection; `moves` is the engine's part.

    With `primary` all is read from the primary, whatever the URL prefers: what was written is seen there at once.
    """

    def __init__(self, database: MongoDatabase, *, primary: bool = False) -> None:
        self.database = database
        self._primary = primary
        self.moves: MovesDocuments = part(database.engine, "transfer")

    @contextmanager
    def read(
        self, collection: str, filter: Document | None = None, *, sorted: bool = False, limit: int = 0
    ) -> Iterator[Iterator[list[Any]]]:
        """Documents in batches, each with its BSON as `raw`; `sorted`: in the order of `_id`."""
        query = DocumentQuery(
            filter or {}, sort=BY_ID if sorted else (), limit=limit, raw=True, primary=self._primary
        )
        with self.database.answer(collection, query, timeout=FOREVER) as batches:
            yield batches

    def count(self, collection: str) -> int:
        if not self._primary:
            return self.database.count(collection, {}, timeout=FOREVER)
        return self._read(lambda client: self.moves.count(client, collection), "count")

    def holds_any(self, collection: str) -> bool:
        """True when the primary has a document of the collection."""
        return self._read(lambda client: self.moves.count(client, collection, most=1), "count") > 0

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

    def indexes(self, collection: str) -> Mapping[str, Sequence[Document]]:
        """The indexes of a collection, by their fields."""
        return self._read(lambda client: self.moves.indexes(client, collection), "listing the indexes")

    def unique_keys(self, collection: str) -> Sequence[frozenset[str]]:
        return self._read(lambda client: self.moves.unique_keys(client, collection), "listing the indexes")

    def fetch(self, collection: str, filter: Document) -> Document | None:
        return next(iter(self.fetch_all(collection, filter, most=1)), None)

    def fetch_all(self, collection: str, filter: Document, *, most: int = 0) -> Sequence[Document]:
        """See `MovesDocuments.fetch`."""
        return self._read(lambda client: self.moves.fetch(client, collection, filter, most), "find")

    def write(
        self, collection: str, documents: Sequence[OutgoingDocument], key: Sequence[str] = ("_id",)
    ) -> list[tuple[int, str]]:
        """See `MovesDocuments.write`. Raises OutcomeUnknown when the connection was lost meanwhile."""
        return self._written(
            lambda client: self.moves.write(client, collection, documents, key), "insert", _BATCH_SECONDS
        )

    def start(self, collection: str, document: Document) -> bool:
        return self._written(
            lambda client: self.moves.start(client, collection, document), "insert", _SECONDS
        )

    def save(self, collection: str, filter: Document, change: Document, *, timeout: float = _SECONDS) -> bool:
        return self._written(
            lambda client: self.moves.save(client, collection, filter, change), "update", timeout
        )

    def remove(self, collection: str, filter: Document, *, timeout: float = _SECONDS) -> None:
        self._written(lambda client: self.moves.remove(client, collection, filter), "delete", timeout)

    def create(self, collection: str, options: Document) -> None:
        self._written(lambda client: self.moves.create(client, collection, options), "create")

    def _read(self, work: Callable[[Any], T], doing: str) -> T:
        return self._asked(work, Safety.READ, doing)

    def _written(self, work: Callable[[Any], T], doing: str, timeout: float = FOREVER) -> T:
        self.database.settings.refuse_read_only()
        return self._asked(work, Safety.WRITE, doing, timeout)

    def _asked(self, work: Callable[[Any], T], safety: Safety, doing: str, timeout: float = FOREVER) -> T:
        def call(client: Any, seconds: float | None) -> T:
            with self.moves.attempt(client, seconds):
                return work(client)

        return self.database.ask(call, safety=safety, timeout=timeout, doing=doing)
