"""The ability of an engine whose records are documents; for its methods' timeouts and errors see `base`."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

from katax_cli.engines.base import Engine
from katax_cli.snapshot import PoolStats

Document = Mapping[str, Any]
Pipeline = Sequence[Document]
Batches = Generator[list[dict[str, Any]], None, None]
"""Documents in batches; closing it ends what runs for it on the server."""


@dataclass(frozen=True, slots=True)
class DocumentQuery:
    """The documents that are asked for: `sort` is of fields and 1 or -1, `limit` 0 is none."""

    filter: Document = field(default_factory=dict)
    projection: Document | None = None
    sort: Sequence[tuple[str, int]] = ()
    skip: int = 0
    limit: int = 0


EVERYTHING = DocumentQuery()


class Changed(NamedTuple):
    """The documents that an update matched, and those of them that were different before."""

    matched: int
    modified: int


@runtime_checkable
class DocumentEngine(Engine, Protocol):
    """Runs MongoDB commands through the driver's client, which pools its own connections.

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

    def opened(self, client: Any) -> int:
        """Connections opened so far."""
        ...

    def pool_stats(self, client: Any) -> PoolStats: ...
