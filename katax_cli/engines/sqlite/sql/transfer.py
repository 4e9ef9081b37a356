"""Types and literals of SQLite: declared types are affinities, and any column holds any value."""

from __future__ import annotations

from typing import Any

from katax_cli.engines.transfers import (
    Bind,
    ColumnKind,
    Kind,
    Mapped,
    TransferSql,
    from_hex,
    one_or_zero,
    quoted_text,
)

_PLAIN: dict[Kind, Mapped] = {
    "boolean": Mapped("INTEGER", "true and false as 1 and 0"),
    "float": Mapped("REAL"),
    "binary": Mapped("BLOB"),
    "text": Mapped("TEXT"),
}


def _kind_of(declared: str) -> ColumnKind:
    """By SQLite's own rules of affinity. https://www.sqlite.org/datatype3.html#determination_of_column_affinity"""
    name = declared.upper()
    if "INT" in name:
        return ColumnKind("integer", 64)
    if any(part in name for part in ("CHAR", "CLOB", "TEXT")):
        return ColumnKind("text")
    if not name or "BLOB" in name:
        return ColumnKind("binary" if name else "other")
    if any(part in name for part in ("REAL", "FLOA", "DOUB")):
        return ColumnKind("float", 64)
    return ColumnKind("decimal") if any(part in name for part in ("NUM", "DEC")) else ColumnKind("text")


def _type_of(column: ColumnKind, *, key: bool) -> Mapped:
    if column.kind == "integer":
        return (
            Mapped("TEXT", "as text: up to 64 bits")
            if column.unsigned and column.size == 64
            else Mapped("INTEGER")
        )
    if column.kind == "decimal":
        return Mapped("TEXT", "as text, to keep every digit")
    return _PLAIN.get(column.kind, Mapped("TEXT", "as text"))


def _lossless(column: ColumnKind) -> ColumnKind:
    return column if column.kind == "integer" else ColumnKind("text")


def _bind(declared: str) -> Bind | None:
    column = _kind_of(declared)
    if column.kind == "binary":
        return _blob
    if column.kind == "float":
        return _number
    return _whole if column.kind == "integer" else None


def _kept(declared: str) -> Bind | None:
    return _checked if _kind_of(declared).kind == "integer" else None


def _checked(value: Any) -> Any:
    """Raises ValueError for a number of more than 64 bits, which SQLite would silently round."""
    is_long = isinstance(value, str) and len(value) > 18 and value.lstrip("+-").isdecimal()
    if is_long and not -(2**63) <= int(value) < 2**63:
        raise ValueError(f"{value} has more than 64 bits")
    return value


def _whole(value: Any) -> Any:
    return one_or_zero(_checked(value))


def _blob(value: Any) -> Any:
    """A BLOB column may hold texts, too."""
    return from_hex(value) if isinstance(value, str) and value.startswith("\\x") else value


_INFINITIES = {
    "inf": float("inf"),
    "infinity": float("inf"),
    "-inf": float("-inf"),
    "-infinity": float("-inf"),
}


def _number(value: Any) -> Any:
    return _INFINITIES.get(value.lower(), value) if isinstance(value, str) else value


def _literal(value: Any) -> str:
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value).replace("inf", "9e999")
    # SQL ends at a NUL.
    return "||char(0)||".join(map(quoted_text, value.split("\0")))


SQL = TransferSql(
    kind_of=_kind_of,
    type_of=_type_of,
    bind=_bind,
    literal=_literal,
    lossless=_lossless,
    typed_values=True,
    kept=_kept,
)
