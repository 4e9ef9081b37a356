"""MongoDB through pymongo's client and pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from itertools import islice
from typing import Any

import bson
import pymongo
from bson import ObjectId
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument
from pymongo import ReadPreference
from pymongo.errors import (
    AutoReconnect,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)

from katax_cli.core.clock import SYSTEM
from katax_cli.core.engine_names import EngineName
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.resilience.failure import Failure
from katax_cli.core.settings import ConnectionSettings
from katax_cli.engines.base import Table, TableDescription
from katax_cli.engines.documents import EVERYTHING, Batches, Changed, Document, DocumentQuery, Pipeline
from katax_cli.engines.mongodb import catalog, connect, failures, guard
from katax_cli.engines.mongodb.pool_events import PoolWatch, RunningWatch, SendWatch, listener_of
from katax_cli.errors import PoolTimeout
from katax_cli.snapshot import PoolStats

_NEW = object()
_NOT_IN_MATCH = ("$where", "$near", "$nearsphere")
_BATCH_BYTES = 8 * 1024 * 1024
# Dates that Python does not have come as a number of milliseconds.
_ANY_DATE = CodecOptions[dict[str, Any]](datetime_conversion=DatetimeConversion.DATETIME_AUTO)
ANY_TYPE = _ANY_DATE.with_options(tz_aware=True)
"""Dates with the time zone UTC; of what Python has no date for, the number."""
_RAW = CodecOptions(document_class=RawBSONDocument)

# pymongo sends what remains as maxTimeMS, a 32-bit number: 23 days stand for "no limit".
_NO_LIMIT = 2_000_000.0
_SHORTEST = 0.001  # 0 would mean: no limit
_CLOSE_WITHIN = 0.25
_LEFT_OUT_OF_STATUS = ("asserts", "locks", "metrics", "opcounters", "repl", "tcmalloc", "wiredTiger")


class MongoEngine:
    """Implements Engine, DocumentEngine, Introspects and ReportsServer; see those for what methods promise."""

    name: EngineName = "mongodb"
    batch_size = 1000

    def __init__(self, settings: ConnectionSettings) -> None:
        self.settings = settings

    def connect(self, timeout: float | None) -> Any:
        """A client that has answered one ping; one login attempt.

        `timeout` also bounds each later answer for which `attempt` or `command` say nothing else.
        """
        client = connect.client(self.settings, timeout)
        try:
            with self._translated(client):
                self._knock(client, timeout)
        except BaseException:
            self.close(client)
            raise
        return client

    def ping(self, connection: Any, timeout: float | None) -> None:
        with self.attempt(connection, timeout):
            connection.admin.command("ping")

    def close(self, connection: Any) -> None:
        # pymongo tells the server which sessions end; a server that does not listen is not waited for.
        with pymongo.timeout(_CLOSE_WITHIN):
            connection.close()

    def classify(self, error: BaseException) -> Failure:
        return failures.classify(error)

    def command(
        self,
        client: Any,
        spec: Mapping[str, Any],
        timeout: float | None = None,
        *,
        database: str | None = None,
    ) -> Mapping[str, Any]:
        self._check(spec)
        limited = self.attempt if self.only_reads(spec) else self._writing
        with limited(client, timeout):
            answer: Mapping[str, Any] = self._database(client, database).command(
                dict(spec), codec_options=_ANY_DATE
            )
            failures.check_writes(answer)
        return answer

    def only_reads(self, spec: Mapping[str, Any]) -> bool:
        return not guard.may_write(spec)

    def find(
        self, client: Any, collection: str, query: DocumentQuery = EVERYTHING, *, timeout: float | None = None
    ) -> Batches:
        self._check({"find": collection, "filter": query.filter})
        return self._batches(
            client,
            lambda database: _place(database[collection], query).find(
                query.filter,
                projection=query.projection,
                sort=list(query.sort) or None,
                skip=query.skip,
                limit=query.limit,
                batch_size=self.batch_size,
            ),
            timeout,
            raw=query.raw,
        )

    def aggregate(
        self, client: Any, collection: str, pipeline: Pipeline, *, timeout: float | None = None
    ) -> Batches:
        spec = {"aggregate": collection, "pipeline": list(pipeline)}
        self._check(spec)
        return self._batches(
            client,
            lambda database: database[collection].aggregate(list(pipeline), batchSize=self.batch_size),
            timeout,
            writing=not self.only_reads(spec),
        )

    def count(self, client: Any, collection: str, filter: Document, timeout: float | None = None) -> int:
        spec = {"count": collection, "query": filter}
        self._check(spec)
        with self.attempt(client, timeout):
            database = self._database(client, None)
            if guard.first_key(filter, _NOT_IN_MATCH):
                return int(database.command(spec)["n"])
            # Exact after a crash too, which the command is not.
            return int(database[collection].count_documents(filter))

    def insert(
        self, client: Any, collection: str, documents: Sequence[Document], timeout: float | None = None
    ) -> list[Any]:
        self._check({"insert": collection})
        # Encoded before anything is sent: what is no BSON, or too large, is refused with all others.
        ids = [document.get("_id", _NEW) for document in documents]
        ids = [ObjectId() if id is _NEW else id for id in ids]
        encoded = [
            RawBSONDocument(bson.encode({"_id": id, **document}))
            for id, document in zip(ids, documents, strict=True)
        ]
        failures.refuse_large([len(document.raw) for document in encoded])
        with self._writing(client, timeout):
            self._database(client, None)[collection].insert_many(encoded)
        return ids

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
        self._check({"update": collection})
        with self._writing(client, timeout):
            target = self._database(client, None)[collection]
            result = (target.update_one if one else target.update_many)(filter, change)
        return Changed(result.matched_count, result.modified_count)

    def delete(
        self,
        client: Any,
        collection: str,
        filter: Document,
        timeout: float | None = None,
        *,
        one: bool = False,
    ) -> int:
        self._check({"delete": collection})
        with self._writing(client, timeout):
            target = self._database(client, None)[collection]
            return int((target.delete_one if one else target.delete_many)(filter).deleted_count)

    def cancel(self, client: Any, timeout: float) -> None:
        """A user may always kill sessions of their own: what runs in them, and their cursors."""
        sessions = listener_of(client, RunningWatch).sessions()
        if sessions:
            with suppress(PyMongoError), pymongo.timeout(timeout):
                client.admin.command({"killSessions": sessions})

    @contextmanager
    def _writing(self, client: Any, timeout: float | None) -> Iterator[None]:
        """As `attempt`; a write of many documents that a limit ended, or that failed between two of its commands,
        raises PartlyDone.
        """
        try:
            with self.attempt(client, timeout):
                yield
        except (PyMongoError, PoolTimeout) as error:
            if failures.may_be_partly_done(error, sent=SendWatch.sent(), answered=SendWatch.answered()):
                raise failures.PartlyDone(str(error)) from error
            raise

    @contextmanager
    def attempt(self, client: Any, timeout: float | None) -> Iterator[None]:
        """Any calls on the client together take `timeout` at most, on the server too.

        Raises PoolTimeout when no connection became free, MongoNotSent when none could be opened.
        """
        with self._translated(client):
            if not client.topology_description.has_readable_server():
                self._knock(client, timeout)
            with _limited(timeout):
                yield

    @contextmanager
    def _translated(self, client: Any) -> Iterator[None]:
        SendWatch.forget()
        began = SYSTEM.monotonic()
        try:
            yield
        except WaitQueueTimeoutError as error:
            raise self._exhausted(client, SYSTEM.monotonic() - began) from error
        except AutoReconnect as error:
            if SendWatch.sent() or isinstance(error, NotPrimaryError | ServerSelectionTimeoutError):
                raise
            raise failures.MongoNotSent(str(error)) from error

    def _knock(self, client: Any, timeout: float | None) -> None:
        """A server that is gone is waited for as long as connecting may take, not for all the caller's time."""
        try:
            with _limited(connect.connecting(self.settings, timeout)):
                client.admin.command("ping")
        finally:
            # This ping is not the caller's command.
            SendWatch.forget()

    def opened(self, client: Any) -> int:
        return listener_of(client, PoolWatch).opened()

    def pool_stats(self, client: Any) -> PoolStats:
        return listener_of(client, PoolWatch).stats()

    def tables(self, connection: Any, timeout: float | None = None) -> list[Table]:
        with self.attempt(connection, timeout):
            return catalog.tables(self._database(connection, None))

    def describe(self, connection: Any, name: str, timeout: float | None = None) -> TableDescription | None:
        """A collection of the profile's database, or `database.collection`."""
        database, dot, collection = name.partition(".")
        with self.attempt(connection, timeout):
            description = catalog.describe(self._database(connection, None), name)
            if description is None and dot and collection:
                description = catalog.describe(connection[database], collection)
        return description

    def server(self, connection: Any, timeout: float | None = None) -> Mapping[str, object]:
        """Version and role; connections, memory in bytes and uptime in seconds where the user may ask."""
        leave_out = dict.fromkeys(_LEFT_OUT_OF_STATUS, 0)
        try:
            status = self.command(connection, {"serverStatus": 1, **leave_out}, timeout, database="admin")
        except OperationFailure:
            status = self.command(connection, {"buildInfo": 1}, timeout, database="admin")
        return {**_facts(status), "role": _role(connection)}

    def _batches(
        self,
        client: Any,
        open_cursor: Callable[[Any], Any],
        timeout: float | None,
        *,
        writing: bool = False,
        raw: bool = False,
    ) -> Batches:
        deadline = Deadline(timeout)
        limited = self._writing if writing else self.attempt
        with limited(client, deadline.within(None)):
            cursor = open_cursor(self._database(client, None).with_options(codec_options=_RAW))
        with closing(cursor):
            while True:
                # Limited batch by batch: between them the caller's own code runs.
                with self.attempt(client, deadline.within(None)):
                    batch = [
                        document if raw else bson.decode(document.raw, ANY_TYPE)
                        for document in _some(cursor, self.batch_size)
                    ]
                if not batch:
                    return
                yield batch

    def _database(self, client: Any, name: str | None) -> Any:
        return client[name or connect.database_name(self.settings)]

    def _check(self, spec: Mapping[str, Any]) -> None:
        if self.settings.read_only:
            guard.check(spec, self.settings.name)

    def _exhausted(self, client: Any, waited: float) -> PoolTimeout:
        now = self.pool_stats(client)
        return PoolTimeout(
            self.settings.name, waited=waited, active=now.active, max=now.max, waiting=now.waiting
        )


