"""Queries built by calls, for tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Generic, ParamSpec, Self, TypeVar

from katax_cli.aio.own_loop import OwnLoop
from katax_cli.core.text.duration import Duration
from katax_cli.engines.documents import Document
from katax_cli.services.databases.builder.builder import Builder
from katax_cli.services.databases.builder.documents import DocumentBuilder
from katax_cli.services.databases.builder.selection import ConditionGroup, Page, Row

P = ParamSpec("P")
T = TypeVar("T")
B = TypeVar("B", Builder, DocumentBuilder)


class _AsyncQuery(Generic[B]):
    """A query that grows by calls, each of which returns a new one; its last call is awaited."""

    def __init__(self, builder: B, home: OwnLoop, turn: asyncio.Lock | None = None) -> None:
        self._builder: B = builder
        self._home = home
        self._turn = turn

    @property
    def wraps(self) -> B:
        """The builder behind it, which knows the statement."""
        return self._builder

    def select(self, *columns: str) -> Self:
        """These columns or fields too; none at all means all of them."""
        return self._grown(self._builder.select(*columns))

    def where(self, column: str | ConditionGroup, *rest: Any) -> Self:
        """`where("age", 18)` or `where("age", ">=", 18)`; several hold together. `where(any_of(…))` takes a group."""
        return self._grown(self._builder.where(column, *rest))

    def where_any(self, *conditions: Sequence[Any] | ConditionGroup) -> Self:
        """One of them holds, beside what holds already: `where_any(("age", ">", 65), ("role", "admin"))`."""
        return self._grown(self._builder.where_any(*conditions))

    def where_in(self, column: str, values: Iterable[Any]) -> Self:
        """One of the values; of no values, nothing."""
        return self._grown(self._builder.where_in(column, values))

    def order_by(self, column: str, direction: str = "asc") -> Self:
        """By this column, "asc" or "desc"; several one after the other."""
        return self._grown(self._builder.order_by(column, direction))

    def limit(self, rows: int) -> Self:
        """At most so many."""
        return self._grown(self._builder.limit(rows))

    def offset(self, rows: int) -> Self:
        """Without the first so many."""
        return self._grown(self._builder.offset(rows))

    async def all(self, *, timeout: Duration | None = None) -> list[Row]:
        """The rows or documents as dicts."""
        return await self._run(self._builder.all, timeout=timeout)

    async def execute(self, *, timeout: Duration | None = None) -> list[Row]:
        """The same as `all`."""
        return await self.all(timeout=timeout)

    async def first(self, *, timeout: Duration | None = None) -> Row | None:
        """The first one; None when there is none."""
        return await self._run(self._builder.first, timeout=timeout)

    async def count(self, *, timeout: Duration | None = None) -> int:
        """How many there are, whatever the limit."""
        return await self._run(self._builder.count, timeout=timeout)

    async def paginate(self, page: int = 1, size: int = 20, *, timeout: Duration | None = None) -> Page:
        """One page and the number of all, asked one after the other; order them, or pages overlap."""
        return await self._run(self._builder.paginate, page, size, timeout=timeout)

    async def create_many(self, rows: Sequence[Mapping[str, Any]], *, timeout: Duration | None = None) -> int:
        """Inserts rows, of the same columns and all or none, or documents in order; returns how many."""
        return await self._run(self._builder.create_many, rows, timeout=timeout)

    async def update(
        self, values: Mapping[str, Any], *, everywhere: bool = False, timeout: Duration | None = None
    ) -> int:
        """Changes what meets `where`; returns how many. Raises Refused without `where` unless `everywhere`."""
        return await self._run(self._builder.update, values, everywhere=everywhere, timeout=timeout)

    async def delete(self, *, everywhere: bool = False, timeout: Duration | None = None) -> int:
        """Deletes what meets `where`; returns how many. Raises Refused without `where` unless `everywhere`."""
        return await self._run(self._builder.delete, everywhere=everywhere, timeout=timeout)

    def _grown(self, builder: B) -> Self:
        return type(self)(builder, self._home, self._turn)

    async def _run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs the last call; in a transaction when its turn has come."""
        async with self._turn or nullcontext():
            return await self._home.call(fn, *args, **kwargs)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._builder!r}>"


class AsyncBuilder(_AsyncQuery[Builder]):
    """A query on one table for tasks: `await db.table("users").where("age", ">", 17).order_by("name").all()`.

    See `Builder` for names, columns and operators; the last call raises what `query` raises.
    """

    def join(self, table: str, on: str, alias: str | None = None) -> AsyncBuilder:
        """The rows that have a partner: `join("orders", "u.id = o.user_id", alias="o")`."""
        return self._grown(self._builder.join(table, on, alias))

    def left_join(self, table: str, on: str, alias: str | None = None) -> AsyncBuilder:
        """All rows, with their partners where there are any."""
        return self._grown(self._builder.left_join(table, on, alias))

    def group_by(self, *columns: str) -> AsyncBuilder:
        """One row for each group."""
        return self._grown(self._builder.group_by(*columns))

    def having(self, column: str | ConditionGroup, *rest: Any) -> AsyncBuilder:
        """Filters groups as `where` filters rows: `having("count(u.id)", ">", 5)`."""
        return self._grown(self._builder.having(column, *rest))

    async def find_by_id(self, id: Any, *, key: str = "id", timeout: Duration | None = None) -> Row | None:
        """The row of this id; None when there is none."""
        return await self._run(self._builder.find_by_id, id, key=key, timeout=timeout)

    async def create(
        self, values: Mapping[str, Any], *, key: str = "id", timeout: Duration | None = None
    ) -> Row:
        """Inserts a row and returns it as the server has it, with its defaults."""
        return await self._run(self._builder.create, values, key=key, timeout=timeout)

    async def upsert(
        self,
        rows: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        key: str | Sequence[str],
        update: Sequence[str] | None = None,
        timeout: Duration | None = None,
    ) -> int:
        """Inserts rows of the same columns, and changes those whose `key` is there already; all or none.

        Returns how many were inserted or changed. See `Builder.upsert` for `key`, `update` and what is raised.
        """
        return await self._run(self._builder.upsert, rows, key=key, update=update, timeout=timeout)


class AsyncDocumentBuilder(_AsyncQuery[DocumentBuilder]):
    """A query on one collection for tasks; see `DocumentBuilder`."""

    def filter(self, filter: Document) -> AsyncDocumentBuilder:
        """A filter in MongoDB's own words holds too. Its operators are obeyed: build none from what others typed."""
        return self._grown(self._builder.filter(filter))

    async def find_by_id(self, id: Any, *, key: str = "_id", timeout: Duration | None = None) -> Row | None:
        """The document of this id; None when there is none. The id has its own type: ObjectId, not its text."""
        return await self._run(self._builder.find_by_id, id, key=key, timeout=timeout)

    async def create(self, values: Document, *, timeout: Duration | None = None) -> Row:
        """Inserts a document and returns it with its `_id`."""
        return await self._run(self._builder.create, values, timeout=timeout)
