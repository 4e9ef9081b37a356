"""SQLAlchemy's dialects with the values of katax: a model writes and reads what a builder does."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.dialects.mysql.pymysql import MySQLDialect_pymysql
from sqlalchemy.dialects.postgresql import ranges
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.types import TypeEngine

from katax_cli.core.engine_names import Dialect

Processor = Callable[[Any], Any]


def _reading(value_of: Processor, *, of: type | tuple[type, ...] = str) -> Processor:
    """Reads what the server has as text or number; text that is no such value stays, as `query` has it."""

    def read(value: Any) -> Any:
        if not isinstance(value, of):
            return value
        try:
            return value_of(value)
        except (ValueError, ArithmeticError):
            return value

    return read


class _AsGiven:
    """The engine adapts the value itself."""

    def bind_processor(self, dialect: sa.Dialect) -> None:
        return None

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Processor | None:
        return None


class _Moment(_AsGiven, sa.DateTime):
    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Processor:
        return _reading(datetime.fromisoformat)


class _Day(_AsGiven, sa.Date):
    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Processor:
        return _reading(date.fromisoformat)


class _Time(_AsGiven, sa.Time):
    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Processor:
        return _reading(time.fromisoformat)


class _Exact(_AsGiven, sa.Numeric[Any]):
    """SQLite has no exact numbers: a Decimal goes in as text, and comes out with the digits that are left."""

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Processor:
        if self.asdecimal:
            return _reading(lambda value: Decimal(str(value)), of=(str, int, float))
        return _reading(float, of=(str, int))


class _Uuid(sa.Uuid[Any]):
    """With its dashes, where the server has no type for it."""

    def bind_processor(self, dialect: sa.Dialect) -> Processor:
        return lambda value: None if value is None else str(value)

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Processor | None:
        return _reading(UUID) if self.as_uuid else None


class _Bits(_AsGiven, mysql.BIT):
    """A number already."""


class _Range(_AsGiven, ranges.AbstractSingleRangeImpl[Any]):
    """Text, as the server writes it."""


class _Ranges(_AsGiven, ranges.AbstractMultiRangeImpl[Any]):
    """Text, as the server writes it."""


class _Bridged:
    """An INSERT of many rows is one statement, also when nothing of them is asked back; sessions are katax's to set."""

    use_insertmanyvalues = True
    use_insertmanyvalues_wo_returning = True

    def on_connect(self) -> Any:
        return None

    def get_default_isolation_level(self, dbapi_conn: object) -> Any:
        return None


def _adapted(
    colspecs: dict[type[TypeEngine[Any]], type[TypeEngine[Any]]],
    changed: dict[type[TypeEngine[Any]], type[TypeEngine[Any]] | None],
) -> dict[type[TypeEngine[Any]], type[TypeEngine[Any]]]:
    """The types that are adapted; None leaves a type to SQLAlchemy's own."""
    return {kind: to for kind, to in {**colspecs, **changed}.items() if to is not None}


class PostgresDialect(_Bridged, PGDialect_psycopg):
    """Numbers come from psycopg as they are, and moments go as they are: a cast would drop their zone."""

    supports_statement_cache = True
    supports_native_decimal = True
    insertmanyvalues_max_parameters = 65_535
    colspecs = _adapted(
        PGDialect_psycopg.colspecs,
        {
            sa.Numeric: None,
            sa.Float: None,
            sa.DateTime: None,
            ranges.AbstractSingleRange: _Range,
            ranges.AbstractMultiRange: _Ranges,
        },
    )


def _found(told: bytes, *, changed: int) -> int:
    """The rows that an UPDATE found: of the last three numbers, for the words are in the server's language."""
    numbers = re.findall(rb"\d+", told)
    return int(numbers[-3]) if len(numbers) >= 3 else changed


class MysqlDialect(_Bridged, MySQLDialect_pymysql):
    """Rows affected are rows changed here; of one UPDATE the server also reports the rows found, which others count."""

    supports_statement_cache = True
    supports_sane_multi_rowcount = False
    # PyMySQL makes one INSERT of many rows itself, and knows how long the server lets it be.
    use_insertmanyvalues_wo_returning = False
    colspecs = _adapted(MySQLDialect_pymysql.colspecs, {sa.Uuid: _Uuid, mysql.BIT: _Bits})

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        cursor.execute(statement, parameters)
        if context is not None and context.isupdate:
            cursor.rowcount = _found(cursor.told, changed=cursor.rowcount)

    def initialize(self, connection: sa.Connection) -> None:
        super().initialize(connection)
        # The last number is the connection's, and the next statement may get another one.
        self.favor_returning_over_lastrowid = self.insert_returning


class SqliteDialect(_Bridged, SQLiteDialect_pysqlite):
    supports_statement_cache = True
    favor_returning_over_lastrowid = True
    supports_native_decimal = True
    insertmanyvalues_max_parameters = 32_766
    colspecs = _adapted(
        SQLiteDialect_pysqlite.colspecs,
        {
            sa.DateTime: _Moment,
            sa.TIMESTAMP: _Moment,
            sa.Date: _Day,
            sa.Time: _Time,
            sa.Numeric: _Exact,
            sa.Uuid: _Uuid,
        },
    )


URLS: dict[Dialect, str] = {
    "postgresql": "postgresql+katax://",
    "mysql": "mysql+katax://",
    "sqlite": "sqlite+katax://",
}
PARAMETERS: dict[Dialect, Any] = {"postgresql": "numeric_dollar", "mysql": "qmark", "sqlite": "qmark"}
for _name, _kind in (
    ("postgresql", PostgresDialect),
    ("mysql", MysqlDialect),
    ("sqlite", SqliteDialect),
):
    sa.dialects.registry.register(f"{_name}.katax", __name__, _kind.__name__)
