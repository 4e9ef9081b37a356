"""A cache on Redis: JSON values under a prefix, with names for usual lifetimes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any, TypeVar

from katax_cli.core.wire import parse, stringify
from katax_cli.errors import QueryError
from katax_cli.services.clients import RedisDatabase
from katax_cli.services.guard import Safety

if TYPE_CHECKING:
    from katax_cli.services.keyspace import Keyspace, Survey

T = TypeVar("T")

_MANY = 2000
"""Keys of one round trip of `mget` and `mset`."""
_SMALLEST_LIMIT = 1 << 20
_USUAL_LIMIT = 512 << 20
"""Bytes of one value: the server's `proto-max-bulk-len` is 512 MiB unless configured, and never below 1 MiB."""


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
    """Keys are without the connection's prefix; TTLs are seconds (fractions allowed).

    Raises ValueError for what cannot be stored (NaN, a TTL of 0, a value over the server's limit), QueryError
    for a key that holds another type.
    """

    def __init__(self, redis: RedisDatabase) -> None:
        self.redis = redis
        self._prefix = redis.settings.prefix
        self._value_limit: int | None = None

    @property
    def keyspace(self) -> Keyspace:
        """All keys under the connection's prefix."""
        from katax_cli.services.keyspace import Keyspace

        return Keyspace(self.redis, self._prefix)

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
        data = self.redis.redis("GET", self.full(key), safety=Safety.READ)
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
        self._check_size(key, data)
        options: list[str | int] = ["PX", positive_ms(ttl)] if ttl is not None else []
        if only_if is not None:
            options.append(only_if.upper())
        if keep_ttl:
            options.append("KEEPTTL")
        return self.redis.redis("SET", self.full(key), data, *options) is not None

    def mget(self, keys: Iterable[str]) -> list[Any]:
        """The values in the order of the keys, None for each that is missing."""
        return [None if data is None else decode(data) for data in self.mget_raw(keys)]

    def mget_raw(self, keys: Iterable[str]) -> list[bytes | None]:
        """The bytes in the order of the keys; a key of another type than string counts as missing."""
        found: list[bytes | None] = []
        for full in _chunks([self.full(key) for key in keys]):
            if self._is_cluster:
                replies = self.redis.pipeline(
                    [("GET", key) for key in full], safety=Safety.READ, tolerant=True
                )
                found += [reply if isinstance(reply, bytes) else None for reply in replies]
            else:
                found += self.redis.redis("MGET", *full, safety=Safety.READ)
        return found

    def mset(self, values: Mapping[str, Any], ttl: float | None = None) -> None:
        """Stores many values as JSON, 2,000 in a round trip; not a transaction."""
        self.mset_raw({key: stringify(value).encode() for key, value in values.items()}, ttl)

    def mset_raw(self, values: Mapping[str, bytes], ttl: float | None = None) -> None:
        """Stores many values as they are; see `mset`."""
        for key, data in values.items():
            self._check_size(key, data)
        expiry = () if ttl is None else ("PX", positive_ms(ttl))
        for chunk in _chunks([(self.full(key), data) for key, data in values.items()]):
            if expiry or self._is_cluster:
                commands = [("SET", key, data, *expiry) for key, data in chunk]
                self.redis.pipeline(commands, safety=Safety.IDEMPOTENT)
            else:
                words = [word for pair in chunk for word in pair]
                self.redis.redis("MSET", *words, safety=Safety.IDEMPOTENT)

    def delete(self, *keys: str) -> int:
        """Deletes keys; returns how many there were."""
        full = [self.full(key) for key in keys]
        if self._is_cluster:
            return sum(self.redis.pipeline([("UNLINK", key) for key in full])) if full else 0
        return int(self.redis.redis("UNLINK", *full)) if full else 0

    def del_many(self, keys: Iterable[str]) -> int:
        """Deletes keys; returns how many there were."""
        return self.delete(*keys)

    def forget(self, key: str) -> bool:
        """Deletes what `remember` keeps of a key; False when there was no value."""
        from katax_cli.services.remember import note_key

        self.delete(note_key(key))
        return self.delete(key) > 0

    def exists(self, key: str) -> bool:
        return bool(self.redis.redis("EXISTS", self.full(key), safety=Safety.READ))

    def ttl(self, key: str) -> int:
        """Seconds to live, rounded; -1: for ever, -2: no such key."""
        return int(self.redis.redis("TTL", self.full(key), safety=Safety.READ))

    def expire(self, key: str, ttl: float) -> bool:
        """Sets the lifetime of a key; False when there is none."""
        return bool(self.redis.redis("PEXPIRE", self.full(key), positive_ms(ttl)))

    def persist(self, key: str) -> bool:
        """Lets a key live for ever; False when there is none, or when it does already."""
        return bool(self.redis.redis("PERSIST", self.full(key)))

    def incr(self, key: str, by: int = 1) -> int:
        """Adds to a counter, which starts at 0; returns its new value. Keeps the lifetime."""
        return int(self.redis.redis("INCRBY", self.full(key), by))

    def incr_by(self, key: str, by: int) -> int:
        """The same as `incr`."""
        return self.incr(key, by)

    def decr(self, key: str, by: int = 1) -> int:
        """Takes from a counter; see `incr`."""
        return self.incr(key, -by)

    def scan(self, pattern: str = "*") -> Iterator[list[bytes]]:
        """Keys that match, in batches, without the prefix; see Keyspace."""
        return self.keyspace.scan(pattern)

    def survey(self, pattern: str) -> Survey:
        """What `clear` would delete, from a sample."""
        return self.keyspace.survey(pattern)

    def clear(self, pattern: str, *, on_batch: Callable[[int], object] = lambda _: None) -> int:
        """Deletes all keys that match; returns how many there were. See Keyspace."""
        return self.keyspace.clear(pattern, on_batch=on_batch)

    def invalidate(self, resource: str, id: str | int | None = None) -> int:
        """Deletes `cache:RESOURCE:*`, or `cache:RESOURCE:ID:*`; returns how many keys there were."""
        return self.clear(invalidation_pattern(resource, id))

    def flush(self) -> int | None:
        """Deletes everything under the prefix and returns how many keys; without a prefix the whole database."""
        if self._prefix:
            return self.clear("*")
        for shard in self.redis.shards():
            self.redis.redis("FLUSHDB", "ASYNC", safety=Safety.IDEMPOTENT, shard=shard)
        return None

    def stats(self) -> dict[str, Any]:
        """The server's counters; `hit_rate` is hits / (hits + misses), None before the first lookup."""
        from katax_cli.services.cache_stats import stats

        return stats(self.redis)

    def remember(
        self,
        key: str,
        ttl: float,
        fn: Callable[[], T],
        *,
        beta: float = 1.0,
        stale_if_error: bool = False,
    ) -> T | Any:
        """The value of a key, computed by `fn` when there is none, by one caller at a time. See `remember`."""
        from katax_cli.services.remember import Remembering

        remembering = Remembering(self, key, ttl=ttl, beta=beta, stale_if_error=stale_if_error)
        return decode(remembering.get(lambda: stringify(fn()).encode()))

    def full(self, key: str) -> bytes:
        """The key on the server."""
        return (self._prefix + key).encode("utf-8", "surrogateescape")

    @property
    def _is_cluster(self) -> bool:
        return self.redis.settings.topology == "cluster"

    def _check_size(self, key: str, data: bytes) -> None:
        # The server breaks the connection over such a value, which would look like an unknown outcome.
        if len(data) >= _SMALLEST_LIMIT and len(data) > self._limit():
            raise ValueError(
                f"the value of {key!r} has {len(data)} bytes, the server takes no more than {self._limit()}"
            )

    def _limit(self) -> int:
        if self._value_limit is None:
            command = ("CONFIG", "GET", "proto-max-bulk-len")
            try:
                shard = self.redis.shards()[0]
                (_, limit) = self.redis.redis(*command, safety=Safety.READ, shard=shard)
                self._value_limit = int(limit)
            except (QueryError, ValueError):
                self._value_limit = _USUAL_LIMIT  # a restricted user may not ask
        return self._value_limit


def _chunks(items: list[T]) -> Iterator[list[T]]:
    for start in range(0, len(items), _MANY):
        yield items[start : start + _MANY]


def invalidation_pattern(resource: str, id: str | int | None = None) -> str:
    """The keys that hold what was cached of a resource. Raises ValueError without one."""
    from katax_cli.services.keyspace import escape_glob

    if not resource or id == "":
        raise ValueError("the resource or its id is empty; name one, as in 'user' or 'user' 123")
    parts = ["cache", resource, *([] if id is None else [str(id)])]
    return (
        escape_glob(":".join(parts).encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
        + ":*"
    )


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


def positive_ms(ttl: float) -> int:
    """A lifetime in milliseconds. Raises ValueError unless it is at least one."""
    milliseconds = round(ttl * 1000)
    if milliseconds < 1:
        raise ValueError(f"ttl is {ttl:g} s, expected more than 0")
    return milliseconds
