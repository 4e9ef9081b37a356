"""`Model`: a class for a table, its objects for rows, as SQLAlchemy's declarative mapping has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import DeclarativeBase, Mapped, Mapper, mapped_column, relationship
from sqlalchemy.orm.exc import DetachedInstanceError

from katax_cli.core.text.duration import Duration
from katax_cli.errors import ConfigError, KataxError
from katax_cli.services.databases.builder.selection import RunsStatements
from katax_cli.services.databases.models.objects import change, load, remove, shown
from katax_cli.services.databases.models.query import ModelQuery
from katax_cli.services.databases.models.unit import HOME

__all__ = ["Column", "Mapped", "Model", "relationship"]

Column = mapped_column
"""A column of a model: SQLAlchemy's `mapped_column`, typed by `Mapped[…]`."""


class Model(DeclarativeBase):
    """Base of all models. What its objects hold is plain values: they are bound to no session and no connection.

    `timeout` is seconds for the whole call. Errors are those of a database's `query`, and ValueError for what is no
    column.
    """

    # No table is made from a model: a number fits into whatever column the table has.
    type_annotation_map: ClassVar[dict[Any, Any]] = {int: sa.BigInteger}
    _katax_binding: ClassVar[RunsStatements | None] = None

    @classmethod
    def bind(cls, database: RunsStatements | None) -> None:
        """The database of this model and of those derived from it, from the next call on; None: that of its base."""
        if database is not None and not hasattr(database, "dialect"):
            raise ConfigError(
                f"{cls.__name__} cannot be bound to {database!r}; models work on postgresql, mysql, sqlite"
            )
        # `setattr` would have SQLAlchemy look for something to map, and forget what it knows of the class.
        if database is not None or cls is Model:
            type.__setattr__(cls, "_katax_binding", database)
        elif "_katax_binding" in vars(cls):
            type.__delattr__(cls, "_katax_binding")

    @classmethod
    def on(cls, database: RunsStatements) -> ModelQuery[Self]:
        """The rows of this model on a database or in a transaction, whatever it is bound to."""
        return ModelQuery(cls, database)

    @classmethod
    def query(cls) -> ModelQuery[Self]:
        """All rows. Raises ConfigError when the model is bound to no database."""
        if cls._katax_binding is None:
            raise ConfigError(
                f"{cls.__name__} is bound to no database; call Model.bind(db), or use {cls.__name__}.on(db)"
            )
        return ModelQuery(cls, cls._katax_binding)

    @classmethod
    def where(cls, column: str | sa.SQLColumnExpression[bool], *rest: Any) -> ModelQuery[Self]:
        """`where("age", 18)`, `where("age", ">=", 18)` or `where(User.age >= 18)`; see ModelQuery."""
        return cls.query().where(column, *rest)

    @classmethod
    def find_by_id(cls, id: Any, *, timeout: Duration | None = None) -> Self | None:
        """The row of this primary key, of several columns a tuple; None when there is none."""
        return cls.query().find_by_id(id, timeout=timeout)

    @classmethod
    def create(
        cls, values: Mapping[str, Any] | None = None, /, *, timeout: Duration | None = None, **columns: Any
    ) -> Self:
        """Inserts a row, with the objects of its relationships, and returns it as the server has it."""
        return cls.query().create(values, timeout=timeout, **columns)

    @classmethod
    def create_many(cls, rows: Sequence[Mapping[str, Any]], *, timeout: Duration | None = None) -> int:
        """Inserts rows, all or none, many in one statement; returns how many."""
        return cls.query().create_many(rows, timeout=timeout)

    def update(
        self,
        values: Mapping[str, Any] | None = None,
        /,
        *,
        on: RunsStatements | None = None,
        timeout: Duration | None = None,
        **columns: Any,
    ) -> Self:
        """Writes these values, and what was assigned since, where the object comes from, or `on` another; returns it.

        Raises UnknownRecord when the row is gone; with a version column RecordChanged, also when another changed it.
        After an error the object holds what it held.
        """
        change(self, {**(values or {}), **columns}, on=on or self._home(), timeout=timeout)
        return self

    def delete(self, *, on: RunsStatements | None = None, timeout: Duration | None = None) -> None:
        """Deletes the row; one that is gone already is no error, but RecordChanged with a version column."""
        remove(self, on=on or self._home(), timeout=timeout)

    def load(
        self, *relationships: str, on: RunsStatements | None = None, timeout: Duration | None = None
    ) -> Self:
        """Reads these relationships, without any the columns, anew. Raises UnknownRecord when the row is gone."""
        load(self, relationships, on=on or self._home(), timeout=timeout)
        return self

    def _home(self) -> RunsStatements:
        home: RunsStatements | None = self.__dict__.get(HOME)
        if home is None:
            return type(self).query().on
        if home.ended:
            raise KataxError(f"the transaction of {shown(self)} has ended; name a database: on=db")
        return home

    def __repr__(self) -> str:
        return shown(self)

    def __getstate__(self) -> dict[str, Any]:
        """The values go to other processes, the database does not."""
        return {name: value for name, value in self.__dict__.items() if name != HOME}


class _Loadable:
    """An attribute that may not be loaded: SQLAlchemy's, whose error it puts into a sentence of katax."""

    def __init__(self, name: str, attribute: Any) -> None:
        self._name = name
        self._attribute = attribute

    def __get__(self, row: Any, kind: type | None = None) -> Any:
        try:
            return self._attribute.__get__(row, kind)
        except DetachedInstanceError as error:
            raise KataxError(
                f"{shown(row)} was read without {self._name!r}; "
                f"read it with_({self._name!r}), or call load({self._name!r})"
            ) from error

    def __set__(self, row: Any, value: Any) -> None:
        self._attribute.__set__(row, value)

    def __delete__(self, row: Any) -> None:
        self._attribute.__delete__(row)


@event.listens_for(Model, "mapper_configured", propagate=True)
def _configure(mapper: Mapper[Any], kind: type) -> None:
    """Has rows come back as the server has them, makes NULL of None, and names what was not loaded."""
    mapper.eager_defaults = True
    mapper.confirm_deleted_rows = mapper.version_id_col is not None
    for column in mapper.columns:
        for each in (column.type, *column.type._variant_mapping.values()):
            # JSON's null, which `where(…, None)` does not find, is `JSON.NULL`.
            if isinstance(each, sa.JSON):
                each.none_as_null = True
    later = [*mapper.relationships, *(each for each in mapper.column_attrs if each.deferred)]
    for attribute in later:
        name = attribute.key
        if not isinstance(vars(kind).get(name), _Loadable):
            type.__setattr__(kind, name, _Loadable(name, getattr(kind, name)))
