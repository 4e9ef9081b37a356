"""Queries on a collection from calls, as those on a table: `db.table("users").where("age", ">", 17).all()`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, Protocol

from katax_cli.core.engine_names import SQL_ENGINES
from katax_cli.core.text.duration import Duration
from katax_cli.engines.documents import Changed, Document, Pipeline
from katax_cli.errors import Refused, WrongEngine
from katax_cli.services.databases.builder.filters import (
    Filter,
    collection_name,
    field_name,
    filter_of,
    sort_of,
)
from katax_cli.services.databases.builder.selection import (
    ConditionGroup,
    QueryCalls,
    Row,
    SelectionCondition,
    condition_of,
    falls,
    natural,
)


class RunsDocuments(Protocol):
    """MongoDB on one connection."""

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
    ) -> AbstractContextManager[Iterable[list[Row]]]: ...
    def count(self, collection: str, filter: Document, *, timeout: Duration | None = None) -> int: ...
    def insert(
        self, collection: str, documents: Sequence[Document], *, timeout: Duration | None = None
    ) -> list[Any]: ...
    def update(
        self,
        collection: str,
        filter: Document,
        change: Document | Pipeline,
        *,
        timeout: Duration | None = None,
    ) -> Changed: ...
    def delete(self, collection: str, filter: Document, *, timeout: Duration | None = None) -> int: ...


@dataclass(frozen=True)
class DocumentBuilder(QueryCalls):
    """A query on one collection, which grows by calls: each returns a new one and changes none.

    Columns are fields, or paths such as `address.city`. `where` compares as MongoDB does: values of one type with each
    other, and a field that a document has not is null. Joins and groups raise WrongEngine: `aggregate` has them.
    """

    name: str
    alias: str | None = None
    on: RunsDocuments = field(kw_only=True)
    columns: tuple[str, ...] = ()
    conditions: tuple[SelectionCondition, ...] = ()
    filters: tuple[Document, ...] = ()
    orders: tuple[tuple[str, bool], ...] = ()
    at_most: int | None = None
    skipped: int | None = None

    def __post_init__(self) -> None:
        collection_name(self.name)

    def select(self, *columns: str) -> DocumentBuilder:
        """These fields too, and `_id` only if it is among them; none at all means the whole documents."""
        return replace(self, columns=(*self.columns, *map(field_name, columns)))

    def where(self, column: str | ConditionGroup, *rest: Any) -> DocumentBuilder:
        """`where("age", 18)` or `where("age", ">=", 18)`; several hold together. None: null or no such field.

        `where(any_of(…))` takes a group of them; see `any_of` and `all_of`.
        """
        wanted = column if isinstance(column, ConditionGroup) else field_name(column)
        return replace(self, conditions=(*self.conditions, condition_of(wanted, rest)))

    def filter(self, filter: Document) -> DocumentBuilder:
        """A filter in MongoDB's own words holds too. Its operators are obeyed: build none from what others typed."""
        return replace(self, filters=(*self.filters, filter))

    def join(self, table: str, on: str, alias: str | None = None) -> NoReturn:
        _refuse("joins in a builder", "join")

    def left_join(self, table: str, on: str, alias: str | None = None) -> NoReturn:
        _refuse("joins in a builder", "left_join")

    def group_by(self, *columns: str) -> NoReturn:
        _refuse("groups in a builder", "group_by")

    def having(self, column: str, *rest: Any) -> NoReturn:
        _refuse("groups in a builder", "having")

    def order_by(self, column: str, direction: str = "asc") -> DocumentBuilder:
        return replace(self, orders=(*self.orders, (field_name(column), falls(direction))))

    def limit(self, rows: int) -> DocumentBuilder:
        return replace(self, at_most=natural(rows, "limit"))

    def offset(self, rows: int) -> DocumentBuilder:
        return replace(self, skipped=natural(rows, "offset"))

    def all(self, *, timeout: Duration | None = None) -> list[Row]:
        """The documents."""
        if self.at_most == 0:
            return []
        found = self.on.find(
            self.name,
            self.statement(),
            projection=self._projection(),
            sort=sort_of(self.orders),
            skip=self.skipped or 0,
            limit=self.at_most or 0,
            timeout=timeout,
        )
        with found as batches:
            return [document for batch in batches for document in batch]

    def count(self, *, timeout: Duration | None = None) -> int:
        """The number of documents, whatever the limit."""
        return self.on.count(self.name, self.statement(), timeout=timeout)

    def find_by_id(self, id: Any, *, key: str = "_id", timeout: Duration | None = None) -> Row | None:
        """The document of this id; None when there is none. The id has its own type: ObjectId, not its text."""
        return self.where(key, id).first(timeout=timeout)

    def create(self, values: Document, *, timeout: Duration | None = None) -> Row:
        """Inserts a document and returns it with its `_id`."""
        (made,) = self.on.insert(self.name, [values], timeout=timeout)
        return {"_id": made, **values}

    def create_many(self, rows: Sequence[Document], *, timeout: Duration | None = None) -> int:
        """Inserts documents in order and returns how many; those before one that is refused stay."""
        if not rows:
            return 0
        return len(self.on.insert(self.name, rows, timeout=timeout))

    def update(self, values: Document, *, everywhere: bool = False, timeout: Duration | None = None) -> int:
        """Sets fields of the documents of `where`, or applies operators (`{"$inc": {"n": 1}}`): how many matched.

        Raises Refused without `where` unless `everywhere`.
        """
        self._refuse_everything("update", everywhere)
        return self.on.update(self.name, self.statement(), change_of(values), timeout=timeout).matched

    def delete(self, *, everywhere: bool = False, timeout: Duration | None = None) -> int:
        """Deletes the documents of `where`; returns how many. Raises Refused without `where` unless `everywhere`."""
        self._refuse_everything("delete", everywhere)
        return self.on.delete(self.name, self.statement(), timeout=timeout)

    def statement(self) -> Filter:
        """The filter."""
        return filter_of(self.conditions, self.filters)

    def _projection(self) -> Document | None:
        fields = dict.fromkeys(self.columns, 1)
        return {"_id": 0, **fields} if fields and "_id" not in fields else fields or None

    def _refuse_everything(self, verb: str, everywhere: bool) -> None:
        if self.orders or self.at_most is not None or self.skipped is not None:
            raise ValueError(f"{verb} supports where() only; select the ids first")
        if not self.statement() and not everywhere:
            raise Refused(
                f"{verb} without where() would affect every document of {self.name!r}; pass everywhere=True"
            )


def change_of(values: Document) -> Document:
    """Update operators as they are, fields as what is set. Raises ValueError for a mixture, and for nothing."""
    operators = [name for name in values if name.startswith("$")]
    if not values or 0 < len(operators) < len(values):
        raise ValueError(
            "an update takes fields with their values, or operators such as $inc, one of the two"
        )
    return values if operators else {"$set": {field_name(name): value for name, value in values.items()}}


def _refuse(what: str, wanted_by: str) -> NoReturn:
    raise WrongEngine("mongodb", what, wanted_by=wanted_by, works_on=SQL_ENGINES, instead="aggregate()")
