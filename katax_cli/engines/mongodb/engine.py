"""MongoDB through pymongo's client and pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from itertools import islice
from typing import Any

import pymongo
from pymongo.errors import (
    AutoReconnect,
    NotPrimaryError,
    OperationFailure,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)

from katax_cli.core.clock import SYSTEM
from katax_cli.core.engine_names import EngineName
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.resilience.failure import Failure
from katax_cli.core.settings import ConnectionSettings
from katax_cli.engines.base import Table, TableDescription
from katax_cli.engines.mongodb import catalog, connect, failures, guard
from katax_cli.engines.mongodb.pool_events import SendWatch, pool_watch
from katax_cli.errors import PoolTimeout
from katax_cli.snapshot import PoolStats

BATCH_SIZE = 1000
Document = dict[str, Any]
Pipeline = Sequence[Mapping[str, Any]]
Sort = Sequence[tuple[str, int]]

# pymongo sends what remains as maxTimeMS, a 32-bit number: 23 days stand for "no limit".
_NO_LIMIT = 2_000_000.0
_SHORTEST = 0.001  # 0 would mean: no limit
_CLOSE_WITHIN = 0.25
_LEFT_OUT_OF_STATUS = ("asserts", "locks", "metrics", "opcounters", "repl", "tcmalloc", "wiredTiger")


class MongoEngine:
    """Implements Engine, DocumentEngine, Introspects and ReportsServer; see those for what methods promise."""

    name: EngineName = "mongodb"

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
        with self.attempt(client, timeout):
            answer: Mapping[str, Any] = self._database(client, database).command(dict(spec))
        return answer

    def find(
        self,
        client: Any,
        collection: str,
        filter: Mapping[str, Any] | None = None,
        *,
        database: str | None = None,
        projection: Mapping[str, Any] | None = None,
        sort: Sort | None = None,
        skip: int = 0,
        limit: int = 0,
        batch_size: int = BATCH_SIZE,
        timeout: float | None = None,
    ) -> Iterator[list[Document]]:
        """The documents in batches, in constant memory; `timeout` is for all of them together.

        Closing the iterator early ends the query on the server too.
        """
        target = self._database(client, database)[collection]
        options = {"projection": projection, "sort": sort, "skip": skip, "limit": limit}
        return self._batches(client, lambda: target.find(filter, **options), batch_size, timeout)

    def aggregate(
        self,
        client: Any,
        collection: str,
        pipeline: Pipeline,
        *,
        database: str | None = None,
        batch_size: int = BATCH_SIZE,
        timeout: float | None = None,
    ) -> Iterator[list[Document]]:
        """The result in batches, as `find`. On a read-only connection raises Refused for $out and $merge."""
        self._check({"aggregate": collection, "pipeline": list(pipeline)})
        target = self._database(client, database)[collection]
        return self._batches(client, lambda: target.aggregate(list(pipeline)), batch_size, timeout)

    @contextmanager
    def attempt(self, client: Any, timeout: float | None) -> Iterator[None]:
        """Any calls on the client together take `timeout` at most, on the server too.

        Raises PoolTimeout when no connection became free, NotSent when none could be opened.
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
            raise failures.NotSent(str(error)) from error

    def _knock(self, client: Any, timeout: float | None) -> None:
        """A server that is gone is waited for as long as connecting may take, not for all the caller's time."""
        try:
            with _limited(connect.connecting(self.settings, timeout)):
                client.admin.command("ping")
        finally:
            # This ping is not the caller's command.
            SendWatch.forget()

    def opened(self, client: Any) -> int:
        return pool_watch(client).opened()

    def pool_stats(self, client: Any) -> PoolStats:
        return pool_watch(client).stats()

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
        self, client: Any, open_cursor: Callable[[], Any], size: int, timeout: float | None
    ) -> Iterator[list[Document]]:
        deadline = Deadline(timeout)
        with self.attempt(client, deadline.within(None)):
            cursor = open_cursor().batch_size(size)
        with closing(cursor):
            while True:
                # Limited batch by batch: between them the caller's own code runs.
                with self.attempt(client, deadline.within(None)):
                    batch = list(islice(cursor, size))
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
