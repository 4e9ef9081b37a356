"""The ability of an engine whose records are documents; for its methods' timeouts and errors see `base`."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from katax_cli.engines.base import PoolingEngine

if TYPE_CHECKING:
    pass

Document = Mapping[str, Any]
Pipeline = Sequence[Document]
Batches = Generator[list[dict[str, Any]], None, None]
"""Documents in batches; closing it ends what runs for it on the server."""


@dataclass(frozen=True, slots=True)
class DocumentQuery:
    """The documents that are asked for: `sort` is of fields and 1 or -1, `limit` 0 is none. With `raw` they are not
    decoded: each has its BSON as `raw`. With `primary` they come from there, whatever the URL prefers."""

    filter: Document = field(default_factory=dict)
    projection: Document | None = None
    sort: Sequence[tuple[str, int]] = ()
    skip: int = 0
    limit: int = 0
    raw: bool = False
    primary: bool = False


EVERYTHING = DocumentQuery()


class Changed(NamedTuple):
    """The documents that an update matched, and those of them that were different before."""

    matched: int
    modified: int


@runtime_checkable
class DocumentEngine(PoolingEngine, Protocol):
    """Runs MongoDB commands through the driver's client.

    Writes raise when the server tells that not all of it was done; of many documents those before the refused one stay.
    """

    def command(
        self,
        client: Any,
        spec: Mapping[str, Any],
        timeout: float | None = None,
        *,
        database: str | None = None,
    ) -> Mapping[str, Any]:
        """Runs one database command. On a read-only connection raises Refused unless it is known to read."""
        ...

    def only_reads(self, spec: Mapping[str, Any]) -> bool:
        """True for a command that is known to change nothing; no round trip."""
        ...

    def find(
        self, client: Any, collection: str, query: DocumentQuery = EVERYTHING, *, timeout: float | None = None
    ) -> Batches:
        """The documents, in constant memory; `timeout` is for all of them together."""
        ...

    def aggregate(
        self, client: Any, collection: str, pipeline: Pipeline, *, timeout: float | None = None
    ) -> Batches:
        """The result in batches, as `find`. On a read-only connection raises Refused for what may write."""
        ...

    def count(self, client: Any, collection: str, filter: Document, timeout: float | None = None) -> int:
        """The number of documents that match."""
        ...

    def insert(
        self, client: Any, collection: str, documents: Sequence[Document], timeout: float | None = None
    ) -> list[Any]:
        """Inserts documents in order until one is refused; returns the value of `_id` of each."""
        ...

    def update(
        self,
        client: Any,
        collection: str,
        filter: Document,
        change: Document | Pipeline,
        timeout: float | None = None,
        *,
        one: bool = False,
    ) -> Changed:
        """Changes the documents that match, or the first `one`, by update operators or a pipeline."""
        ...

    def delete(
        self,
        client: Any,
        collection: str,
        filter: Document,
        timeout: float | None = None,
        *,
        one: bool = False,
    ) -> int:
        """Deletes the documents that match, or the first `one`; returns how many."""
        ...

    def cancel(self, client: Any, timeout: float) -> None:
        """Ends what runs on the server for the client, from another thread; never raises."""
        ...


class OutgoingDocument(NamedTuple):
    """A document in BSON; `has_own_id` is False where its `_id` was made for it."""

    raw: bytes
    has_own_id: bool = True


class CollectionFacts(NamedTuple):
    """A collection: `kind` is collection, view or timeseries; the options that it was made with."""

    name: str
    kind: str
    options: Document


class MovesDocuments(Protocol):
    """Whole collections in and out. Made by `create(engine)` of an engine's module `transfer`."""

    def attempt(self, client: Any, timeout: float | None) -> AbstractContextManager[None]:
        """Around every call that takes a client: its limit, and the meaning of its errors."""
        ...

    def line(self, raw: bytes) -> bytes:
        """A document as a line of text that reads back as it was. Raises ValueError where there is none."""
        ...

    def parsed(self, text: str) -> Document:
        """The document of a line. Raises ValueError."""
        ...

    def outgoing(self, document: Document, new_id: Any) -> OutgoingDocument:
        """A document as it is sent, with `new_id` where it has none. Raises ValueError for one that is too large."""
        ...

    def new_id(self, start: bytes, number: int) -> Any:
        """The `_id` of the document with this number, after 12 bytes of `start`: the same each time."""
        ...

    def write(
        self, client: Any, collection: str, documents: Sequence[OutgoingDocument], key: Sequence[str]
    ) -> list[tuple[int, str]]:
        """Inserts documents, or replaces those whose `_id` or `key` is there; returns the places of those that the
        server refused, with its reasons."""
        ...

    def start(self, client: Any, collection: str, document: Document) -> bool:
        """Inserts one document, on disk of a majority when it returns; False when its `_id` is there."""
        ...

    def save(self, client: Any, collection: str, filter: Document, change: Document) -> bool:
        """Changes one document, as `start`; False when none matched."""
        ...

    def remove(self, client: Any, collection: str, filter: Document) -> None:
        """Deletes one document, as `start`, where one matches."""
        ...

    def fetch(self, client: Any, collection: str, filter: Document, most: int) -> list[Document]:
        """Up to `most` documents of the primary, 0 is all; for few and small ones."""
        ...

    def count(self, client: Any, collection: str, *, most: int = 0) -> int:
        """The number of documents that the primary has; `most` ends the count, 0 is none."""
        ...

    def missing_key(self, document: Document, key: Sequence[str]) -> str | None:
        """The field of the key that a document does not have as one value; None when it has all."""
        ...

    def last_id(self, raw: bytes) -> Any:
        """The `_id` of a document."""
        ...

    def shown(self, value: Any) -> str:
        """A value for a message, with its type."""
        ...

    def fields(self, raw: bytes) -> Document:
        """The fields of a document, their values as JSON has them, with their types."""
        ...

    def after(self, id: Any) -> Document:
        """The filter of the documents behind `id` in the order of `_id`."""
        ...

    def up_to(self, id: Any) -> Document:
        """The filter of the documents up to `id`."""
        ...

    def between(self, low: Any, high: Any) -> Document:
        """The filter of the documents behind `low` and up to `high`, in the order of `_id`."""
        ...

    def collections(self, client: Any) -> dict[str, CollectionFacts]:
        """The collections and views of the database, by name; without those of the server."""
        ...

    def indexes(self, client: Any, collection: str) -> dict[str, list[Document]]:
        """The indexes of a collection: their fields as text, and the options of each that has these fields."""
        ...

    def unique_keys(self, client: Any, collection: str) -> list[frozenset[str]]:
        """The fields of the unique indexes that hold for every document."""
        ...

    def create(self, client: Any, collection: str, options: Document) -> None:
        """Makes a collection with these options."""
        ...
