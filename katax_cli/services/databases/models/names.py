"""Names of columns and relationships as callers write them: looked up, so that none of them becomes SQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapper, joinedload, selectinload

from katax_cli.errors import unknown_name

Kind = type[DeclarativeBase]
_KNOWN = "_katax_attributes"


def mapper_of(model: Kind) -> Mapper[Any]:
    """SQLAlchemy's mapper; the first call of a program sets up all relationships."""
    return sa.inspect(model)


def column_of(model: Kind, name: str) -> Any:
    """The attribute of a column, by its own name or that of the attribute. Raises ValueError for any other."""
    return getattr(model, _attribute(model, name))


def settable(model: Kind, values: Mapping[str, Any], *, relationships: bool = False) -> dict[str, Any]:
    """Values by the names of attributes. Raises ValueError for a name that is no column, nor a relationship."""
    known = attributes(model)
    related = mapper_of(model).relationships.keys() if relationships else ()
    return {
        known.get(name) or (name if name in related else _attribute(model, name)): value
        for name, value in values.items()
    }


def attributes(model: Kind) -> dict[str, str]:
    """The attributes of columns, by their own names and by those of the columns."""
    known: dict[str, str] | None = vars(model).get(_KNOWN)
    if known is None:
        columns = mapper_of(model).column_attrs
        known = {column.name: attribute.key for attribute in columns for column in attribute.columns}
        known |= {attribute.key: attribute.key for attribute in columns}
        type.__setattr__(model, _KNOWN, known)
    return known


def relationship_named(model: Kind, name: str) -> Any:
    """The attribute of a relationship. Raises ValueError."""
    relationships = mapper_of(model).relationships
    if name not in relationships:
        raise ValueError(_unknown(model, "relationship", name, list(relationships.keys())))
    return getattr(model, name)


def loading(model: Kind, path: str) -> Any:
    """SQLAlchemy's option that loads the relationships of a path such as `sessions.device`."""
    option: Any = None
    for name in path.split("."):
        attribute = relationship_named(model, name)
        how = selectinload if attribute.property.uselist else joinedload
        if option is None:
            option = how(attribute)
        else:
            option = option.selectinload(attribute) if how is selectinload else option.joinedload(attribute)
        model = attribute.property.mapper.class_
    return option


def _attribute(model: Kind, name: str) -> str:
    known = attributes(model)
    if name not in known:
        raise ValueError(_unknown(model, "column", name, sorted(set(known.values()))))
    return known[name]


def _unknown(model: Kind, what: str, name: str, known: list[str]) -> str:
    return f"{model.__name__}: {unknown_name(what, name, known, what + 's')}"
