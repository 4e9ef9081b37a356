"""The abilities of objects of models: their row is changed, deleted, or asked for what it refers to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import DeclarativeBase, InstanceState
from sqlalchemy.orm.attributes import flag_modified, set_committed_value
from sqlalchemy.orm.exc import StaleDataError

from katax_cli.core.text.duration import Duration
from katax_cli.errors import RecordChanged, UnknownRecord
from katax_cli.services.databases.builder.selection import RunsStatements
from katax_cli.services.databases.models.names import mapper_of, relationship_named, settable
from katax_cli.services.databases.models.unit import unit


def change(
    row: DeclarativeBase, values: Mapping[str, Any], *, on: RunsStatements, timeout: Duration | None
) -> None:
    """Writes these values, and what was assigned since, into the row of an object; on an error it is as before.

    What the server makes of them is read back. Raises UnknownRecord when the row is gone, and RecordChanged when it has
    another version than the object.
    """
    state = _stored(row)
    mapper = mapper_of(type(row))
    given = settable(type(row), values, relationships=True)
    with kept([row, *related(given)]), unit(on, timeout=timeout, whole=True) as session:
        session.add(row)
        for name, value in given.items():
            setattr(row, name, value)
        changed = {
            column for name, column in mapper.columns.items() if state.attrs[name].history.has_changes()
        }
        # What is equal to what was read may differ from what is there by now.
        for name in given.keys() & mapper.column_attrs.keys():
            if not state.attrs[name].history.has_changes():
                flag_modified(row, name)
        session.flush()
        stale = [
            one.key for one in mapper.relationships if one.key not in given and changed & one.local_columns
        ]
        if stale:
            session.expire(row, stale)  # what another key refers to
        # Without names its loaded relationships would be gone.
        _reread(session, row, [column.key for column in mapper.column_attrs if not column.deferred])


def remove(row: DeclarativeBase, *, on: RunsStatements, timeout: Duration | None) -> None:
    """Deletes the row of an object, and does to its relationships what they say; a row that is gone is no error.

    Raises RecordChanged when the model has a version column, and no row the version of the object.
    """
    _stored(row)
    with kept([row]), unit(on, timeout=timeout, whole=True) as session:
        session.delete(row)


def load(
    row: DeclarativeBase, relationships: Sequence[str], *, on: RunsStatements, timeout: Duration | None
) -> None:
    """Asks for relationships of an object anew; without any, for its columns. Raises UnknownRecord."""
    _stored(row)
    for name in relationships:
        relationship_named(type(row), name)
    names = relationships or list(mapper_of(type(row)).column_attrs.keys())
    with kept([row]), unit(on, timeout=timeout) as session:
        session.add(row)
        _reread(session, row, names)


def related(values: Mapping[str, Any]) -> list[DeclarativeBase]:
    """The objects among values of relationships that have rows already."""
    objects = [
        item
        for value in values.values()
        for item in (value if isinstance(value, list | set | tuple) else [value])
    ]
    return [item for item in objects if isinstance(item, DeclarativeBase) and sa.inspect(item).has_identity]


@contextmanager
def kept(rows: Iterable[DeclarativeBase]) -> Iterator[None]:
    """Gives objects back what they held when the block fails: SQLAlchemy would leave them empty.

    Raises UnknownRecord for a row that was to be changed and is gone, RecordChanged when one has versions.
    """
    before = [_Held(row) for row in rows]
    try:
        yield
    except BaseException as error:
        for held in before:
            held.restore()
        if isinstance(error, StaleDataError):
            versioned = any(mapper_of(type(held.row)).version_id_col is not None for held in before)
            missed = RecordChanged if versioned else UnknownRecord
            raise missed(" or ".join(shown(held.row) for held in before)) from error
        raise


class _Held:
    """The loaded values of an object, and which of them were assigned and not written."""

    def __init__(self, row: DeclarativeBase) -> None:
        state = sa.inspect(row)
        self.row = row
        columns = [column.key for column in state.mapper.column_attrs]
        loaded = [*columns, *(other.key for other in state.mapper.relationships)]
        self._values = {key: state.dict[key] for key in loaded if key in state.dict}
        self._assigned = [key for key in columns if state.attrs[key].history.has_changes()]

    def restore(self) -> None:
        for key, value in self._values.items():
            set_committed_value(self.row, key, value)
        for key in self._assigned:
            flag_modified(self.row, key)


def _stored(row: DeclarativeBase) -> InstanceState[Any]:
    state = sa.inspect(row)
    if state.was_deleted:
        raise UnknownRecord(shown(row))
    if not state.has_identity:
        raise ValueError(f"this {type(row).__name__} has no row yet; use create()")
    return state


def shown(row: DeclarativeBase) -> str:
    """The name of an object: its model and key, and nothing else of what it holds."""
    state = sa.inspect(row)
    key = ", ".join(map(repr, state.identity)) if state.identity else "new"
    return f"{type(row).__name__}({key})"


def _reread(session: Any, row: DeclarativeBase, names: Sequence[str]) -> None:
    try:
        session.refresh(row, names)
    except InvalidRequestError as error:
        raise UnknownRecord(shown(row)) from error
