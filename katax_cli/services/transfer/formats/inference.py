"""Types of columns from their texts: a type is taken only if it gives every text back as it was."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from katax_cli.engines.transfers import ColumnKind

_WHOLE = re.compile(r"-?(?:0|[1-9]\d*)\Z", re.ASCII)
_DECIMAL = re.compile(r"-?(?:0|[1-9]\d*)\.\d+\Z", re.ASCII)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}\Z", re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}:\d{2}(?:\.\d{1,6})?(\+00(?::00)?|Z)?\Z", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\Z")
_INT64 = range(-(2**63), 2**63)


@dataclass(slots=True)
class InferredColumn:
    """The types that the texts of one column can have, narrowed with every text."""

    candidates: list[str] = field(
        default_factory=lambda: ["boolean", "integer", "decimal", "date", "timestamp", "timestamptz", "uuid"]
    )
    digits: int = 0
    scales: set[int] = field(default_factory=set)
    characters: int = 0
    seen: bool = False

    def take(self, text: str) -> None:
        self.seen = True
        self.characters = max(self.characters, len(text))
        if self.candidates:
            self.candidates = [kind for kind in self.candidates if _CHECKS[kind](text)]
            if "decimal" in self.candidates:
                whole, _, behind = text.lstrip("-").partition(".")
                self.digits = max(self.digits, len(whole) + len(behind))
                self.scales.add(len(behind))

    def kind(self) -> ColumnKind:
        """The kind that keeps all texts; text where there was none."""
        if not self.seen or not self.candidates:
            return ColumnKind("text")
        kind = self.candidates[0]
        if kind == "integer":
            return ColumnKind("integer", 64)
        if kind == "decimal":
            # One scale for all, or the server would add zeros.
            return (
                ColumnKind("decimal", self.digits, min(self.scales))
                if len(self.scales) == 1
                else ColumnKind("decimal")
            )
        return ColumnKind(kind)  # type: ignore[arg-type]


def inferred(columns: int, rows: Iterable[Sequence[Any]]) -> list[InferredColumn]:
    """The types of the columns of rows, which are all read; None is no value."""
    found = [InferredColumn() for _ in range(columns)]
    for row in rows:
        for column, value in zip(found, row, strict=True):
            if isinstance(value, str):
                column.take(value)
            elif value is not None:
                column.candidates, column.seen = [], True
    return found


def _is_whole(text: str) -> bool:
    return _WHOLE.match(text) is not None and text != "-0" and len(text) < 21 and int(text) in _INT64


def _is_day(text: str) -> bool:
    return _DAY.match(text) is not None and _reads(date.fromisoformat, text)


def _is_moment(text: str) -> bool:
    match = _MOMENT.match(text)
    return match is not None and match[1] is None and "T" not in text and _reads(datetime.fromisoformat, text)


def _is_zoned(text: str) -> bool:
    match = _MOMENT.match(text)
    return match is not None and match[1] is not None and _reads(datetime.fromisoformat, text)


def _reads(read: Any, text: str) -> bool:
    try:
        read(text)
    except ValueError:
        return False
    return not text.startswith("0000")


_CHECKS: dict[str, Callable[[str], bool]] = {
    "boolean": lambda text: text in ("t", "f", "true", "false"),
    "integer": _is_whole,
    "decimal": lambda text: _DECIMAL.match(text) is not None and not text.startswith("-0.0"),
    "date": _is_day,
    "timestamp": _is_moment,
    "timestamptz": _is_zoned,
    "uuid": lambda text: _UUID.match(text) is not None,
}


def json_text(value: Any, raw: str) -> str:
    """A value of JSON as the text that counts: a string only counts as a day, a moment or a UUID, else it is text."""
    if not isinstance(value, str):
        return raw
    kinds = ("date", "timestamp", "timestamptz", "uuid")
    return value if any(_CHECKS[kind](value) for kind in kinds) else f'"{value}"'
