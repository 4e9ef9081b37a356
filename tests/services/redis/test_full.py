"""A Redis that answers and cannot work: full, demoted to a replica, or not for this caller."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from katax_cli.errors import AuthenticationFailed, KataxError, QueryError, Unavailable
from katax_cli.services.cache.cache import Cache
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.redis.limits import ALGORITHMS, RateLimiter
from tests.cli.harness import katax, write_profile
from tests.servers import Server
from tests.servers.fixtures import Throwaway
from tests.services.redis_database import redis_database


@pytest.fixture
def server(throwaway: Throwaway) -> Server:
    return throwaway("redis")


@pytest.fixture
def database(server: Server) -> Iterator[RedisDatabase]:
    opened = redis_database(server.url)
    yield opened
    opened.close()


def fill(database: RedisDatabase) -> None:
    database.redis("CONFIG", "SET", "maxmemory", "1")


def demote(database: RedisDatabase) -> None:
    """To a replica of nobody, that serves what it has."""
    database.redis("REPLICAOF", "127.0.0.1", "1")


@pytest.mark.parametrize(("trouble", "code"), [(fill, "OOM"), (demote, "READONLY")])
def test_who_may_fail_open_does(
    database: RedisDatabase, trouble: Callable[[RedisDatabase], None], code: str
) -> None:
    """In scripts, too: servers before Redis 7 wrap what a command in them met."""
    cache = Cache(database)
    cache.set("kept", 1)
    trouble(database)

    with pytest.raises(Unavailable, match=code):
        cache.set("k", 1)
    for algorithm in ALGORITHMS:
        limiter = RateLimiter(database, algorithm=algorithm, on_error="open")
        assert limiter.check("k").allowed
        assert not RateLimiter(database, algorithm=algorithm, on_error="closed").check("k").allowed
        assert limiter.undecided == 1
        with pytest.raises(Unavailable, match=code):
            RateLimiter(database, algorithm=algorithm).check("k")
    assert cache.get("kept") == 1
    assert cache.remember("k", 60, lambda: "computed", stale_if_error=True) == "computed"
    assert cache.remember("kept", 60, lambda: "computed", stale_if_error=True) == 1
    with pytest.raises(Unavailable, match=code):
        cache.remember("k", 60, lambda: "computed")
    with pytest.raises(RuntimeError, match="no source"):
        cache.remember("k", 60, failing, stale_if_error=True)


def failing() -> None:
    raise RuntimeError("no source")


def test_the_last_value_stands_in_while_nothing_can_be_stored(database: RedisDatabase) -> None:
    cache = Cache(database)
    cache.remember("k", 60, lambda: "old", stale_if_error=True)
    cache.delete("k")
    fill(database)
    assert cache.remember("k", 60, lambda: "new", stale_if_error=True) == "new"
    assert cache.remember("k", 60, failing, stale_if_error=True) == "old"


def test_what_is_not_an_outage_never_opens_the_door(redis_acl: Server, redis7: Server) -> None:
    def refused(call: Callable[[], object]) -> KataxError:
        with pytest.raises(KataxError) as error:
            call()
        return error.value

    restricted = redis_database(redis_acl.url)
    stranger = redis_database(redis7.url.replace(redis7.password, "wr0ng"))
    known = redis_database(redis7.url)
    known.redis("LPUSH", "rate:fixed:list", 1)
    known.redis("LPUSH", "list", 1)
    expected = (
        (restricted, "k", QueryError),
        (stranger, "k", AuthenticationFailed),
        (known, "list", QueryError),
    )
    for database, key, kind in expected:
        check = RateLimiter(database, on_error="open").check
        assert type(refused(partial(check, key))) is kind
        assert type(refused(partial(Cache(database).remember, key, 5, dict, stale_if_error=True))) is kind
        database.close()


def test_the_commands_hold_too(server: Server, database: RedisDatabase, tmp_path: Path) -> None:
    write_profile(tmp_path, {"cache": server.url})
    fill(database)
    for words, code, out in (
        (("limit", "check", "k", "--on-error", "open", "-f", "json"), 0, '"allowed": true'),
        (("limit", "check", "k", "--on-error", "closed", "-f", "json"), 1, '"allowed": false'),
        (("limit", "check", "k"), 3, ""),
        (("cache", "remember", "k", "--ttl", "1m", "--stale-if-error", "--", "echo", "[1]"), 0, "[1]"),
        (("cache", "remember", "k", "--ttl", "1m", "--", "echo", "[1]"), 3, ""),
        (("cache", "set", "k", "1"), 3, ""),
    ):
        done = katax(*words)
        assert (done.code, out in done.out) == (code, True), (words, done.err)
