"""Values as `JSON.stringify` writes them, so that programs in JavaScript and katax read each other's caches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from json.encoder import encode_basestring
from typing import Any


def stringify(value: Any) -> str:
    """Compact JSON, numbers as ECMAScript prints them (1.0 → 1). Raises ValueError for what JSON cannot hold."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_string(str(k))}:{stringify(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(stringify, value)) + "]"
    raise ValueError(f"a value of type {type(value).__name__} has no JSON form; convert it first")


def _string(value: str) -> str:
    text = encode_basestring(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8 form; ECMAScript writes it as an escape.
        return "".join(f"\\u{ord(c):04x}" if "\ud800" <= c <= "\udfff" else c for c in text)
    return text


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


def parse(text: str) -> Any:
    """The value of a JSON text. Raises ValueError for anything else, NaN and Infinity included."""
    import json

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)
