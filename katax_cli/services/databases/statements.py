"""The statements of a database and of an open transaction alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from katax_cli.core import forks
from katax_cli.core.engine_names import Dialect
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.sql import AnySql, Statement, statement_of
from katax_cli.core.text.duration import Duration
from katax_cli.core.text.text import unique_names
from katax_cli.engines.base import Params, Result, RowStream, SqlEngine, Text
from katax_cli.errors import KataxError
from katax_cli.services.calls.observer import Watch, WatchedStream
from katax_cli.services.databases.origin import TransactionOrigin

if TYPE_CHECKING:
    from katax_cli.services.databases.builder.builder import Builder
    from katax_cli.services.databases.models.model import Model

R = TypeVar("R")


class Queries(ABC):
    """Statements, however they are run.

    Placeholders are `$1`, `?` or `:name`, on every engine. `timeout` is seconds for the whole call.
    """

    engine: SqlEngine

    @property
    def ended(self) -> bool:
        """True for what can run no statement any more because its transaction has ended."""
        return False

    @property
    def dialect(self) -> Dialect:
        """The SQL that the server speaks."""
        return self.engine.dialect

    @abstractmethod
    def run(
        self, sql: AnySql, params: Params = None, *, timeout: Duration | None = None, idempotent: bool = False
    ) -> Result:
        """Runs one statement and returns columns, rows and rows affected."""

    @abstractmethod
    def execute_many(self, sql: AnySql, rows: Sequence[Params], *, timeout: Duration | None = None) -> int:
        """Runs one statement once for each of `rows`; returns rows affected."""

    def query(
        self, sql: AnySql, params: Params = None, *, timeout: Duration | None = None, idempotent: bool = False
    ) -> list[dict[str, Any]]:
        """The rows of one statement as dicts; columns of the same name become `a`, `a_2`."""
        result = self.run(sql, params, timeout=timeout, idempotent=idempotent)
        names = unique_names(result.columns)
        # Without a frame or a keyword for each row: a third less than a comprehension.
        return list(map(dict, map(zip, repeat(names), result.rows)))

    def execute(
        self, sql: AnySql, params: Params = None, *, timeout: Duration | None = None, idempotent: bool = False
    ) -> int:
        """Runs one statement; returns rows affected (-1 when the server does not say)."""
        return self.run(sql, params, timeout=timeout, idempotent=idempotent).affected

    def one(
        self, sql: AnySql, params: Params = None, *, timeout: Duration | None = None, idempotent: bool = False
    ) -> dict[str, Any] | None:
        """The only row of one statement; None when there is none.

        Raises ValueError when there are several; what the statement wrote is written then.
        """
        rows = self.query(sql, params, timeout=timeout, idempotent=idempotent)
        if len(rows) > 1:
            raise ValueError(f"one() got {len(rows)} rows; add LIMIT 1, or use query()")
        return rows[0] if rows else None

    def scalar(
        self, sql: AnySql, params: Params = None, *, timeout: Duration | None = None, idempotent: bool = False
    ) -> Any:
        """The only value of one statement: `scalar("select count(*) from users")`; None when there is no row.

        Raises ValueError when there are several rows or columns; what the statement wrote is written then.
        """
        result = self.run(sql, params, timeout=timeout, idempotent=idempotent)
        if len(result.rows) > 1 or len(result.columns) != 1:
            raise ValueError(
                f"scalar() got {len(result.rows)} rows of {len(result.columns)} columns; "
                "select one value, or use query()"
            )
        return result.rows[0][0] if result.rows else None

    def raw(
        self, sql: AnySql, params: Params = None, *, timeout: Duration | None = None
    ) -> list[dict[str, Any]]:
        """The same as `query`, for SQL that no builder writes."""
        return self.query(sql, params, timeout=timeout)

    def table(self, name: str, alias: str | None = None) -> Builder:
        """A query on a table, built by calls; see `Builder`. Raises ValueError for what is no name."""
        from katax_cli.services.databases.builder.builder import Builder

        return Builder(name, alias, on=self)

    def model(self, name: str, *, timeout: Duration | None = None) -> type[Model]:
        """A model of a table as the server describes it now, bound to this; to be kept, for it asks the catalogue.

        A column whose name a model has for something else gets an underscore. Raises ConfigError without such a
        table, and for one without a primary key.
        """
        from katax_cli.services.databases.models.reflection import reflected

        return reflected(self, name, timeout=timeout)

    def repository(self, kind: Callable[[Self], R]) -> R:
        """A repository of this class, for the rows here: `db.repository(UserRepository)`."""
        return kind(self)

    def together(self, *, timeout: Duration | None = None) -> AbstractContextManager[Queries]:
        """A context for several statements on one connection, all or none of them."""
        return nullcontext(self)

    def prepare(self, sql: AnySql) -> PreparedStatement:
        """A statement to be executed again and again; the driver prepares it on the server where it pays."""
        return PreparedStatement(self, statement_of(sql, self.dialect))


class ConnectionQueries(Queries):
    """Statements on one connection that is kept, all of them within one deadline."""

    _again = "open another"

    def __init__(self, origin: TransactionOrigin, connection: Any, deadline: Deadline) -> None:
        self.engine = origin.engine
        self.deadline = deadline
        self._origin = origin
        self._connection = connection
        self._forks = forks.depth

    @property
    def is_inherited(self) -> bool:
        """True in a child made by fork: the connection is the parent's, which goes on with it."""
        return self._forks != forks.depth

    def _refuse_after_end(self) -> None:
        """The connection may be another caller's by now."""
        if self.ended:
            what = f"the {type(self).__name__.lower()} on {self.engine.settings.name!r}"
            why = "belongs to the parent of this process" if self.is_inherited else "has ended"
            raise KataxError(f"{what} {why}; {self._again}, or ask the database")

    def interrupt(self) -> None:
        """Breaks the connection, so that what another thread or task runs on it fails."""
        self.engine.interrupt(self._connection)

    def run(
        self, sql: AnySql, params: Params = None, *, timeout: Duration | None = None, idempotent: bool = False
    ) -> Result:
        statement = statement_of(sql, self.dialect)
        with self._statement(statement, params, timeout) as (_, seconds):
            return self.engine.execute(self._connection, statement, params, seconds)

    def execute_many(self, sql: AnySql, rows: Sequence[Params], *, timeout: Duration | None = None) -> int:
        statement = statement_of(sql, self.dialect)
        with self._statement(statement, rows, timeout) as (_, seconds):
            return self.engine.execute_many(self._connection, statement, rows, seconds)

    @contextmanager
    def stream(
        self, sql: AnySql, params: Params = None, *, timeout: Duration | None = None, text: Text = False
    ) -> Iterator[RowStream]:
        """Rows in batches as they arrive; one stream at a time."""
        statement = statement_of(sql, self.dialect)
        with (
            self._statement(statement, params, timeout) as (watch, seconds),
            self.engine.stream(self._connection, statement, params, seconds, text=text) as rows,
            WatchedStream(rows, watch) as watched,
        ):
            yield watched

    @abstractmethod
    def _statement(
        self, statement: Statement, params: object, timeout: Duration | None = None
    ) -> AbstractContextManager[tuple[Watch, float | None]]:
        """Around each statement: refuses what may not run, observes it, and gives errors their meaning; gives its watch
        and the seconds that it may take."""


class PreparedStatement(NamedTuple):
    """A statement bound to where it runs."""

    on: Queries
    sql: Statement

    def execute(self, params: Params = None, *, timeout: Duration | None = None) -> list[dict[str, Any]]:
        """Its rows with these parameters."""
        return self.on.query(self.sql, params, timeout=timeout)
