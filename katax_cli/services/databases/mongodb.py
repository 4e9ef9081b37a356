"""MongoDB on one named connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from katax_cli.core.resilience.deadline import NEVER
from katax_cli.core.text.duration import Duration
from katax_cli.engines.documents import (
    Batches,
    Changed,
    Document,
    DocumentEngine,
    DocumentQuery,
    Pipeline,
)
from katax_cli.services.calls.guard import Safety, Sent
from katax_cli.services.calls.observer import timed
from katax_cli.services.databases.client_database import ClientDatabase
from katax_cli.services.databases.database import TabularDatabase
from katax_cli.services.databases.document_effects import redacted

if TYPE_CHECKING:
    from katax_cli.services.databases.builder.documents import DocumentBuilder

T = TypeVar("T")
DocumentStream = Iterator[list[dict[str, Any]]]

_CANCEL_SECONDS = 0.5


class MongoDatabase(ClientDatabase, TabularDatabase):
    """MongoDB.

    Documents have dates with the time zone UTC, and as DatetimeMS what Python has no date for.
    """

    engine: DocumentEngine

    def command(
        self,
        spec: Document,
        *,
        timeout: Duration | None = None,
        safety: Safety | None = None,
        database: str | None = None,
    ) -> Mapping[str, Any]:
        """Runs one database command, on another `database` of the server if it says so.

        Without `safety`, a command that is known to only read is repeated when it was lost, and any other is a write.
        Raises ValueError for an empty one.
        """
        if not spec:
            raise ValueError('an empty document is no command; expected one such as {"ping": 1}')
        return self._watched(
            spec,
            lambda client, seconds: self.engine.command(client, spec, timeout=seconds, database=database),
            safety=self._safety(safety, spec),
            timeout=timeout,
        )

    @contextmanager
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
    ) -> Iterator[DocumentStream]:
        """Documents in batches as they arrive, in constant memory; leaving early ends the query on the server too.

        `sort` is of fields and 1 or -1, `limit` 0 is none.
        """
        query = DocumentQuery(filter or {}, projection, sort, skip, limit)
        with self.answer(collection, query, timeout=timeout) as batches:
            yield batches

    @contextmanager
    def answer(
        self, collection: str, query: DocumentQuery, *, timeout: Duration | None = None
    ) -> Iterator[DocumentStream]:
        """The documents that a query asks for, as `find`."""
        with self._streamed(
            {"find": collection, "filter": query.filter},
            lambda client, seconds: self.engine.find(client, collection, query, timeout=seconds),
            timeout,
        ) as batches:
            yield batches

    @contextmanager
    def aggregate(
        self, collection: str, pipeline: Pipeline, *, timeout: Duration | None = None
    ) -> Iterator[DocumentStream]:
        """The result of a pipeline in batches, as `find`."""
        spec = {"aggregate": collection, "pipeline": list(pipeline)}
        with self._streamed(
            spec,
            lambda client, seconds: self.engine.aggregate(client, collection, pipeline, timeout=seconds),
            timeout,
        ) as batches:
            yield batches

    def count(self, collection: str, filter: Document, *, timeout: Duration | None = None) -> int:
        """The number of documents that match."""
        return self._watched(
            {"count": collection, "query": filter},
            lambda client, seconds: self.engine.count(client, collection, filter, timeout=seconds),
            safety=Safety.READ,
            timeout=timeout,
        )

    def insert(
        self, collection: str, documents: Sequence[Document], *, timeout: Duration | None = None
    ) -> list[Any]:
        """Inserts documents in order; returns the value of `_id` of each.

        Raises QueryError for the first that is refused, saying how many before it were inserted: those stay.
        """
        return self._watched(
            {"insert": collection, "documents": documents},
            lambda client, seconds: self.engine.insert(client, collection, documents, timeout=seconds),
            safety=Safety.WRITE,
            timeout=timeout,
        )

    def update(
        self,
        collection: str,
        filter: Document,
        change: Document | Pipeline,
        *,
        one: bool = False,
        timeout: Duration | None = None,
    ) -> Changed:
        """Changes the documents that match, or the first `one`, by update operators or a pipeline.

        Not all or nothing: raises OutcomeUnknown when it ended in its middle.
        """
        return self._watched(
            {"update": collection, "filter": filter, "change": change},
            lambda client, seconds: self.engine.update(
                client, collection, filter, change, timeout=seconds, one=one
            ),
            safety=Safety.WRITE,
            timeout=timeout,
        )

    def delete(
        self, collection: str, filter: Document, *, one: bool = False, timeout: Duration | None = None
    ) -> int:
        """Deletes the documents that match, or the first `one`; returns how many. Fails as `update` does."""
        return self._watched(
            {"delete": collection, "filter": filter},
            lambda client, seconds: self.engine.delete(client, collection, filter, timeout=seconds, one=one),
            safety=Safety.WRITE,
            timeout=timeout,
        )

    def table(self, name: str, alias: str | None = None) -> DocumentBuilder:
        """A query on a collection, built by calls; see `DocumentBuilder`. Raises ValueError for what is no name."""
        from katax_cli.services.databases.builder.documents import DocumentBuilder

        return DocumentBuilder(name, alias, on=self)

    def maintain(self, *, fill: bool) -> None:
        """Does nothing: pymongo's own monitor closes idle connections and opens up to `min`."""

    def doubt(self) -> None:
        """Does nothing: pymongo drops a server's connections when one of them breaks."""

    def renew(self) -> None:
        """Does nothing: see `doubt`."""

    def probe(self) -> None:
        client = self._client
        if client is None:
            super().probe()
            return
        with self.guard.translating(deadline=NEVER, safety=Safety.PROBE, doing="probing"):
            self.engine.ping(client, self.settings.connect_timeout)

    def cancel_running(self) -> None:
        client = self._client
        if client is not None:
            self.engine.cancel(client, _CANCEL_SECONDS)
        super().cancel_running()

    def _watched(
        self,
        spec: Document,
        work: Callable[[Any, float | None], T],
        *,
        safety: Safety,
        timeout: Duration | None,
    ) -> T:
        with self.observer.watch(spec):
            doing = str(next(iter(spec), "command"))
            return self.ask(work, safety=safety, timeout=timeout, doing=doing)

    @contextmanager
    def _streamed(
        self, spec: Document, work: Callable[[Any, float | None], Batches], timeout: Duration | None
    ) -> Iterator[DocumentStream]:
        """The first batch within the guarded call, so that it may be repeated; the others as they are asked for."""
        deadline, safety, doing = self._deadline(timeout), self._safety(None, spec), str(next(iter(spec)))
        with self.observer.watch(spec) as watch, ExitStack() as stack:

            def open_stream(sent: Sent) -> DocumentStream:
                client = stack.enter_context(self._lease(deadline))
                sent.sent = True
                batches = stack.enter_context(closing(work(client, deadline.within(None))))
                return chain([next(batches, [])], batches)

            batches = self.guard.call(open_stream, deadline=deadline, safety=safety, doing=doing)
            with self.guard.translating(deadline=deadline, safety=Safety.READ, doing=doing):
                watch.pause()
                yield timed(batches, watch)

    def _safety(self, said: Safety | None, spec: Document) -> Safety:
        reads = self.settings.read_only or self.engine.only_reads(spec)
        return said or (Safety.READ if reads else Safety.WRITE)

    def _redacted(self, statement: Document) -> str:
        return redacted(statement)
