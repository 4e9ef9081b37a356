"""A cache on Redis: JSON values under a prefix, with names for usual lifetimes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from json import JSONDecodeError
from typing import Any

from katax_cli.core.wire import parse, stringify
from katax_cli.services.clients import RedisDatabase
from katax_cli.services.guard import Safety

_SCAN_COUNT = 1000


class DEFAULT_TTL:  # noqa: N801 - the name that the seed documents and their users know
    """Usual lifetimes in seconds."""

    SHORT = 300
    MEDIUM = 900
    LONG = 3600
    SESSION = 86400
    WEEK = 604800


TTL_NAMES: dict[str, int] = {
    "short": DEFAULT_TTL.SHORT,
    "medium": DEFAULT_TTL.MEDIUM,
    "long": DEFAULT_TTL.LONG,
    "session": DEFAULT_TTL.SESSION,
    "week": DEFAULT_TTL.WEEK,
}


class Cache:
    """Keys are without the connection's prefix; TTLs are seconds (fractions allowed)."""

    def __init__(self, redis: RedisDatabase) -> None:
        self._redis = redis
        self._prefix = redis.settings.prefix

    def get(self, key: str) -> Any:
        """The value, None when there is none. What was not stored as JSON comes back as its text."""
        data = self.get_raw(key)
        return None if data is None else decode(data)

    def set(
        self,
        key: str,
        value: Any,
        ttl: float | None = None,
        *,
        only_if: str | None = None,
        keep_ttl: bool = False,
    ) -> bool:
        """Stores a value as JSON; False when `only_if` ("nx": missing, "xx": present) did not hold."""
        return self.set_raw(key, stringify(value).encode(), ttl, only_if=only_if, keep_ttl=keep_ttl)

    def get_raw(self, key: str) -> bytes | None:
        """The bytes of a key, None when there is none."""
        data = self._redis.redis("GET", self._key(key), safety=Safety.READ)
        assert data is None or isinstance(data, bytes)
        return data

    def set_raw(
        self,
        key: str,
        data: bytes,
        ttl: float | None = None,
        *,
        only_if: str | None = None,
        keep_ttl: bool = False,
    ) -> bool:
        """Stores bytes as they are; see `set`."""
        options: list[str | int] = ["PX", positive_ms(ttl)] if ttl is not None else []
        if only_if is not None:
            options.append(only_if.upper())
        if keep_ttl:
            options.append("KEEPTTL")
        return self._redis.redis("SET", self._key(key), data, *options) is not None

    def delete(self, *keys: str) -> int:
        """Deletes keys; returns how many there were."""
        return int(self._redis.redis("UNLINK", *map(self._key, keys))) if keys else 0

    def exists(self, key: str) -> bool:
        return bool(self._redis.redis("EXISTS", self._key(key), safety=Safety.READ))

    def ttl(self, key: str) -> int:
        """Seconds to live, rounded; -1: for ever, -2: no such key."""
        return int(self._redis.redis("TTL", self._key(key), safety=Safety.READ))

    def expire(self, key: str, ttl: float) -> bool:
        """Sets the lifetime of a key; False when there is none."""
        return bool(self._redis.redis("PEXPIRE", self._key(key), positive_ms(ttl)))

    def scan(self, pattern: str = "*", *, count: int = _SCAN_COUNT) -> Iterator[list[bytes]]:
        """Keys that match, in batches, without the prefix; SCAN may repeat keys and never blocks the server."""
        cursor = b"0"
        match = escape_glob(self._prefix) + pattern
        skip = len(self._prefix.encode())
        while True:
            cursor, keys = self._redis.redis(
                "SCAN", cursor, "MATCH", match, "COUNT", count, safety=Safety.READ
            )
            if keys:
                yield [key[skip:] for key in keys]
            if cursor == b"0":
                return

    def count(self, pattern: str) -> int:
        """How many keys match now (those that SCAN repeats are counted once)."""
        return len({key for batch in self.scan(pattern) for key in batch})

    def clear(self, pattern: str, *, on_batch: Callable[[int], object] = lambda _: None) -> int:
        """Deletes all keys that match (UNLINK in batches); returns how many there were."""
        deleted = 0
        prefix = self._prefix.encode()
        for keys in self.scan(pattern):
            deleted += int(self._redis.redis("UNLINK", *(prefix + key for key in keys)))
            on_batch(deleted)
        return deleted

    def _key(self, key: str) -> str:
        return self._prefix + key


def to_stored(data: bytes) -> bytes:
    """What is typed as a value, as it is stored: JSON in the form of `JSON.stringify`, other text as a JSON string.

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
    text = data.decode("utf-8", "surrogateescape")
    try:
        return parse(text)
    except ValueError:
        return text


def escape_glob(text: str) -> str:
    """`text` as a Redis glob that matches nothing but itself."""
    return "".join(f"\\{c}" if c in "*?[]\\^-" else c for c in text)


def positive_ms(ttl: float) -> int:
    """A lifetime in milliseconds. Raises ValueError unless it is at least one."""
    milliseconds = round(ttl * 1000)
    if milliseconds < 1:
        raise ValueError(f"ttl is {ttl:g} s, expected more than 0")
    return milliseconds