def _place(collection: Any, query: DocumentQuery) -> Any:
    return collection.with_options(read_preference=ReadPreference.PRIMARY) if query.primary else collection


def _some(cursor: Any, most: int) -> Iterator[Any]:
    """The next documents, fewer when they are large."""
    size = 0
    for document in islice(cursor, most):
        yield document
        size += len(document.raw)
        if size > _BATCH_BYTES:
            return


def _limited(timeout: float | None) -> AbstractContextManager[None]:
    return pymongo.timeout(_NO_LIMIT if timeout is None else max(timeout, _SHORTEST))


_ROLES = {
    "Standalone": "standalone",
    "RSPrimary": "primary",
    "RSSecondary": "secondary",
    "RSArbiter": "arbiter",
    "Mongos": "mongos",
    "LoadBalancer": "load balancer",
}


def _role(client: Any) -> str:
    """As pymongo's monitor saw it last: the best of the servers."""
    seen = {server.server_type_name for server in client.topology_description.server_descriptions().values()}
    return next((role for kind, role in _ROLES.items() if kind in seen), "unknown")


def _facts(status: Mapping[str, Any]) -> dict[str, object]:
    facts: dict[str, object] = {"version": status["version"]}
    if connections := status.get("connections"):
        facts["connections"] = connections["current"]
        facts["max_connections"] = connections["current"] + connections["available"]
    if "uptime" in status:
        facts["uptime_seconds"] = int(status["uptime"])
    if resident := status.get("mem", {}).get("resident"):
        facts["memory_bytes"] = resident * 1024 * 1024
    return facts


def create(settings: ConnectionSettings) -> MongoEngine:
    """The engine for one connection; connects nowhere yet."""
    return MongoEngine(settings)
