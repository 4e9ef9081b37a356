"""Values and lifetimes in Redis: JSON unless a codec is given, milliseconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from json import JSONDecodeError
from math import isfinite
from typing import Any, Protocol, TypeVar

from katax_cli.core.text.duration import Duration, in_seconds
from katax_cli.core.text.js_json import parse, stringify
from katax_cli.core.text.text import to_text

T = TypeVar("T")


class Codec(Protocol):
    """Turns values into bytes and back, in the place of JSON."""

    def encode(self, value: Any) -> bytes | str: ...

    def decode(self, data: bytes) -> Any: ...


class Json:
    """The codec without another: what `JSON.stringify` writes; what is not JSON is read as its text."""

    def encode(self, value: Any) -> bytes:
        """Raises ValueError for what JSON cannot hold."""
        return stringify(value).encode()

    def decode(self, data: bytes) -> Any:
        return decode(data)


JSON = Json()


def encoded(codec: Codec, value: Any) -> bytes:
    """The bytes of a value; text of a codec is UTF-8."""
    data = codec.encode(value)
    return data.encode() if isinstance(data, str) else data


def to_stored(data: bytes) -> bytes:
    """A typed value as it is stored: JSON in the form of `JSON.stringify`, other text as a JSON string.

    Raises ValueError for NaN, infinities and bytes that are not UTF-8.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError("the value is not UTF-8 text; use --raw to store bytes") from error
    try:
        return stringify(parse(text)).encode()
    except JSONDecodeError:
        return stringify(text).encode()


def decode(data: bytes) -> Any:
    """A stored value: JSON where it is JSON, else its text."""
    text = to_text(data)
    try:
        return parse(text)
    except ValueError:
        return text


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items, so many at a time: of one round trip."""
    return (items[start : start + size] for start in range(0, len(items), size))


def positive_ms(ttl: Duration) -> int:
    """A lifetime in milliseconds. Raises ValueError unless it is at least one."""
    seconds = in_seconds(ttl)
    if not (isfinite(seconds) and seconds >= 0.0005):
        raise ValueError(f"ttl is {seconds:g} s, expected more than 0")
    return max(1, round(seconds * 1000))
