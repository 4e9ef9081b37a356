"""Types and literals of PostgreSQL."""

from __future__ import annotations

from typing import Any

from katax_cli.engines.transfers import (
    Bind,
    ColumnKind,
    Kind,
    Mapped,
    TransferSql,
    from_hex,
    parsed_type,
    quoted_text,
)

_KINDS: dict[str, ColumnKind] = {
    "boolean": ColumnKind("boolean"),
    "smallint": ColumnKind("integer", 16),
    "integer": ColumnKind("integer", 32),
    "bigint": ColumnKind("integer", 64),
    "oid": ColumnKind("integer", 32, unsigned=True),
    "real": ColumnKind("float", 32),
    "double precision": ColumnKind("float", 64),
    "text": ColumnKind("text"),
    "citext": ColumnKind("text"),
    "name": ColumnKind("text", 63),
    "bytea": ColumnKind("binary"),
    "date": ColumnKind("date"),
    "json": ColumnKind("json"),
    "jsonb": ColumnKind("json"),
    "uuid": ColumnKind("uuid"),
}
_SIZED: dict[str, Kind] = {
    "character varying": "text",
    "varchar": "text",
    "character": "text",
    "char": "text",
    "bpchar": "text",
    "numeric": "decimal",
    "decimal": "decimal",
}
_PLAIN: dict[Kind, str] = {
    "boolean": "boolean",
    "text": "text",
    "binary": "bytea",
    "date": "date",
    "time": "time",
    "timestamp": "timestamp",
    "timestamptz": "timestamptz",
    "interval": "interval",
    "json": "jsonb",
    "uuid": "uuid",
    "array": "text",
    "other": "text",
}


def _kind_of(declared: str) -> ColumnKind:
    if declared.endswith("[]"):
        return ColumnKind("array")
    name, size, scale, rest = parsed_type(declared)
    finest = 6 if size is None else size
    if name.startswith(("timestamp", "time")):
        zoned = "with time zone" in f"{name} {rest}"
        if name.startswith("timestamp"):
            return ColumnKind("timestamptz" if zoned else "timestamp", scale=finest)
        return ColumnKind("other") if zoned else ColumnKind("time", scale=finest)
    if name.startswith("interval"):
        return ColumnKind("interval", scale=finest)
    if name in _SIZED:
        return ColumnKind(_SIZED[name], size, (scale or 0) if size is not None else None)
    return _KINDS.get(name, ColumnKind("other"))


def _type_of(column: ColumnKind, *, key: bool) -> Mapped:
    size = column.size
    if column.kind == "integer":
        bits = (size or 64) + (1 if column.unsigned else 0)
        name = (
            "smallint"
            if bits <= 16
            else "integer"
            if bits <= 32
            else "bigint"
            if bits <= 64
            else "numeric(20)"
        )
        return Mapped(name)
    if column.kind == "decimal":
        return Mapped("numeric" if size is None else f"numeric({size},{column.scale or 0})")
    if column.kind == "float":
        return Mapped("real" if size == 32 else "double precision")
    if column.kind == "text" and size is not None:
        return Mapped(f"varchar({size})")
    if column.kind == "bits":
        return Mapped("numeric(20)", "bits as their number")
    note = "as the server's text" if column.kind in ("array", "other") else ""
    return Mapped(_PLAIN[column.kind], note)


def _lossless(column: ColumnKind) -> ColumnKind:
    """A numeric without digits keeps those that it is given."""
    return ColumnKind("decimal") if column.kind == "decimal" else column


def _bind(declared: str) -> Bind | None:
    """COPY takes texts; bytes only need their digits."""
    return _hexadecimal if _kind_of(declared).kind == "binary" else None


def _hexadecimal(value: Any) -> Any:
    return f"\\x{from_hex(value).hex()}"


def _literal(value: Any) -> str:
    text = quoted_text(value)
    # Whatever standard_conforming_strings is on the server that reads it.
    return "E" + text.replace("\\", "\\\\") if "\\" in text else text


SQL = TransferSql(
    kind_of=_kind_of,
    type_of=_type_of,
    bind=_bind,
    literal=_literal,
    lossless=_lossless,
    overriding=" OVERRIDING SYSTEM VALUE",
    only="ONLY ",
)
