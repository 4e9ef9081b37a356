"""The value of a text for a column of a certain type, decided here where a server would guess.

MySQL compares a number with text by what the text begins with (`id > '1 and more'` is `id > 1`), SQLite finds every
text greater than every number. PostgreSQL refuses both itself.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Literal

from katax_cli.core.sql.lexer import Dialect

Kind = Literal["integer", "number", "boolean", "moment", "untyped", "other"]
"""`untyped`: SQLite compares as the value is; `other`: the server reads the text as the column needs it."""

_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?"
_NOT_FINITE = r"[-+]?(?:nan|inf|infinity)"
# ISO 8601, or a number that is no year: seconds of an epoch, a Julian day, 20300131.
_MOMENT = r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d.*)?|-?\d{1,3}:\d\d(?::\d\d.*)?|-?\d{7,}(?:\.\d*)?"
_TRUTHS = {"true": True, "false": False}
_KINDS: dict[Dialect, dict[Kind, str]] = {
    "postgresql": {
        "integer": r"(?:small|big)?int(?:eger)?|oid",
        "number": r"(?:numeric|decimal)\b.*|real|double precision",
    },
    "mysql": {
        "boolean": r"tinyint\(1\)(?: unsigned)?|bool(?:ean)?",
        "integer": r"(?:tiny|small|medium|big)?int\b.*|year\b.*|bit\b.*",
        "number": r"(?:decimal|numeric|float|double|real)\b.*",
        "moment": r"(?:date|datetime|timestamp|time)\b.*",
    },
    "sqlite": {
        "boolean": r"bool(?:ean)?",
        "integer": r"(?:unsigned )?(?:tiny|small|medium|big )?(?:big)?int(?:eger|2|4|8)?\b.*",
        "number": r"(?:decimal|numeric|number|float|double|real)\b.*",
        "moment": r"(?:date|datetime|timestamp|time)\b.*",
        "untyped": r"|.*blob.*|any",
    },
}
_EXPECTED: dict[Kind, str] = {
    "integer": "a number",
    "number": "a number",
    "boolean": "true, false or a number",
    "moment": "a date or time such as 2030-01-31 12:00",
}


def column_kind(declared: str, dialect: Dialect) -> Kind:
    """The kind of a column by its type as the server's catalogue writes it."""
    for kind, pattern in _KINDS[dialect].items():
        if re.fullmatch(pattern, declared.strip(), re.IGNORECASE):
            return kind
    return "other"


def checked(subject: str, text: str, kind: Kind, dialect: Dialect) -> str | bool:
    """A text to be stored in a column. Raises ValueError for one that the column cannot hold."""
    if kind == "boolean" and text.lower() in _TRUTHS:
        return _TRUTHS[text.lower()]
    if not _fits(text, kind, dialect):
        raise ValueError(f"{subject} takes {_EXPECTED[kind]}, not {text!r}")
    return text


def compared(
    subject: str, text: str, kind: Kind, dialect: Dialect, *, computed: bool
) -> str | bool | int | float | Decimal:
    """A text to be compared with a column, or with what a function gives (`computed`), whose type converts nothing.

    Raises ValueError for one that no such column can hold.
    """
    value = checked(subject, text, kind, dialect)
    if isinstance(value, bool):
        return value
    if dialect == "sqlite":
        return _plain_number(text) if kind == "untyped" or (computed and kind in _NUMBERS) else text
    exact = kind in ("integer", "boolean") or (kind == "number" and (computed or dialect == "mysql"))
    return _exact(text) if exact else text


_NUMBERS = ("integer", "number", "boolean")


def _fits(text: str, kind: Kind, dialect: Dialect) -> bool:
    if kind in _NUMBERS:
        finite = re.fullmatch(_NUMBER, text, re.IGNORECASE | re.ASCII)
        special = (
            dialect == "postgresql" and kind == "number" and re.fullmatch(_NOT_FINITE, text, re.IGNORECASE)
        )
        return bool(finite or special)
    return kind != "moment" or bool(re.fullmatch(_MOMENT, text, re.ASCII | re.DOTALL))


def _exact(text: str) -> int | Decimal:
    """MySQL compares text with whole numbers as floating point, which loses digits beyond 2**53."""
    return int(text) if re.fullmatch(r"[-+]?\d+", text, re.ASCII) else Decimal(text)


def _plain_number(text: str) -> str | int | float:
    if not re.fullmatch(_NUMBER, text, re.IGNORECASE | re.ASCII):
        return text
    whole = re.fullmatch(r"[-+]?\d{1,18}", text, re.ASCII)
    return int(text) if whole else float(text)
