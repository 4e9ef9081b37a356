"""The end of a certificate's validity, read from its DER bytes.

The standard library says so only of certificates that it verified; RFC 5280 section 4.1 has the structure.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

_SEQUENCE, _VERSION, _UTC_TIME = 0x30, 0xA0, 0x17


class _Element(NamedTuple):
    tag: int
    start: int
    end: int


def not_after(der: bytes) -> datetime:
    """The last moment at which it is valid. Raises ValueError for what is no certificate."""
    try:
        return _not_after(der)
    except IndexError as error:
        raise ValueError("the certificate ends in the middle") from error


def _not_after(der: bytes) -> datetime:
    position = _sequence(der, _sequence(der, 0).start).start
    if der[position] == _VERSION:
        position = _element(der, position).end
    for _serial_signature_issuer in range(3):
        position = _element(der, position).end
    first = _element(der, _sequence(der, position).start)
    last = _element(der, first.end)
    text = der[last.start : last.end].decode("ascii").removesuffix("Z")
    # Two digits of a year stand for 1950 to 2049.
    century = ("19" if text[0] >= "5" else "20") if last.tag == _UTC_TIME else ""
    return datetime.strptime(century + text, "%Y%m%d%H%M%S").replace(tzinfo=UTC)


def _sequence(der: bytes, at: int) -> _Element:
    if der[at] != _SEQUENCE:
        raise ValueError(f"byte {at} of the certificate is {der[at]:#04x}, expected a sequence (0x30)")
    return _element(der, at)


def _element(der: bytes, at: int) -> _Element:
    length, start = der[at + 1], at + 2
    if length & 0x80:
        digits = length & 0x7F
        length, start = int.from_bytes(der[start : start + digits], "big"), start + digits
    if start + length > len(der):
        raise IndexError
    return _Element(der[at], start, start + length)
