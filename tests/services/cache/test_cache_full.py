"""The cache as applications use it, on a real Redis."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any, cast

import pytest

from katax_cli.core.clock import SYSTEM
from katax_cli.core.settings import Secret
from katax_cli.errors import QueryError, Refused
from katax_cli.services.cache import copy as cache_copy
from katax_cli.services.cache.cache import Cache
from katax_cli.services.cache.doctor import examine
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.redis.acl import least_rule
from katax_cli.services.redis.keyspace import Keyspace, lifetime_bucket, next_batch
from katax_cli.services.redis.values import decode, to_stored
from tests.servers import Server
from tests.servers.fixtures import Throwaway
from tests.services.redis_database import opened, redis_database

PREFIX = "app[1]*:"
"""A prefix whose own characters mean something in a glob."""


@pytest.fixture
def cache(redis_url: str) -> Iterator[Cache]:
    with opened(redis_url, prefix=PREFIX) as database:
        yield Cache(database)


def raw(cache: Cache, *words: Any) -> Any:
    return cache.redis.redis(*words)


def keys(cache: Cache) -> set[bytes]:
    return set(raw(cache, "KEYS", "*"))


AWKWARD = ["plain", "new\nline", "star*", "q?[x]\\", "ünïcode", "sp ace", "\udcff\udcfe", "a:b:{tag}", "^-"]


def test_every_key_comes_back_as_it_was_called(cache: Cache) -> None:
    for number, key in enumerate(AWKWARD):
        cache.set(key, number)

    assert [cache.get(key) for key in AWKWARD] == list(range(len(AWKWARD)))
    assert cache.mget(AWKWARD) == list(range(len(AWKWARD)))
    listed = {key.decode("utf-8", "surrogateescape") for batch in cache.scan() for key in batch}
    assert listed == set(AWKWARD)
    assert cache.delete(*AWKWARD) == len(AWKWARD)


def test_values_are_stored_as_javascript_writes_them(cache: Cache) -> None:
    cache.mset({"a": 1.0, "b": {"x": [None, True, "é"]}, "c": "text"})

    stored = [raw(cache, "GET", PREFIX + key) for key in "abc"]
    assert stored == [b"1", '{"x":[null,true,"é"]}'.encode(), b'"text"']


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}, {"x": float("-inf")}])
def test_what_json_cannot_hold_is_refused_before_anything_is_sent(cache: Cache, value: Any) -> None:
    with pytest.raises(ValueError):
        cache.set("k", value)
    with pytest.raises(ValueError):
        cache.mset({"good": 1, "bad": value})
    assert keys(cache) == set()


def test_counters(cache: Cache) -> None:
    assert (cache.incr("n"), cache.incr_by("n", 10), cache.decr("n"), cache.decr("n", 4)) == (1, 11, 10, 6)
    cache.expire("n", 100)
    cache.incr("n")
    assert 0 < cache.ttl("n") <= 100


def test_a_counter_that_is_no_number_is_refused(cache: Cache) -> None:
    cache.set("text", "abc")
    with pytest.raises(QueryError) as error:
        cache.incr("text")
    assert str(error.value) == "'cache' refused the statement: value is not an integer or out of range"


def test_a_key_of_another_type_is_refused(cache: Cache) -> None:
    raw(cache, "LPUSH", PREFIX + "list", "x")
    with pytest.raises(QueryError) as error:
        cache.get("list")
    assert error.value.code == "WRONGTYPE"
    assert cache.mget(["list", "none"]) == [None, None]


@pytest.mark.parametrize("ttl", [0, -1, 0.0001])
def test_a_lifetime_is_more_than_nothing(cache: Cache, ttl: float) -> None:
    for store in (
        lambda: cache.set("k", 1, ttl),
        lambda: cache.mset({"k": 1}, ttl),
        lambda: cache.expire("k", ttl),
    ):
        with pytest.raises(ValueError, match="expected more than 0"):
            store()
    assert keys(cache) == set()


def test_lifetimes_are_kept_and_lifted(cache: Cache) -> None:
    cache.mset({"a": 1, "b": 2}, ttl=500)
    assert 400 < cache.ttl("a") <= 500
    assert 400 < cache.ttl("b") <= 500
    assert cache.persist("a")
    assert not cache.persist("a")
    assert cache.ttl("a") == -1
    assert cache.set("b", 3, keep_ttl=True)
    assert cache.ttl("b") > 0
    assert cache.ttl("none") == -2


def test_a_value_over_the_servers_limit_is_told_before_it_is_sent(throwaway: Throwaway) -> None:
    server = throwaway("redis", settings={"proto-max-bulk-len": "1048576"})
    with opened(server.url) as database:
        cache = Cache(database)
        assert cache.set_raw("fits", b"x" * 1048576)
        with pytest.raises(ValueError) as error:
            cache.set_raw("k", b"x" * 1048577)
        assert str(error.value) == (
            "the value of 'k' has 1048577 bytes, the server takes no more than 1048576"
        )
        assert cache.exists("fits")


def test_many_keys_go_in_and_out_in_order(cache: Cache) -> None:
    values = {f"k{number}": number for number in range(4500)}
    cache.mset(values)
    cache.mset(values, ttl=60)
    assert cache.mget(values) == list(values.values())
    assert cache.mget([]) == []
    assert cache.del_many(values) == len(values)


def test_clear_takes_what_matches_and_leaves_the_rest(cache: Cache) -> None:
    cache.mset({f"temp:{number}": 0 for number in range(3000)} | {"kept": 1})
    seen: list[int] = []

    assert cache.clear("temp:*", on_batch=seen.append) == 3000
    assert seen == sorted(seen)
    assert seen[-1] == 3000
    assert cache.clear("temp:*") == 0
    assert cache.get("kept") == 1


def test_a_clear_that_was_cut_short_is_finished_by_the_next(cache: Cache) -> None:
    cache.mset({f"temp:{number}": 0 for number in range(3000)})

    class Cut(Exception):
        pass

    def cut(_deleted: int) -> None:
        raise Cut

    with pytest.raises(Cut):
        cache.clear("temp:*", on_batch=cut)
    left = len(keys(cache))
    assert 0 < left < 3000
    assert cache.clear("temp:*") == left


def test_a_glob_with_special_characters_is_the_callers(cache: Cache) -> None:
    cache.mset({"a*b": 1, "axb": 2})
    assert cache.clear("a\\*b") == 1
    assert cache.get("axb") == 2


def test_an_empty_pattern_is_no_pattern(cache: Cache) -> None:
    for use in (cache.clear, cache.survey, lambda pattern: list(cache.scan(pattern))):
        with pytest.raises(ValueError) as error:
            use("")
        assert "the pattern is empty" in str(error.value)


def test_invalidate_takes_a_resource_or_one_of_it(cache: Cache) -> None:
    for key in ("cache:user:1:a", "cache:user:12:a", "cache:user*:1:a", "cache:order:1:a"):
        cache.set(key, 1)
    assert cache.invalidate("user", 1) == 1
    assert cache.invalidate("user*") == 1
    assert cache.invalidate("user") == 1
    assert cache.get("cache:order:1:a") == 1
    with pytest.raises(ValueError):
        cache.invalidate("")


def test_flush_takes_the_prefix_and_without_one_the_database(cache: Cache, redis_url: str) -> None:
    cache.set("a", 1)
    raw(cache, "SET", "other", 1)
    assert cache.flush() == 1
    assert keys(cache) == {b"other"}
    with opened(redis_url) as whole:
        assert Cache(whole).flush() is None
    assert keys(cache) == set()


def test_a_survey_says_what_is_there(cache: Cache) -> None:
    cache.mset({f"s:{number}": "x" * 100 for number in range(50)}, ttl=30)
    cache.mset({f"s:e{number}": 1 for number in range(50)})
    raw(cache, "LPUSH", PREFIX + "s:list", 1)

    survey = cache.survey("s:*")

    assert (survey.matching, survey.at_least, survey.measured) == (101, False, 101)
    assert survey.types == {"string": 100, "list": 1}
    assert survey.lifetimes == {"under 1m": 50, "for ever": 51}
    assert survey.bytes is not None
    assert survey.bytes > 5000


def test_a_survey_counts_what_is_thinly_spread(redis_url: str) -> None:
    """After most keys were deleted the pages of SCAN are nearly empty, and say nothing of each other."""
    with opened(redis_url) as database:
        cache = Cache(database)
        cache.mset({f"odd:{n}": n for n in range(30_000)})
        cache.mset({f"even:{n}": "x" if n % 2 else {"a": n} for n in range(1200)}, ttl="1h")
        cache.clear("odd:*")
        survey = cache.survey("even:*")
        assert (survey.matching, survey.at_least, survey.count, survey.measured) == (1200, False, "1200", 200)
        assert survey.lifetimes == {"under 1h": 200}
        unfinished = Keyspace(database).survey("even:*", seconds=0.0)
        assert unfinished.at_least
        assert unfinished.count == f"at least {unfinished.matching}"
        assert cache.clear("even:*") == 1200


def test_a_server_that_began_anew_is_walked_from_the_start(throwaway: Throwaway) -> None:
    """A cursor of SCAN means nothing to another process, which hashes keys otherwise."""
    server, count = throwaway("redis"), 20_000
    with opened(server.url) as database:
        cache = Cache(database)
        cache.mset({f"k:{number}": number for number in range(count)})
        restarts: list[int] = []

        def restart(done: int) -> None:
            if not restarts:
                restarts.append(done)
                database.redis("SAVE")
                server.restart()

        listed: set[bytes] = set()
        for batch in cache.keys().distinct():
            listed.update(batch)
            restart(len(listed))
        assert len(listed) == count

        def lose(done: int) -> None:
            restart(done)
            assert cache.keys().size() == count  # a read, which may be repeated on a new connection
            cache.delete(*(f"k:{number}" for number in range(count // 2)))

        restarts.clear()
        survey = Keyspace(database, clock=_Restarting(lose)).survey("k:*", seconds=float("inf"))
        assert (survey.matching, survey.at_least, len(restarts)) == (count // 2, False, 1)

        restarts.clear()
        assert cache.clear("k:*", on_batch=restart) == count // 2
        assert database.redis("DBSIZE") == 0


class _Restarting:
    """A clock that is looked at after each page."""

    now, sleep, random = SYSTEM.now, SYSTEM.sleep, SYSTEM.random

    def __init__(self, page: Callable[[int], None]) -> None:
        self._page = page
        self._looks = 0

    def monotonic(self) -> float:
        self._looks += 1
        if self._looks == 5:
            self._page(self._looks)
        return SYSTEM.monotonic()


class _Balanced:
    """A proxy of two servers: INFO is answered by each in turn, everything else by the first."""

    def __init__(self, first: RedisDatabase, second: RedisDatabase) -> None:
        self._first = first
        self._turns = cycle((first, second))

    def redis(self, *words: Any, **options: Any) -> Any:
        if words[0] != "INFO":
            return self._first.redis(*words, **options)
        return next(self._turns).redis(*words, safety=options["safety"])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._first, name)


def test_a_proxy_whose_servers_answer_in_turn_is_walked_once(redis_url: str, throwaway: Throwaway) -> None:
    with opened(redis_url) as first, opened(throwaway("redis").url) as second:
        Cache(first).mset({f"k:{number}": number for number in range(3000)})
        keyspace = Keyspace(cast("Any", _Balanced(first, second)))
        assert sum(map(len, keyspace.distinct("k:*"))) == 3000
        survey = keyspace.survey("k:*", seconds=float("inf"))
        assert (survey.matching, survey.at_least) == (3000, False)


def test_stats_have_the_documented_keys(cache: Cache) -> None:
    cache.set("k", 1)
    for _ in range(3):
        cache.get("k")
    stats = cache.stats()
    assert list(stats) == [
        "uptime_seconds",
        "connected_clients",
        "used_memory",
        "used_memory_human",
        "total_commands_processed",
        "hit_rate",
    ]
    assert 0 < stats["hit_rate"] <= 1
    assert stats["used_memory_human"].endswith(("K", "M"))


def test_the_doctor_finds_what_was_planted(cache: Cache) -> None:
    cache.mset({f"user:{number}": 1 for number in range(30)})
    cache.mset({f"cliff:{number}": 1 for number in range(100)}, ttl=5000)
    cache.set_raw("huge", b"x" * (2 << 20), ttl=77)

    findings, looked = examine(cache)

    assert looked == 131
    found = {(each.check, each.subject): each.message for each in findings}
    assert found["no_ttl", "user:*"] == "30 of 30 sampled keys never expire"
    assert found["big_key", "huge"].startswith("takes 2.")
    assert "of 101 sampled keys expire within one second" in next(
        message for (check, _), message in found.items() if check == "ttl_cliff"
    )
    assert ("no_ttl", "cliff:*") not in found


def test_export_and_import_keep_types_bytes_and_lifetimes(cache: Cache, redis_url: str) -> None:
    cache.set("text", {"a": 1}, ttl=500)
    cache.set_raw("\udcff\n*", b"\x00\xff")
    raw(cache, "ZADD", PREFIX + "scores", 1.5, "m")
    lines = [line.encode() for batch in cache_copy.export(cache) for line in batch]

    with opened(redis_url, prefix="copy:") as other:
        copy = Cache(other)
        copy.set("text", "older")
        assert cache_copy.load(copy, lines) == cache_copy.LoadedKeys(imported=2, skipped=1)
        assert copy.get("text") == "older"
        assert cache_copy.load(copy, lines, replace=True) == cache_copy.LoadedKeys(imported=3, skipped=0)
        assert copy.get("text") == {"a": 1}
        assert 400 < copy.ttl("text") <= 500
        assert copy.get_raw("\udcff\n*") == b"\x00\xff"
        assert other.redis("ZSCORE", "copy:scores", "m") == b"1.5"
    assert {next(iter(json.loads(line))) for line in lines} == {"key", "key_base64"}


@pytest.mark.parametrize("line", [b"{", b'{"key":"a"}', b"[]", b'{"key":"a","ttl_ms":null,"dump":"?"}'])
def test_a_line_that_is_no_export_is_named(cache: Cache, line: bytes) -> None:
    with pytest.raises(ValueError) as error:
        cache_copy.load(cache, [b"", line])
    assert str(error.value).startswith("line 2 is no line of 'cache export'")


def test_a_read_only_cache_reads_and_refuses(redis_url: str) -> None:
    with opened(redis_url) as writable:
        Cache(writable).set("k", 1)
    with opened(redis_url, read_only=True) as database:
        cache = Cache(database)
        assert (cache.get("k"), cache.mget(["k"]), cache.survey("*").matching) == (1, [1], 1)
        assert examine(cache)[1] == 1
        for write in (
            lambda: cache.set("k", 2),
            lambda: cache.mset({"k": 2}),
            lambda: cache.mset({"k": 2}, 5),
            lambda: cache.clear("*"),
            cache.flush,
            lambda: cache.incr("k"),
            lambda: cache.remember("new", 10, lambda: 1),
        ):
            with pytest.raises(Refused):
                write()
        assert cache.get("k") == 1


def test_a_batch_follows_the_time_that_the_last_one_took() -> None:
    assert next_batch(1000, 0.002) == 1000
    assert next_batch(1000, 0.0015) == 1333
    assert next_batch(1000, 0.0001) == 2000
    assert next_batch(1000, 1.0) == 500
    assert next_batch(60, 1.0) == 50
    assert next_batch(9000, 0.0001) == 10_000
    assert next_batch(100, 0.0) == 200


def test_lifetimes_fall_into_buckets() -> None:
    milliseconds = [-1, 0, 59_999, 60_000, 3_600_000, 86_400_000]
    assert [lifetime_bucket(each) for each in milliseconds] == [
        "for ever",
        "under 1m",
        "under 1m",
        "under 1h",
        "under 1d",
        "1d and more",
    ]


def test_typed_values_are_json_or_text() -> None:
    typed = [b'{"a": 1.0}', b"plain", b"5", b'"q"', b""]
    assert [to_stored(each) for each in typed] == [b'{"a":1}', b'"plain"', b"5", b'"q"', b'""']
    assert decode(b"not json") == "not json"
    for bad in (b"NaN", b"-Infinity", b"\xff"):
        with pytest.raises(ValueError):
            to_stored(bad)


def test_the_least_acl_rule_is_enough_for_the_whole_cache(redis7: Server) -> None:
    """On Redis 7 a user with this rule does everything; one with the rule for reads alone writes nothing."""
    admin = redis_database(redis7.url)
    for user, read_only in (("least", False), ("reader", True)):
        rule = least_rule(user, "acl:", ["cache"], read_only=read_only)
        admin.redis(*rule.replace(">PASSWORD", ">s3cr3t-acl").split())
    login = {"user": "least", "password": Secret.of("s3cr3t-acl"), "prefix": "acl:"}
    with opened(redis7.url, **login) as database:
        _do_everything(Cache(database))
        with pytest.raises(QueryError):
            database.redis("SET", "other:k", 1)
        with pytest.raises(QueryError):
            database.redis("FLUSHDB")
    with opened(redis7.url, **{**login, "user": "reader"}) as database:
        assert Cache(database).get("left") == 1
        with pytest.raises(QueryError):
            Cache(database).set("k", 1)
    with opened(redis7.url, **{**login, "user": "reader"}, read_only=True) as database:
        assert Cache(database).mget(["left", "none"]) == [1, None]
        with pytest.raises(Refused):
            Cache(database).set("k", 1)
    admin.redis("ACL", "DELUSER", "least", "reader")
    admin.close()


def test_a_user_who_may_not_run_scripts_clears_all_the_same(redis7: Server) -> None:
    admin = redis_database(redis7.url)
    words = ["on", ">s3cr3t-acl", "~acl:*", "+@read", "+@write", "+@connection"]
    admin.redis("ACL", "SETUSER", "scriptless", *words)
    login: dict[str, Any] = {"user": "scriptless", "password": Secret.of("s3cr3t-acl"), "prefix": "acl:"}
    with opened(redis7.url, **login) as database:
        cache = Cache(database)
        cache.mset({f"temp:{number}": 1 for number in range(3000)} | {"kept": 1})
        assert cache.clear("temp:*") == 3000
        assert cache.clear("kept") == 1
    admin.redis("ACL", "DELUSER", "scriptless")
    admin.close()


def _do_everything(cache: Cache) -> None:
    cache.set("k", 1, 1000)
    cache.mset({"a": 1, "left": 1})
    assert cache.mget(["a", "k"]) == [1, 1]
    assert (cache.exists("a"), cache.expire("a", 500), cache.persist("a")) == (True, True, True)
    assert (cache.ttl("a"), cache.incr("n")) == (-1, 1)
    assert cache.remember("r", 10, lambda: "v") == "v"
    assert cache.stats()["used_memory"] > 0
    assert examine(cache)[1] >= 3
    lines = [line.encode() for batch in cache_copy.export(cache, "k") for line in batch]
    assert cache_copy.load(cache, lines, replace=True).imported == 1
    assert cache.survey("*").matching >= 3
    assert cache.set_raw("big", b"x" * (1 << 20))
    cache.invalidate("user")
    assert cache.clear("[^l]*") >= 3
    assert cache.delete("k") == 0
