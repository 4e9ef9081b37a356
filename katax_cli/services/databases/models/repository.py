"""`Repository`: the rows of one model on one database or in one transaction, with methods of the program's own."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar, get_args

from katax_cli.core.text.duration import Duration
from katax_cli.errors import UnknownRecord
from katax_cli.services.databases.builder.selection import RunsStatements
from katax_cli.services.databases.models.model import Model
from katax_cli.services.databases.models.query import ModelQuery

M = TypeVar("M", bound=Model)


class Repository(Generic[M]):
    """Base of `class UserRepository(Repository[User])`; made by `db.repository(UserRepository)`.

    `on` is the database or transaction. Errors are those of ModelQuery.
    """

    model: type[M]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for base in getattr(cls, "__orig_bases__", ()):
            for argument in get_args(base):
                if isinstance(argument, type) and issubclass(argument, Model):
                    cls.model = argument  # type: ignore[assignment]  # M is that argument

    def __init__(self, on: RunsStatements) -> None:
        if not hasattr(self, "model"):
            raise TypeError(f"{type(self).__name__} names no model; derive it from Repository[YourModel]")
        self.on = on

    def query(self) -> ModelQuery[M]:
        """All rows, to be narrowed down."""
        return ModelQuery(self.model, self.on)

    def find_by_id(self, id: Any, *, timeout: Duration | None = None) -> M | None:
        """The row of this primary key, of several columns a tuple; None when there is none."""
        return self.query().find_by_id(id, timeout=timeout)

    def find_by(self, *, timeout: Duration | None = None, **columns: Any) -> builtins.list[M]:
        """The rows whose columns have these values: `find_by(email="ada@x.y")`."""
        found = self.query()
        for name, value in columns.items():
            found = found.where(name, value)
        return found.all(timeout=timeout)

    def create(
        self, values: Mapping[str, Any] | None = None, /, *, timeout: Duration | None = None, **columns: Any
    ) -> M:
        """Inserts a row, with the objects of its relationships, and returns it as the server has it."""
        return self.query().create(values, timeout=timeout, **columns)

    def create_many(self, rows: Sequence[Mapping[str, Any]], *, timeout: Duration | None = None) -> int:
        """Inserts rows, all or none, many in one statement; returns how many."""
        return self.query().create_many(rows, timeout=timeout)

    def update(
        self,
        id: Any,
        values: Mapping[str, Any] | None = None,
        /,
        *,
        timeout: Duration | None = None,
        **columns: Any,
    ) -> M:
        """Changes the row of this primary key and returns it. Raises UnknownRecord when there is none."""
        return self._existing(id, timeout).update(values, on=self.on, timeout=timeout, **columns)

    def delete(self, id: Any, *, timeout: Duration | None = None) -> bool:
        """Deletes the row of this primary key; False when there is none."""
        row = self.find_by_id(id, timeout=timeout)
        if row is not None:
            row.delete(on=self.on, timeout=timeout)
        return row is not None

    def _existing(self, id: Any, timeout: Duration | None) -> M:
        row = self.find_by_id(id, timeout=timeout)
        if row is None:
            raise UnknownRecord(f"{self.model.__name__}({id!r})")
        return row

    def list(
        self, *, limit: int | None = None, offset: int = 0, timeout: Duration | None = None
    ) -> builtins.list[M]:
        """The rows in the order of their primary key."""
        found = self.query().offset(offset)
        for column in self.model.__mapper__.primary_key:
            found = found.order_by(column)
        return (found if limit is None else found.limit(limit)).all(timeout=timeout)
