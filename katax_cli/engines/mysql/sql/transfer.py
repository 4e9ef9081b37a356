"""Types and literals of MySQL and MariaDB."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

from katax_cli.engines.transfers import (
    TIMES,
    Bind,
    ColumnKind,
    Kind,
    Mapped,
    TransferSql,
    from_hex,
    in_utc,
    one_or_zero,
    parsed_type,
)

_DIGITS, _SCALE = 65, 30
_KEY_CHARACTERS = 255
_BITS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "integer": 32, "bigint": 64}
_NAMES: dict[str, Kind] = {
    "char": "text", "varchar": "text", "tinytext": "text", "text": "text", "mediumtext": "text", "longtext": "text",
    "enum": "other", "set": "other", "json": "json", "uuid": "uuid", "date": "date", "datetime": "timestamp",
    "timestamp": "timestamptz", "time": "interval", "bit": "bits", "binary": "binary", "varbinary": "binary",
    "tinyblob": "binary", "blob": "binary", "mediumblob": "binary", "longblob": "binary", "geometry": "binary",
}  # fmt: skip
_PLAIN: dict[Kind, Mapped] = {
    "boolean": Mapped("tinyint(1)", "true and false as 1 and 0"),
    "text": Mapped("longtext"),
    "binary": Mapped("longblob"),
    "date": Mapped("date"),
    "time": Mapped("time(6)"),
    "timestamp": Mapped("datetime(6)"),
    "timestamptz": Mapped("datetime(6)", "in UTC"),
    "interval": Mapped("varchar(64)", "ISO 8601, as text"),
    "json": Mapped("json"),
    "uuid": Mapped("char(36)"),
    "array": Mapped("longtext", "as the server's text"),
    "other": Mapped("longtext", "as the server's text"),
}
_TRANSACTIONAL = """SELECT e.transactions = 'YES' FROM information_schema.tables t
    JOIN information_schema.engines e ON e.engine = t.engine WHERE t.table_schema = ? AND t.table_name = ?"""


def _kind_of(declared: str) -> ColumnKind:
    name, size, scale, rest = parsed_type(
        declared.partition("(")[0] if declared[:4] in ("enum", "set(") else declared
    )
    words = name.split()
    unsigned = "unsigned" in words or "unsigned" in rest
    name = words[0] if words else name
    if name in _BITS:
        return ColumnKind("integer", _BITS[name], unsigned=unsigned)
    if name in ("decimal", "numeric"):
        return ColumnKind("decimal", 10 if size is None else size, scale or 0)
    if name in ("float", "double"):
        return ColumnKind("float", 32 if name == "float" else 64)
    if name == "year":
        return ColumnKind("integer", 16)
    kind = _NAMES.get(name, "binary" if name in _SPATIAL else "other")
    return ColumnKind(kind, size if kind == "text" else None, (size or 0) if kind in TIMES else None)


_SPATIAL = frozenset({
    "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geometrycollection",
    "geomcollection",
})  # fmt: skip


def _type_of(column: ColumnKind, *, key: bool) -> Mapped:
    size, scale = column.size, column.scale or 0
    if column.kind == "decimal" and size is not None:
        # PostgreSQL's scale may be more than the digits.
        size = max(size, scale)
    if column.kind == "integer":
        bits = size or 64
        name = "smallint" if bits <= 16 else "int" if bits <= 32 else "bigint"
        return Mapped(f"{name}{' unsigned' if column.unsigned else ''}")
    if column.kind == "decimal":
        if size is None or size > _DIGITS or not 0 <= scale <= _SCALE:
            return Mapped("varchar(255)" if key else "longtext", "as text: no decimal has so many digits")
        return Mapped(f"decimal({size},{scale})", "NaN and infinities are refused")
    if column.kind == "float":
        return Mapped("float" if size == 32 else "double", "NaN and infinities are refused")
    if column.kind == "bits":
        return Mapped("bit(64)")
    if column.kind == "text" and (key or (size is not None and size <= 16_000)):
        most = _KEY_CHARACTERS if size is None else size
        return Mapped(f"varchar({most})", f"at most {most} characters" if size is None else "")
    return _PLAIN[column.kind]


def _lossless(column: ColumnKind) -> ColumnKind:
    if column.kind in ("boolean", "timestamptz") or (column.kind == "decimal" and column.size is None):
        return ColumnKind("text")
    return column


def _bind(declared: str) -> Bind | None:
    column = _kind_of(declared)
    if column.kind == "bits":
        return lambda value: int(value) if isinstance(value, str) else value
    if column.kind == "binary":
        return from_hex
    if column.kind in ("timestamp", "timestamptz"):
        return in_utc
    if declared.startswith("year"):
        # The text 0 is the year 2000, the number 0 that a file has is 0000.
        return lambda value: "0000" if value == "0" else value
    return one_or_zero if column.kind == "integer" and column.size == 8 else None


def _exact(declared: str) -> str:
    """A FLOAT is written with six digits, an ENUM is ordered by its number and compared by its text."""
    if declared.startswith("float"):
        return "({} + 0e0)"
    return "CONCAT({})" if declared.startswith(("enum", "set(")) else "{}"


_NUMBERS: dict[Kind, Callable[[Any], Any]] = {"integer": int, "bits": int, "decimal": Decimal, "float": float}


def _constant(declared: str) -> Bind | None:
    made = _NUMBERS.get(_kind_of(declared).kind)
    return made and partial(_number, made)


def _number(made: Callable[[Any], Any], value: Any) -> Any:
    """A value that is none, as the other side's key may have, stays as it is: the server compares it."""
    try:
        number = made(value)
        return number if math.isfinite(number) else value
    except (ValueError, ArithmeticError, TypeError):
        return value


def _literal(value: bytes | int | str) -> str:
    if isinstance(value, bytes):
        return f"x'{value.hex()}'" if value else "''"
    if isinstance(value, int):
        return str(value)
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


SQL = TransferSql(
    kind_of=_kind_of,
    type_of=_type_of,
    bind=_bind,
    literal=_literal,
    lossless=_lossless,
    exact=_exact,
    constant=_constant,
    prelude="SET NAMES utf8mb4;\nSET time_zone = '+00:00';\n",
    ranges_of_rows=False,
    transactional=_TRANSACTIONAL,
)
