"""Text as terminals, files and wires need it: escaping, display width, and values as JSON."""

from __future__ import annotations

import base64
import math
import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from json.encoder import encode_basestring as _string
from typing import Any

from katax_cli.core.text.interval import Interval

_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """`text` with control and bidi characters escaped, so that a terminal shows it and obeys nothing."""
    if text.isprintable():
        return text
    return "".join(c if _harmless(c) else _escape(c) for c in text)


def _harmless(c: str) -> bool:
    return c not in _BIDI and unicodedata.category(c) not in {"Cc", "Cs", "Zl", "Zp"}


def _escape(c: str) -> str:
    named = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(c)
    return named or (f"\\x{ord(c):02x}" if ord(c) < 0x100 else f"\\u{ord(c):04x}")


def undecodable(name: str) -> str | None:
    """A file's name with its bytes escaped when it is not UTF-8, which no server's text takes; None when it is."""
    data = os.fsencode(name)
    try:
        data.decode()
    except UnicodeDecodeError:
        return data.decode("utf-8", "backslashreplace")
    return None


def width(text: str) -> int:
    """Columns that `text` takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(_char_width(c) for c in text)


def _char_width(c: str) -> int:
    if unicodedata.combining(c) or unicodedata.category(c) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(c) in "WF" else 1


def base64_text(value: bytes | bytearray | memoryview) -> str:
    """Bytes for JSON."""
    return base64.b64encode(bytes(value)).decode("ascii")


def hex_text(value: bytes | bytearray | memoryview) -> str:
    """Bytes of a database as PostgreSQL writes them, in every format: `\\x00ff`."""
    return f"\\x{bytes(value).hex()}"


def is_utf8(data: bytes) -> bool:
    """True when the bytes are UTF-8 text."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


class RawJson(str):
    """JSON as a server wrote it, which goes out as it is."""

    __slots__ = ()


def duration_text(value: timedelta) -> str:
    """[-]H:MM:SS[.ffffff], hours beyond a day included, as SQL's TIME is written."""
    sign = "-" if value < timedelta(0) else ""
    value = abs(value)
    hours, rest = divmod(value.days * 86400 + value.seconds, 3600)
    fraction = f".{value.microseconds:06d}" if value.microseconds else ""
    return f"{sign}{hours}:{rest // 60:02d}:{rest % 60:02d}{fraction}"


def plain(value: object) -> str:
    """A value as people read it in a table or a csv cell: strings bare, structures as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes | bytearray | memoryview):
        return hex_text(value)
    if isinstance(value, datetime):
        return value.isoformat(sep=" ") if value.tzinfo is None else value.isoformat()
    if isinstance(value, timedelta):
        return value.iso if isinstance(value, Interval) else duration_text(value)
    if value is None or isinstance(value, Mapping | list | tuple | set | frozenset):
        return to_json(value)
    return str(value)


def _float(value: float) -> str:
    return repr(value) if math.isfinite(value) else _no_number(math.isnan(value), value < 0)


def _decimal(value: Decimal) -> str:
    return str(value) if value.is_finite() else _no_number(value.is_nan(), value.is_signed())


def _no_number(nan: bool, negative: bool) -> str:
    """A number that JSON does not have, as a string."""
    return '"NaN"' if nan else '"-Infinity"' if negative else '"Infinity"'


def _hex(value: bytes | bytearray | memoryview) -> str:
    return f'"\\\\x{bytes(value).hex()}"'


def json_string(value: str) -> str:
    """A text as JSON, in UTF-8 but for lone surrogates, which have no UTF-8 form and are written as escapes."""
    written = _string(value)
    if value.isascii():
        return written
    try:
        value.encode()
    except UnicodeEncodeError:
        return "".join(f"\\u{ord(c):04x}" if "\ud800" <= c <= "\udfff" else c for c in written)
    return written


def _mapping(value: Mapping[Any, Any]) -> str:
    return "{" + ", ".join([f"{json_string(str(k))}: {to_json(v)}" for k, v in value.items()]) + "}"


def _sequence(value: Iterable[Any]) -> str:
    return "[" + ", ".join(map(to_json, value)) + "]"


_ENCODERS: dict[type, Callable[[Any], str]] = {
    RawJson: str,
    str: json_string,
    bool: lambda v: "true" if v else "false",
    int: repr,
    float: _float,
    type(None): lambda _: "null",
    Decimal: _decimal,
    bytes: _hex,
    bytearray: _hex,
    memoryview: _hex,
    datetime: lambda v: f'"{v.isoformat()}"',
    date: lambda v: f'"{v.isoformat()}"',
    time: lambda v: f'"{v.isoformat()}"',
    Interval: lambda v: f'"{v.iso}"',
    timedelta: lambda v: f'"{duration_text(v)}"',
    dict: _mapping,
    list: _sequence,
    tuple: _sequence,
    set: _sequence,
    frozenset: _sequence,
}


def to_json(value: object) -> str:
    """A value as JSON: decimals exact, NaN and infinities strings, bytes `\\\\x…`, times ISO 8601.

    Unknown types become the JSON string of their `str`.
    """
    encode = _ENCODERS.get(type(value))
    if encode is not None:
        return encode(value)
    for kind, encode in _ENCODERS.items():
        if isinstance(value, kind):
            return encode(value)
    return _mapping(value) if isinstance(value, Mapping) else json_string(str(value))


def no_option(id: str) -> str:
    """An id drawn by chance that may be typed on a command line: a leading `-` would make it an option there."""
    return f"_{id[1:]}" if id.startswith("-") else id


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Column names made distinct: `a`, `a`, `a` → `a`, `a_2`, `a_3`."""
    if len(set(names)) == len(names):
        return tuple(names)
    taken: set[str] = set()
    unique: list[str] = []
    for name in names:
        candidate, number = name, 2
        while candidate in taken or (candidate != name and candidate in names):
            candidate, number = f"{name}_{number}", number + 1
        taken.add(candidate)
        unique.append(candidate)
    return tuple(unique)


def counted(count: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def to_bytes(text: str) -> bytes:
    """UTF-8; `to_text` gives the same text again, whatever it was made of."""
    return text.encode("utf-8", "surrogateescape")


def to_text(data: bytes) -> str:
    """The text of UTF-8; bytes that are none pass through it unharmed."""
    return data.decode("utf-8", "surrogateescape")
