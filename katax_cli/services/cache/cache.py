"""A cache on Redis: JSON values under a prefix, with names for usual lifetimes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from katax_cli.core.callables import completed, plain
from katax_cli.core.text.duration import Duration
from katax_cli.core.text.text import to_bytes, to_text
from katax_cli.errors import QueryError
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.clients import Commands, RedisDatabase
from katax_cli.services.redis.values import JSON, Codec, chunks, encoded, positive_ms

if TYPE_CHECKING:
    from katax_cli.services.redis.keyspace import Keyspace, Survey

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
    """Keys are without the connection's prefix; TTLs are seconds (fractions allowed) or text such as "1h".

    Values are JSON unless a `codec` is given. `timeout` is seconds for a whole call; without it each answer is
    waited for 2 s at most. Raises ValueError for what cannot be stored (NaN, a TTL of 0, a value over the
    server's limit), QueryError for a key that holds another type.
    """

    def __init__(self, redis: RedisDatabase, *, codec: Codec = JSON) -> None:
        self.redis = redis
        self.codec = codec
        self._prefix = redis.settings.prefix
        self._value_limit: int | None = None

    def keys(self, timeout: Duration | None = None) -> Keyspace:
        """All keys under the connection's prefix, for work that takes `timeout` seconds at most, if it is given."""
        from katax_cli.services.redis.keyspace import Keyspace

        return Keyspace(self.redis.within(timeout), self._prefix)

    def get(self, key: str, *, timeout: Duration | None = None) -> Any:
        """The value, None when there is none. What was not stored as JSON comes back as its text."""
        return self._decoded(self.get_raw(key, timeout=timeout))

    def get_raw(self, key: str, *, timeout: Duration | None = None) -> bytes | None:
        """The bytes of a value as they are stored, None when there is none."""
        data: bytes | None = self.redis.within(timeout).redis("GET", self.full(key), safety=Safety.READ)
        return data

    def set(
        self,
        key: str,
        value: Any,
        ttl: Duration | None = None,
        *,
        only_if: str | None = None,
        keep_ttl: bool = False,
        timeout: Duration | None = None,
    ) -> bool:
        """Stores a value; False when `only_if` ("nx": missing, "xx": present) did not hold."""
        data = encoded(self.codec, value)
        return self.set_raw(key, data, ttl, only_if=only_if, keep_ttl=keep_ttl, timeout=timeout)

    def set_raw(
        self,
        key: str,
        data: bytes,
        ttl: Duration | None = None,
        *,
        only_if: str | None = None,
        keep_ttl: bool = False,
        timeout: Duration | None = None,
    ) -> bool:
        """Stores bytes as they are; see `set`."""
        redis = self.redis.within(timeout)
        self._check_size(redis, key, data)
        options: list[str | int] = ["PX", positive_ms(ttl)] if ttl is not None else []
        if only_if is not None:
            options.append(only_if.upper())
        if keep_ttl:
            options.append("KEEPTTL")
        return redis.redis("SET", self.full(key), data, *options) is not None

    def mget(self, keys: Iterable[str], *, timeout: Duration | None = None) -> list[Any]:
        """The values in the order of the keys, None for each that is missing."""
        return [self._decoded(data) for data in self.mget_raw(keys, timeout=timeout)]

    def mget_raw(self, keys: Iterable[str], *, timeout: Duration | None = None) -> list[bytes | None]:
        """The bytes in the order of the keys; a key of another type than string counts as missing."""
        redis = self.redis.within(timeout)
        values: list[bytes | None] = []
        for full in chunks([self.full(key) for key in keys], _MANY):
            if self._is_cluster:
                replies = redis.pipeline([("GET", key) for key in full], safety=Safety.READ, tolerant=True)
                values += [reply if isinstance(reply, bytes) else None for reply in replies]
            else:
                values += redis.redis("MGET", *full, safety=Safety.READ)
        return values

    def mset(
        self, values: Mapping[str, Any], ttl: Duration | None = None, *, timeout: Duration | None = None
    ) -> None:
        """Stores many values, 2,000 in a round trip; not a transaction."""
        data = {key: encoded(self.codec, value) for key, value in values.items()}
        self.mset_raw(data, ttl, timeout=timeout)

    def mset_raw(
        self, values: Mapping[str, bytes], ttl: Duration | None = None, *, timeout: Duration | None = None
    ) -> None:
        """Stores many values as they are; see `mset`."""
        redis = self.redis.within(timeout)
        for key, data in values.items():
            self._check_size(redis, key, data)
        expiry = () if ttl is None else ("PX", positive_ms(ttl))
        for chunk in chunks([(self.full(key), data) for key, data in values.items()], _MANY):
            if expiry or self._is_cluster:
                commands = [("SET", key, data, *expiry) for key, data in chunk]
                redis.pipeline(commands, safety=Safety.IDEMPOTENT)
            else:
                words = [word for pair in chunk for word in pair]
                redis.redis("MSET", *words, safety=Safety.IDEMPOTENT)

    def delete(self, *keys: str, timeout: Duration | None = None) -> int:
        """Deletes keys; returns how many there were."""
        redis = self.redis.within(timeout)
        full = [self.full(key) for key in keys]
        if self._is_cluster:
            return sum(redis.pipeline([("UNLINK", key) for key in full])) if full else 0
        return int(redis.redis("UNLINK", *full)) if full else 0

    def del_many(self, keys: Iterable[str], *, timeout: Duration | None = None) -> int:
        """Deletes keys; returns how many there were."""
        return self.delete(*keys, timeout=timeout)

    def forget(self, key: str, *, timeout: Duration | None = None) -> bool:
        """Deletes what `remember` keeps of a key; False when there was no value."""
        from katax_cli.services.cache.remember import note_key

        names = [self.full(note_key(key)), self.full(key)]
        return bool(self.redis.within(timeout).pipeline([("UNLINK", name) for name in names])[1])

    def exists(self, key: str, *, timeout: Duration | None = None) -> bool:
        return bool(self.redis.within(timeout).redis("EXISTS", self.full(key), safety=Safety.READ))

    def ttl(self, key: str, *, timeout: Duration | None = None) -> int:
        """Seconds to live, rounded; -1: for ever, -2: no such key."""
        return int(self.redis.within(timeout).redis("TTL", self.full(key), safety=Safety.READ))

    def expire(self, key: str, ttl: Duration, *, timeout: Duration | None = None) -> bool:
        """Sets the lifetime of a key; False when there is none."""
        return bool(self.redis.within(timeout).redis("PEXPIRE", self.full(key), positive_ms(ttl)))

    def persist(self, key: str, *, timeout: Duration | None = None) -> bool:
        """Lets a key live for ever; False when there is none, or when it does already."""
        return bool(self.redis.within(timeout).redis("PERSIST", self.full(key)))

    def incr(self, key: str, by: int = 1, *, timeout: Duration | None = None) -> int:
        """Adds to a counter, which starts at 0; returns its new value. Keeps the lifetime."""
        return int(self.redis.within(timeout).redis("INCRBY", self.full(key), by))

    def incr_by(self, key: str, by: int, *, timeout: Duration | None = None) -> int:
        """The same as `incr`."""
        return self.incr(key, by, timeout=timeout)

    def decr(self, key: str, by: int = 1, *, timeout: Duration | None = None) -> int:
        """Takes from a counter; see `incr`."""
        return self.incr(key, -by, timeout=timeout)

    def scan(self, pattern: str = "*", *, timeout: Duration | None = None) -> Iterator[list[bytes]]:
        """Keys that match, in batches, without the prefix; see Keyspace."""
        return self.keys(timeout).scan(pattern)

    def survey(self, pattern: str, *, timeout: Duration | None = None) -> Survey:
        """Surveys the keys that `clear` would delete: counts for some seconds, measures a sample."""
        return self.keys(timeout).survey(pattern)

    def clear(
        self,
        pattern: str,
        *,
        on_batch: Callable[[int], object] = lambda _: None,
        timeout: Duration | None = None,
    ) -> int:
        """Deletes all keys that match; returns how many there were. See Keyspace."""
        return self.keys(timeout).clear(pattern, on_batch=on_batch)

    def invalidate(
        self, resource: str, id: str | int | None = None, *, timeout: Duration | None = None
    ) -> int:
        """Deletes `cache:RESOURCE:*`, or `cache:RESOURCE:ID:*`; returns how many keys there were."""
        return self.clear(invalidation_pattern(resource, id), timeout=timeout)

    def flush(self, *, timeout: Duration | None = None) -> int | None:
        """Deletes everything under the prefix and returns how many keys; without a prefix the whole database."""
        if self._prefix:
            return self.clear("*", timeout=timeout)
        redis = self.redis.within(timeout)
        for shard in redis.shards():
            redis.redis("FLUSHDB", "ASYNC", safety=Safety.IDEMPOTENT, shard=shard)
        return None

    def stats(self, *, timeout: Duration | None = None) -> dict[str, Any]:
        """The server's counters; `hit_rate` is hits / (hits + misses), None before the first lookup."""
        from katax_cli.services.redis.info import stats

        return stats(self.redis.within(timeout))

    def remember(
        self,
        key: str,
        ttl: Duration,
        fn: Callable[[], T],
        *,
        beta: float = 1.0,
        stale_if_error: bool = False,
        timeout: Duration | None = None,
    ) -> T | Any:
        """The value of a key, computed by `fn` when there is none, by one caller at a time. See `Remembering`."""
        from katax_cli.services.cache.remember import Remembering

        plain(fn, "remember()")
        remembering = Remembering(
            self, key, ttl=ttl, beta=beta, stale_if_error=stale_if_error, timeout=timeout
        )
        return self.codec.decode(
            remembering.get(lambda: encoded(self.codec, completed(fn(), fn, "remember()")))
        )

    def full(self, key: str) -> bytes:
        """The key on the server."""
        return to_bytes(self._prefix + key)

    def _decoded(self, data: bytes | None) -> Any:
        return None if data is None else self.codec.decode(data)

    @property
    def _is_cluster(self) -> bool:
        return self.redis.settings.topology == "cluster"

    def _check_size(self, redis: Commands, key: str, data: bytes) -> None:
        # The server breaks the connection over such a value, which would look like an unknown outcome.
        if len(data) >= _SMALLEST_LIMIT and len(data) > self._limit(redis):
            raise ValueError(
                f"the value of {key!r} has {len(data)} bytes, the server takes no more than {self._limit(redis)}"
            )

    def _limit(self, redis: Commands) -> int:
        if self._value_limit is None:
            command = ("CONFIG", "GET", "proto-max-bulk-len")
            try:
                (_, limit) = redis.redis(*command, safety=Safety.READ, shard=redis.shards()[0])
                self._value_limit = int(limit)
            except (QueryError, ValueError):
                self._value_limit = _USUAL_LIMIT  # a restricted user may not ask
        return self._value_limit


def invalidation_pattern(resource: str, id: str | int | None = None) -> str:
    """The keys that hold what was cached of a resource. Raises ValueError without one."""
    from katax_cli.services.redis.keyspace import escape_glob

    if not resource or id == "":
        raise ValueError("the resource or its id is empty; name one, as in 'user' or 'user' 123")
    parts = ["cache", resource, *([] if id is None else [str(id)])]
    return to_text(escape_glob(to_bytes(":".join(parts)))) + ":*"
