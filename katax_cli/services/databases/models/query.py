"""Queries of models: the rows of one model as objects, found by calls and changed by them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase

from katax_cli.core.text.duration import Duration
from katax_cli.errors import Refused
from katax_cli.services.databases.builder.compile import compare
from katax_cli.services.databases.builder.selection import RunsStatements, comparison, falls, natural
from katax_cli.services.databases.models.names import column_of, loading, mapper_of, settable
from katax_cli.services.databases.models.objects import kept, related
from katax_cli.services.databases.models.unit import returns_rows, unit

M = TypeVar("M", bound=DeclarativeBase)

_LONGEST_INSERT = 16_000
"""Characters of an INSERT of many rows: what is longer is read for placeholders each time it is sent."""
_LENGTH_OF_VALUE = 24
"""Characters of a value's place, with its type: `$1234::TIMESTAMP…, `."""


@dataclass(frozen=True)
class ModelQuery(Generic[M]):
    """Rows of a model, which grows by calls: each returns a new one and changes none.

    Columns are names of the model's attributes or of its columns, or SQLAlchemy's expressions (`User.age > 17`). The
    last call runs it: `all`, iteration, `first`, `count`, `find_by_id`, `create`, `create_many`, `update`, `delete`;
    they raise what `query` of a database raises, and ValueError for what is no column or operator.
    """

    model: type[M]
    on: RunsStatements
    conditions: tuple[Any, ...] = ()
    orders: tuple[Any, ...] = ()
    loaded: tuple[Any, ...] = ()
    at_most: int | None = None
    skipped: int | None = None

    def where(self, column: str | sa.SQLColumnExpression[bool], *rest: Any) -> ModelQuery[M]:
        """`where("age", 18)`, `where("age", ">=", 18)` or `where(User.age >= 18)`; several hold together."""
        if isinstance(column, str):
            name, op, value = comparison(column, rest)
            condition = compare(column_of(self.model, name), op, value)
        elif rest:
            raise ValueError("where() takes an expression alone, or a column with what it is compared with")
        else:
            condition = column
        return replace(self, conditions=(*self.conditions, condition))

    def order_by(self, column: str | sa.SQLColumnExpression[Any], direction: str = "asc") -> ModelQuery[M]:
        descending = falls(direction)
        by: Any = column_of(self.model, column) if isinstance(column, str) else column
        return replace(self, orders=(*self.orders, by.desc() if descending else by))

    def limit(self, rows: int) -> ModelQuery[M]:
        return replace(self, at_most=natural(rows, "limit"))

    def offset(self, rows: int) -> ModelQuery[M]:
        return replace(self, skipped=natural(rows, "offset"))

    def with_(self, *relationships: str) -> ModelQuery[M]:
        """Loads these with the rows: `with_("organization", "sessions.device")`.

        One object comes by a JOIN, several by a second statement.
        """
        return replace(self, loaded=(*self.loaded, *(loading(self.model, path) for path in relationships)))

    def all(self, *, timeout: Duration | None = None) -> list[M]:
        """The rows as objects."""
        with unit(self.on, timeout=timeout) as session:
            rows: list[M] = list(session.scalars(self._select()).unique())
            return rows

    def __iter__(self) -> Iterator[M]:
        return iter(self.all())

    def first(self, *, timeout: Duration | None = None) -> M | None:
        """The first row; None when there is none."""
        return next(iter(self.limit(1).all(timeout=timeout)), None)

    def count(self, *, timeout: Duration | None = None) -> int:
        """The number of rows, whatever the limit."""
        keys = sa.select(*mapper_of(self.model).primary_key).where(*self.conditions).subquery()
        with unit(self.on, timeout=timeout) as session:
            return session.scalars(sa.select(sa.func.count()).select_from(keys)).one()

    def find_by_id(self, id: Any, *, timeout: Duration | None = None) -> M | None:
        """The row of this primary key, of several columns a tuple; None when there is none."""
        if self.conditions:
            raise ValueError("find_by_id() knows its row; leave where() out, or use first()")
        with unit(self.on, timeout=timeout) as session:
            return session.get(self.model, id, options=self.loaded)

    def create(
        self, values: Mapping[str, Any] | None = None, /, *, timeout: Duration | None = None, **columns: Any
    ) -> M:
        """Inserts a row, with the objects of its relationships, and returns it as the server has it."""
        given = {**(values or {}), **columns}
        mapper = mapper_of(self.model)
        several = len(mapper.tables) > 1 or any(name in mapper.relationships for name in given)
        known = settable(self.model, given, relationships=True)
        for name, column in mapper.columns.items():
            has_default = column.default is not None or column.server_default is not None
            # SQLAlchemy takes None for a value that is left out, and would have the default.
            if has_default and not column.primary_key and known.get(name, name) is None:
                known[name] = sa.null()
        with kept(related(given)):
            made = self.model(**known)
            with unit(self.on, timeout=timeout, whole=several or not returns_rows(self.on)) as session:
                session.add(made)
        return made

    def create_many(self, rows: Sequence[Mapping[str, Any]], *, timeout: Duration | None = None) -> int:
        """Inserts rows, all or none, many in one statement; returns how many."""
        checked = [settable(self.model, row) for row in rows]
        if checked:
            rows_at_once = max(1, _LONGEST_INSERT // (_LENGTH_OF_VALUE * (len(checked[0]) + 1)))
            with unit(self.on, timeout=timeout, whole=True) as session:
                options = {"insertmanyvalues_page_size": rows_at_once}
                session.execute(sa.insert(self.model), checked, execution_options=options)
        return len(checked)

    def update(
        self,
        values: Mapping[str, Any] | None = None,
        /,
        *,
        everywhere: bool = False,
        timeout: Duration | None = None,
        **columns: Any,
    ) -> int:
        """Changes the rows of `where`; returns how many. Raises Refused without `where` unless `everywhere`."""
        self._refuse_everything("update", everywhere)
        given = settable(self.model, {**(values or {}), **columns})
        if not given:
            raise ValueError("update() needs at least one column")
        statement = sa.update(self.model).where(*self.conditions).values(given)
        return self._changed(statement, timeout)

    def delete(self, *, everywhere: bool = False, timeout: Duration | None = None) -> int:
        """Deletes the rows of `where`; returns how many. Raises Refused without `where` unless `everywhere`."""
        self._refuse_everything("delete", everywhere)
        return self._changed(sa.delete(self.model).where(*self.conditions), timeout)

    def _changed(self, statement: Any, timeout: Duration | None) -> int:
        with unit(self.on, timeout=timeout) as session:
            result: Any = session.execute(statement, execution_options={"synchronize_session": False})
            return int(result.rowcount)

    def _select(self) -> Any:
        made = sa.select(self.model).where(*self.conditions).order_by(*self.orders)
        return made.options(*self.loaded).limit(self.at_most).offset(self.skipped)

    def _refuse_everything(self, verb: str, everywhere: bool) -> None:
        if self.orders or self.loaded or self.at_most is not None or self.skipped is not None:
            raise ValueError(f"{verb} supports where() only; select the ids first")
        if not self.conditions and not everywhere:
            name = self.model.__name__
            raise Refused(f"{verb} without where() would affect every row of {name!r}; pass everywhere=True")
