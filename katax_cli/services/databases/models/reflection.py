"""A model of a table that is there already, from the server's catalogue."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.orm import registry

from katax_cli.core.sql.terms import parse_name
from katax_cli.core.text.duration import Duration
from katax_cli.errors import ConfigError, QueryError, RolledBack, unknown_name
from katax_cli.services.databases.builder.selection import RunsStatements
from katax_cli.services.databases.models.model import Model
from katax_cli.services.databases.models.unit import connection

_TAKEN = frozenset({*dir(Model), "self"})


def reflected(on: RunsStatements, name: str, *, timeout: Duration | None = None) -> type[Model]:
    """See `Queries.model`."""
    table = _table(on, name, timeout)
    if not table.primary_key.columns:
        raise ConfigError(
            f"table {name!r} has no primary key, by which a model tells its rows apart; use table()"
        )
    class_name = "".join(word.capitalize() for word in table.name.split("_")) or "Reflected"
    kind = type(class_name, (Model,), {"__abstract__": True, "_katax_binding": on})
    renamed = {_free(column.name, table): column for column in table.columns if column.name in _TAKEN}
    registry(metadata=table.metadata).map_imperatively(kind, table, properties=renamed)
    return kind


def _free(name: str, table: sa.Table) -> str:
    """A name for the attribute of a column whose own is one of Model's."""
    while name in _TAKEN or name in table.columns:
        name += "_"
    return name


def _table(on: RunsStatements, name: str, timeout: Duration | None) -> sa.Table:
    *schema, plain = parse_name(name)
    within = ".".join(schema) or None
    with connection(on, timeout) as bridge:
        try:
            seen = sa.Table(plain, sa.MetaData(), schema=within, autoload_with=bridge, resolve_fks=False)
            return sa.Table(plain, sa.MetaData(), *map(_alone, seen.columns), schema=within)
        except RolledBack:
            raise
        except (NoSuchTableError, QueryError) as error:
            # SQLAlchemy knows MySQL's refusal by PyMySQL's error only.
            known: list[str] = sa.inspect(bridge).get_table_names(within)
            if plain.lower() in map(str.lower, known):
                raise
            raise ConfigError(unknown_name("table", name, known, "tables")) from error


def _alone(column: sa.Column[Any]) -> sa.Column[Any]:
    """The column without what it refers to, for that table may not be a model."""
    return sa.Column(
        column.name,
        column.type,
        primary_key=column.primary_key,
        nullable=column.nullable,
        autoincrement=column.autoincrement,
        server_default=None if column.server_default is None else sa.FetchedValue(),
    )
