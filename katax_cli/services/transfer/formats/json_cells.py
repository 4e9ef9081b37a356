"""Values of JSON lines as the texts that columns take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from katax_cli.core.engine_names import Dialect
from katax_cli.core.text.text import to_json
from katax_cli.engines.transfers import ColumnKind, TransferSql
from katax_cli.services.transfer.formats.readers import AsText, array_literal, json_text


def as_texts(sql: TransferSql, types: Sequence[str], dialect: Dialect) -> list[AsText]:
    """The functions that make the text of each column; None where the usual one will do."""
    return [_maker(declared, sql.kind_of(declared), dialect) for declared in types]


def _maker(declared: str, column: ColumnKind, dialect: Dialect) -> AsText:
    if column.kind == "json":
        return lambda _value, raw: raw
    if declared in ("json[]", "jsonb[]"):
        return lambda value, raw: array_literal(_documents(value)) if isinstance(value, list) else raw
    if column.kind == "array":
        return lambda value, raw: array_literal(value) if isinstance(value, list) else _text(value, raw)
    # A column of SQLite without a type keeps whatever type a value has.
    return _typed if dialect == "sqlite" else None


def _documents(values: list[Any]) -> list[str | None]:
    """The elements of an array of JSON, each as its own text."""
    return [None if value is None else to_json(value) for value in values]


def _text(value: Any, raw: str) -> Any:
    return value if isinstance(value, str) else json_text(value, raw)


def _typed(value: Any, raw: str) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | str):
        return value if isinstance(value, str) or -(2**63) <= value < 2**63 else raw
    return float(raw) if not isinstance(value, list | dict) else raw
