"""The cache object, as applications use it; its commands are in tests/cli/cache/test_commands.py."""

from collections.abc import Iterator
from typing import Any

import pytest

from katax_cli.services.cache.cache import TTL_NAMES, Cache
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.redis.values import decode, positive_ms, to_stored
from tests.services.redis_database import opened

PREFIX = "a*[b]?\\^-:"


@pytest.fixture
def redis(redis_url: str) -> Iterator[RedisDatabase]:
    with opened(redis_url, prefix=PREFIX) as database:
        yield database


@pytest.fixture
def cache(redis: RedisDatabase) -> Cache:
    return Cache(redis)


@pytest.mark.parametrize(
    "value", [None, True, 0, -1, 1.5, "", "text", "é漢😀", [1, [None]], {"a": {"b": [1.5]}}, "\x00\n", 2**60]
)
def test_a_value_comes_back(value: Any, cache: Cache) -> None:
    assert cache.set("k", value) is True
    assert cache.get("k") == value


def test_what_is_missing(cache: Cache) -> None:
    assert cache.get("k") is None
    assert cache.get_raw("k") is None
    assert cache.exists("k") is False
    assert cache.ttl("k") == -2
    assert cache.expire("k", 5) is False
    assert cache.delete("k") == 0
    assert cache.delete() == 0


def test_lifetimes(cache: Cache, redis: RedisDatabase) -> None:
    cache.set("k", 1)
    assert cache.ttl("k") == -1
    cache.set("k", 1, ttl=90.5)
    assert 60_000 < int(redis.redis("PTTL", f"{PREFIX}k")) <= 90_500
    cache.set("k", 2, keep_ttl=True)
    assert 60 < cache.ttl("k") <= 91
    assert cache.expire("k", 1000) is True
    assert 900 < cache.ttl("k") <= 1000


def test_milliseconds() -> None:
    assert [positive_ms(ttl) for ttl in (0.001, 0.0015, 1, 604800)] == [1, 2, 1000, 604_800_000]
    assert TTL_NAMES == {"short": 300, "medium": 900, "long": 3600, "session": 86400, "week": 604800}


def test_only_if(cache: Cache) -> None:
    assert cache.set("k", 1, only_if="xx") is False
    assert cache.set("k", 1, only_if="nx") is True
    assert cache.set("k", 2, only_if="nx") is False
    assert cache.set("k", 3, only_if="xx") is True
    assert cache.get("k") == 3


def test_clear_takes_what_matches_and_nothing_else(cache: Cache, redis: RedisDatabase) -> None:
    """The prefix is full of characters that mean something in a pattern, and means itself."""
    for key in ("temp:1", "temp:2", "other"):
        cache.set(key, 1)
    strangers = ("temp:1", "axb?\\^-:temp:1", "a*b?\\^-:temp:1")
    for key in strangers:
        redis.redis("SET", key, 1)

    assert sorted(key for batch in cache.scan("*") for key in batch) == [b"other", b"temp:1", b"temp:2"]
    assert cache.clear("temp:*") == 2
    assert [key for batch in cache.scan("*") for key in batch] == [b"other"]
    assert all(redis.redis("EXISTS", key) == 1 for key in strangers)


def test_batches_are_told(cache: Cache, redis: RedisDatabase) -> None:
    """More than one batch, and names that are no text."""
    prefix = PREFIX.encode()
    redis.redis("MSET", *(word for n in range(3000) for word in (prefix + b"\xff" + str(n).encode(), "1")))
    told: list[int] = []

    assert cache.clear("*", on_batch=told.append) == 3000
    assert told == sorted(told)
    assert len(told) > 1
    assert told[-1] == 3000


def test_raw_bytes(cache: Cache) -> None:
    cache.set_raw("k", bytes(range(256)))

    assert cache.get_raw("k") == bytes(range(256))
    assert isinstance(cache.get("k"), str)


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        (b"1.0", b"1"),
        (b' {"a" : 1} ', b'{"a":1}'),
        (b"words", b'"words"'),
        (b"", b'""'),
        ("é".encode(), '"é"'.encode()),
    ],
)
def test_what_is_typed(typed: bytes, stored: bytes) -> None:
    assert to_stored(typed) == stored


@pytest.mark.parametrize("typed", [b"NaN", b"[Infinity]", b"1e999", b"\xff"])
def test_what_is_typed_and_refused(typed: bytes) -> None:
    with pytest.raises(ValueError):
        to_stored(typed)


def test_what_others_stored() -> None:
    assert decode(b"NaN") == "NaN"
    assert decode(b"{broken") == "{broken"
    assert decode(b"\xff").encode("utf-8", "surrogateescape") == b"\xff"
