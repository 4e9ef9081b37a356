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
        return encode_basestring(value)
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{encode_basestring(str(k))}:{stringify(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(stringify, value)) + "]"
    raise ValueError(f"a value of type {type(value).__name__} has no JSON form; convert it first")


def _number(value: float) -> str:
    """ECMA-262 Number::toString: plain digits from 1e-7 up to 1e21, an exponent without padding beyond."""
    if not math.isfinite(value):
        raise ValueError(f"{value} has no JSON form; use null or a string")
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    mantissa, _, exponent = repr(value).partition("e")
    if not exponent:
        return mantissa
    if int(exponent) >= -6:
        return f"{value:.{-int(exponent) + len(mantissa.replace('-', '').replace('.', '')) - 1}f}"
    return f"{mantissa}e{int(exponent):+d}"


def parse(text: str) -> Any:
    """The value of a JSON text. Raises ValueError for anything else, NaN and Infinity included."""
    import json

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)
