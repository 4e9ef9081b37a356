"""Checksums of rows that do not depend on their order, nor on how a server writes the same value."""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal, InvalidOperation
from hashlib import blake2b
from typing import Any

from katax_cli.core.text.text import hex_text
from katax_cli.engines.transfers import ColumnKind, from_hex, in_utc

_BITS = 64
Canonical = Callable[[Any], str]


class RowSum:
    """The sum of the digests of rows, of 64 bits, and their number."""

    def __init__(self, kinds: Sequence[ColumnKind]) -> None:
        self._canonical = [
            _single if (kind.kind, kind.size) == ("float", 32) else _CANONICAL.get(kind.kind, _text)
            for kind in kinds
        ]
        self.rows = 0
        self._sum = 0

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        """Takes rows of the server's texts."""
        for row in rows:
            cells = [
                "-" if value is None else f"+{make(value)}"
                for make, value in zip(self._canonical, row, strict=True)
            ]
            digest = blake2b(
                "\x1f".join(cells).encode("utf-8", "surrogatepass"), digest_size=_BITS // 8
            ).digest()
            self._sum = (self._sum + int.from_bytes(digest, "big")) % 2**_BITS
            self.rows += 1

    def __str__(self) -> str:
        return f"{self._sum:016x}"


def _text(value: Any) -> str:
    return hex_text(value) if isinstance(value, bytes) else str(value)


def _number(value: Any) -> str:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return str(value)
    if not number.is_finite():
        return str(number)
    text = f"{number:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def _float(value: Any) -> str:
    try:
        number = float(value)
    except ValueError:
        return str(value)
    return (
        repr(number) if math.isfinite(number) and number != 0 else str(abs(number) if number == 0 else number)
    )


def _single(value: Any) -> str:
    """Of a float of 32 bits, which may be written with the digits of 64."""
    try:
        return _float(array("f", [float(value)])[0])
    except ValueError:
        return str(value)


def _moment(value: Any) -> str:
    text = str(in_utc(str(value))).replace("T", " ")
    return text.rstrip("0").rstrip(".") if "." in text else text


_HOURS = re.compile(r"(-?)(\d+):(\d\d):(\d\d(?:\.\d+)?)\Z")
_ISO = re.compile(
    r"P(?:(-?\d+)Y)?(?:(-?\d+)M)?(?:(-?\d+)W)?(?:(-?\d+)D)?"
    r"(?:T(?:(-?\d+)H)?(?:(-?\d+)M)?(?:(-?\d+(?:\.\d+)?)S)?)?\Z"
)


def _interval(value: Any) -> str:
    """Months, days and seconds of `-838:59:59.5` and of ISO 8601."""
    text = str(value)
    if hours := _HOURS.match(text):
        sign, hour, minute, second = hours.groups()
        seconds = int(hour) * 3600 + int(minute) * 60 + Decimal(second)
        return f"0 0 {_number(-seconds if sign else seconds)}"
    iso = _ISO.match(text)
    if iso is None:
        return text
    years, months, weeks, days, hour, minute, second = (Decimal(part or 0) for part in iso.groups())
    return f"{years * 12 + months} {weeks * 7 + days} {_number(hour * 3600 + minute * 60 + second)}"


def _json(value: Any) -> str:
    try:
        return json.dumps(json.loads(str(value), parse_float=Decimal), sort_keys=True, default=_number)
    except ValueError:
        return str(value)


def _boolean(value: Any) -> str:
    return "1" if str(value) in ("t", "1", "true") else "0"


_CANONICAL: dict[str, Canonical] = {
    "boolean": _boolean,
    "integer": _number,
    "decimal": _number,
    "bits": _number,
    "float": _float,
    "binary": lambda value: from_hex(value).hex(),
    "timestamp": _moment,
    "timestamptz": _moment,
    "time": _moment,
    "interval": _interval,
    "json": _json,
}
