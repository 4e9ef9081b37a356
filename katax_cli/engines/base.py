"""The abilities of an engine: one small required Protocol, and one for each ability that has a caller.

An engine is made from the settings of one connection and holds no connection itself; it opens, uses and
closes the ones it is handed. An engine without an ability does not have its methods, and the services say
so (`require`). Timeouts are float seconds; None means no limit. Methods raise their driver's errors;
`classify` says what those mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

from katax_cli.core.engine_names import Dialect, EngineName
from katax_cli.core.resilience.failure import Failure
from katax_cli.core.settings import ConnectionSettings
from katax_cli.errors import WrongEngine

if TYPE_CHECKING:
    from socket import socket

    from katax_cli.core.sql import AnySql, Residue
    from katax_cli.snapshot import HealthStatus, PoolStats

Text = bool | Literal["json"]
"""Which values come as the server writes them: none, all, or those of JSON columns (see `core.text.RawJson`)."""
Params = Sequence[object] | Mapping[str, object] | None
Row = tuple[Any, ...]


class SessionRemains(Exception):
    """A connection whose session no reset makes like new: it is to be closed."""


class Engine(Protocol):
    """The methods that every engine has."""

    name: EngineName
    settings: ConnectionSettings

    def connect(self, timeout: float | None) -> Any:
        """Opens a connection (MongoDB, Redis: a client with the driver's pool that has answered once).

        Makes one attempt, on the caller's thread. Name lookups cannot be interrupted, so the caller bounds
        the call from outside; everything else ends within `timeout`. On a read-only connection the server
        session is set read-only here, where the server has such a thing, and read back.
        """
        ...

    def ping(self, connection: Any, timeout: float | None) -> None:
        """One round trip to the server that does nothing."""
        ...

    def close(self, connection: Any) -> None:
        """Closes; never raises, never waits for the server."""
        ...

    def classify(self, error: BaseException) -> Failure:
        """Says by code what a driver's error means; `FailureKind.UNKNOWN` for anything else."""
        ...


class Result(NamedTuple):
    """The result of a statement: column names (none: no rows), rows, rows affected (-1: not known).

    `told`: what the server says of it in words, as MySQL does of an UPDATE: `Rows matched: 1  Changed: 0  Warnings: 0`.
    """

    columns: tuple[str, ...]
    rows: list[Row]
    affected: int
    told: bytes = b""


class RowStream(Protocol):
    """Rows of one statement as they arrive, in batches, in constant memory. Closed by its context manager."""

    columns: tuple[str, ...]
    affected: int

    def __iter__(self) -> Iterator[list[Row]]: ...


class SqlFacts(NamedTuple):
    """The differences of dialects, as strings."""

    begin: str
    begin_read_only: str
    now_ms: str
    """The server's clock as a whole number of milliseconds since the epoch."""
    now_us: str
    """The same of microseconds."""
    savepoint: str = "SAVEPOINT {name}"
    rollback_to: str = "ROLLBACK TO SAVEPOINT {name}"
    release: str = "RELEASE SAVEPOINT {name}"
    idle_limit: str | None = None
    """Lets the server end this transaction when it idles for `{seconds}` seconds; None where no server can."""
    begin_as: tuple[str, ...] = ()
    """The statements that begin a transaction of an isolation level `{}`; none where there is only one level."""
    deferrable: bool = False
    """True where a read-only transaction may wait until it cannot fail."""


@runtime_checkable
class SqlEngine(Engine, Protocol):
    """Runs SQL. A connection serves one thread at a time, in autocommit mode unless a statement begins."""

    dialect: Dialect
    facts: SqlFacts

    def execute(
        self, connection: Any, sql: AnySql, params: Params = None, timeout: float | None = None
    ) -> Result:
        """Runs one statement and returns all its rows. `timeout` is also the server's."""
        ...

    def execute_many(
        self, connection: Any, sql: AnySql, rows: Sequence[Params], timeout: float | None = None
    ) -> int:
        """Runs one statement for each of `rows`, pipelined or batched; returns rows affected."""
        ...

    def stream(
        self,
        connection: Any,
        sql: AnySql,
        params: Params = None,
        timeout: float | None = None,
        *,
        text: Text = False,
    ) -> AbstractContextManager[RowStream]:
        """Runs one statement, hands out its rows in batches; with `text`, values as the server writes them.

        Leaving the context early ends the statement on the server too.
        """
        ...

    def in_transaction(self, connection: Any) -> bool:
        """True while a transaction is open on the connection (no round trip)."""
        ...

    def undo(self, connection: Any) -> None:
        """Rolls back what is open; raises when the connection is broken."""
        ...

    def mark(self, connection: Any, residue: Residue) -> None:
        """Lets the next `reset` clear at least so much, whatever statements were run."""
        ...

    def needs_reset(self, connection: Any) -> bool:
        """True when a transaction is open, or a statement may have changed the session (no round trip)."""
        ...

    def reset(self, connection: Any) -> None:
        """Makes a used connection like new: rolls back, and clears what statements may have left in its session.

        Settings that the connection was opened with are set again; read-only is read back. Raises when it is
        broken, or cannot be made like new: then it is to be closed.
        """
        ...

    def is_broken(self, connection: Any) -> bool:
        """True when the driver knows already that the connection is dead (no round trip)."""
        ...

    def cancel(self, connection: Any, timeout: float) -> None:
        """Ends the statement that runs on `connection`, from another thread; never raises."""
        ...

    def interrupt(self, connection: Any) -> None:
        """Makes the call under way return at once, from another thread; may break the connection."""
        ...


@runtime_checkable
class ReadOnlyGuard(Protocol):
    """Lets the server refuse writes."""

    def read_only(self, connection: Any, characteristics: str = "") -> AbstractContextManager[None]:
        """A read-only transaction, read back from the server; `characteristics` as SET TRANSACTION has them.

        Always rolled back. Raises Refused when the server does not confirm that it is read-only.
        """
        ...


@runtime_checkable
class CopiesIn(Protocol):
    """Takes rows by COPY."""

    def copy_rows(self, connection: Any, sql: str, rows: Iterable[Sequence[object]]) -> int:
        """Runs `COPY … FROM stdin` with values, without a time limit; returns how many rows there were."""
        ...

    def copy_text(self, connection: Any, sql: str, text: str) -> int:
        """The same with lines in the format that the statement names."""
        ...

    def refused_row(self, error: BaseException | None) -> int | None:
        """The refused row of a COPY, counted from 1; None when the error does not name it."""
        ...


class Table(NamedTuple):
    """A table, view or collection. Row count and size are the server's estimates, None where it has none."""

    schema: str | None
    name: str
    kind: Literal["table", "view", "materialized view", "foreign table", "partitioned table", "collection"]
    rows_estimate: int | None
    size_bytes: int | None


class TableColumn(NamedTuple):
    """A column (MongoDB: a field seen in a sample, its types joined with `|`)."""

    name: str
    type: str
    nullable: bool
    default: str | None
    key: Literal["primary", "unique", "foreign", "index"] | None
    references: str | None = None


class Index(NamedTuple):
    """An index and the columns it covers in order."""

    name: str
    columns: tuple[str, ...]
    unique: bool
    definition: str | None = None


class TableDescription(NamedTuple):
    """A table with what is in it."""

    table: Table
    columns: tuple[TableColumn, ...]
    indexes: tuple[Index, ...]


@runtime_checkable
class AsksForTls(Protocol):
    """Begins in the clear: TLS is asked for on a connection that is open."""

    def ask_for_tls(self, wire: socket) -> None:
        """Leaves the socket where the handshake begins. Raises OSError and ValueError for a server without TLS."""
        ...


@runtime_checkable
class GreetsAnew(Protocol):
    """Says something to everybody who connects, before a login."""

    def greets(self, connection: Any, seconds: float) -> bool:
        """False when the server of an open connection, used by another thread, says nothing to a new one in time."""
        ...


@runtime_checkable
class Introspects(Protocol):
    """Knows what tables there are."""

    def tables(self, connection: Any, timeout: float | None = None) -> list[Table]:
        """User tables and views, sorted by schema and name."""
        ...

    def describe(self, connection: Any, name: str, timeout: float | None = None) -> TableDescription | None:
        """One table by `name` or `schema.name`; None when there is none."""
        ...


@runtime_checkable
class ReportsServer(Protocol):
    """Says what server is at the other end."""

    def server(self, connection: Any, timeout: float | None = None) -> Mapping[str, object]:
        """At least `version`; for health reports. Cheap: one round trip."""
        ...


@runtime_checkable
class FailsTransactions(Protocol):
    """Refuses all that follows in a transaction after a statement of it failed."""

    def transaction_failed(self, connection: Any) -> bool:
        """True while only a rollback is taken (no round trip)."""
        ...


class Serving(NamedTuple):
    """The share of its data that a server of several parts can serve, and the missing parts."""

    status: HealthStatus
    message: str | None = None


@runtime_checkable
class ReportsServing(Protocol):
    """Reports whether all parts of the server work; for health reports."""

    def serving(self, connection: Any, timeout: float | None = None) -> Serving | None:
        """None for a server that is only one. One round trip."""
        ...


class ReportsMetrics(Protocol):
    """Says how much the server has to do; made by `create(engine)` of the engine's module `metrics`."""

    def metrics(self, connection: Any, timeout: float | None = None) -> Mapping[str, object]:
        """Numbers under the keys of `katax db metrics`; None where this server does not count."""
        ...


class SlowQuery(NamedTuple):
    """A statement as the server remembers it, without values: how often it ran and how long it took."""

    query: str
    calls: int
    avg_ms: float
    max_ms: float
    total_ms: float
    last_seen: datetime | None = None


@runtime_checkable
class SlowQueries(Protocol):
    """Remembers statements that took long; part of the engine's module `metrics` where there is such a thing."""

    def slow_queries(self, connection: Any, over_ms: float, timeout: float | None = None) -> list[SlowQuery]:
        """Those that took at least so many milliseconds once, the longest first.

        Raises ConfigError when this server keeps none, saying how it would.
        """
        ...


class PoolingEngine(Engine, Protocol):
    """An engine whose driver's client pools its own connections."""

    def opened(self, client: Any) -> int:
        """Connections opened so far."""
        ...

    def pool_stats(self, client: Any) -> PoolStats: ...


@runtime_checkable
class KeyValueEngine(PoolingEngine, Protocol):
    """Runs Redis commands through the driver's client."""

    def command(self, client: Any, *args: bytes | str | int | float, timeout: float | None = None) -> Any:
        """Runs one command; replies are bytes, int, list, None. On a read-only connection raises Refused."""
        ...

    def pipeline(
        self,
        client: Any,
        commands: Sequence[Sequence[bytes | str | int | float]],
        timeout: float | None = None,
        *,
        tolerant: bool = False,
    ) -> list[Any]:
        """Runs commands of one key each in one round trip to each server; replies in order.

        What the server refused raises once all are answered, or with `tolerant` stands there as a Failure.
        """
        ...

    def only_reads(self, command: Sequence[bytes | str | int | float]) -> bool:
        """True for a command that is known to change nothing; no round trip."""
        ...

    def shards(self, client: Any) -> Sequence[Any]:
        """A client for each server that owns keys, for what is asked of every one of them."""
        ...

    def maintain(self, client: Any, *, fill: bool) -> None:
        """Closes idle connections past their limits; with `fill` opens the fewest that a pool shall hold."""
        ...

    def discard(self, client: Any, before: float) -> None:
        """Ends connections opened before that moment of the monotonic clock: those in use when they come back."""
        ...


A = TypeVar("A")


def require(engine: Engine, ability: type[A], *, lacks: str, wanted_by: str, works_on: Sequence[str]) -> A:
    """Returns the engine as one that has `ability`; raises WrongEngine naming those that have it."""
    if not isinstance(engine, ability):
        raise WrongEngine(engine.name, lacks, wanted_by=wanted_by, works_on=works_on)
    return engine
