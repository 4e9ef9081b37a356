"""Values as `JSON.stringify` writes them, so that programs in JavaScript and katax read each other's caches."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from json import JSONDecoder
from typing import Any

from katax_cli.core.text.nesting import check_nesting
from katax_cli.core.text.text import base64_text, json_string


def stringify(value: Any) -> str:
    """Compact JSON, numbers as ECMAScript prints them (1.0 → 1).

    Moments are written as `Date.toJSON` does (UTC, milliseconds; without Z when they name no zone), dates, times
    and UUIDs as text, Decimals as the text of their digits, bytes as base64, enums as their value, dataclasses as
    objects. Raises ValueError for what JSON cannot hold.
    """
    try:
        return _written(value)
    except RecursionError:
        raise ValueError("a value that is nested too deeply, or holds itself, has no JSON form") from None


def _written(value: Any) -> str:
    write = _WRITERS.get(type(value))
    if write is not None:
        return write(value)
    if isinstance(value, Enum):
        return _written(value.value)
    for kind, write in _WRITERS.items():
        if isinstance(value, kind):
            return write(value)
    if isinstance(value, Mapping):
        return _object(value)
    if is_dataclass(value) and not isinstance(value, type):
        return _object({field.name: getattr(value, field.name) for field in fields(value)})
    if _is_uuid(value):
        return f'"{value}"'
    raise ValueError(f"a value of type {type(value).__name__} has no JSON form; convert it first")


def _is_uuid(value: Any) -> bool:
    # Importing it takes longer than most commands have; who holds one has imported it.
    return "uuid" in sys.modules and isinstance(value, sys.modules["uuid"].UUID)


def _object(value: Mapping[Any, Any]) -> str:
    keys = [key if type(key) is str else _key(key) for key in value]
    if len(keys) != len(set(keys)):
        raise ValueError("two keys of an object are the same text in JSON; use distinct ones")
    members = [
        f"{json_string(key)}:{_written(member)}" for key, member in zip(keys, value.values(), strict=True)
    ]
    return "{" + ",".join(members) + "}"


def _key(key: Any) -> str:
    """A key that is no text, as the text that it becomes."""
    if isinstance(key, Mapping | list | tuple) or is_dataclass(key):
        raise ValueError(f"a key of type {type(key).__name__} has no JSON form; use text")
    written = _written(key)
    return str(parse(written)) if written.startswith('"') else written


def _array(value: Iterable[Any]) -> str:
    return "[" + ",".join(map(_written, value)) + "]"


def _moment(value: datetime) -> str:
    try:
        moment = value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
    except OverflowError as error:
        raise ValueError(f"{value} in UTC is beyond the years 1 to 9999 and has no JSON form") from error
    return f'"{moment.isoformat(timespec="milliseconds")}{"" if value.tzinfo is None else "Z"}"'


def _number(value: float) -> str:
    """ECMA-262 Number::toString: plain digits from 1e-7 up to 1e21, an exponent without padding beyond."""
    if not math.isfinite(value):
        raise ValueError(f"{value} has no JSON form; use null or a string")
    mantissa, _, exponent = repr(value).partition("e")
    if value == int(value) and abs(value) < 1e21:
        return _filled_up(mantissa, int(exponent)) if exponent else str(int(value))
    if not exponent:
        return mantissa
    if -6 <= int(exponent) < 0:
        return f"{value:.{-int(exponent) + len(mantissa.replace('-', '').replace('.', '')) - 1}f}"
    return f"{mantissa}e{int(exponent):+d}"


def _filled_up(mantissa: str, exponent: int) -> str:
    """The shortest digits that mean a whole number, then zeros: not the digits of its binary value."""
    whole, _, fraction = mantissa.partition(".")
    return whole + fraction.ljust(exponent, "0")


def _bytes(value: bytes | bytearray | memoryview) -> str:
    return f'"{base64_text(value)}"'


_WRITERS: dict[type, Callable[[Any], str]] = {
    str: json_string,
    bool: lambda value: "true" if value else "false",
    int: int.__repr__,
    float: _number,
    type(None): lambda _: "null",
    dict: _object,
    list: _array,
    tuple: _array,
    datetime: _moment,
    date: lambda value: f'"{value.isoformat()}"',
    time: lambda value: f'"{value.isoformat()}"',
    Decimal: lambda value: f'"{value}"',
    bytes: _bytes,
    bytearray: _bytes,
    memoryview: _bytes,
}


def jsonable(value: Any) -> Any:
    """A value that the standard library's `json` does not know, as one that it does; for its `default`."""
    return parse(stringify(value))


def parse(text: str) -> Any:
    """The value of a JSON text. Raises ValueError for anything else, NaN and Infinity included."""
    check_nesting(text)
    return _DECODER.decode(text)


def refuse_constant(name: str) -> Any:
    """Raises ValueError for NaN and the infinities."""
    raise ValueError(f"{name} is not JSON")


_DECODER = JSONDecoder(parse_constant=refuse_constant)
