"""`katax cache` beyond single keys: words in, bytes and codes out, on a real Redis."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis as driver

from katax_cli.services.cache.cache import Cache
from katax_cli.services.redis.keyspace import Survey
from tests.cli.harness import katax, write_profile
from tests.servers.fixtures import MakeProxy
from tests.waiting import until

PREFIX = "app:"


@pytest.fixture
def redis(redis_url: str, tmp_path: Path) -> driver.Redis:
    """What the server holds; the profile has a prefix."""
    file = write_profile(tmp_path, {"cache": redis_url})
    file.write_text(file.read_text() + f'prefix = "{PREFIX}"\n')
    return driver.Redis.from_url(redis_url)


@pytest.fixture
def production(redis_url: str, tmp_path: Path, redis: driver.Redis) -> driver.Redis:
    write_profile(tmp_path, {"cache": redis_url}, role="prod")
    return redis


def fill(redis: driver.Redis, count: int, name: str = "temp", **options: Any) -> None:
    for number in range(count):
        redis.set(f"{PREFIX}{name}:{number}", number, **options)


def test_counters_print_their_value(redis: driver.Redis) -> None:
    assert katax("cache", "incr", "n").out == "1\n"
    assert katax("cache", "incr", "n", "--by", "10").out == "11\n"
    assert katax("cache", "decr", "n", "--by", "4", "-f", "json").json == 7
    assert katax("cache", "incr", "n", "--by", "-2").out == "5\n"
    assert katax("cache", "incr", "n", "--dry-run").code == 0
    assert redis.get("app:n") == b"5"


def test_a_counter_takes_whole_numbers_only(redis: driver.Redis) -> None:
    assert katax("cache", "incr", "n", "--by", "1.5").code == 2
    redis.set("app:text", "abc")
    done = katax("cache", "incr", "text")
    assert (done.code, done.out) == (1, "")
    assert done.err == "katax: 'cache' refused the statement: value is not an integer or out of range\n"


def test_many_values_go_in_and_out(redis: driver.Redis, tmp_path: Path) -> None:
    assert katax(
        "cache", "mset", 'a={"x": 1.0}', "b=text=more", "c=", "--ttl", "short", "-f", "json"
    ).json == {"stored": 3}
    assert redis.get("app:a") == b'{"x":1}'
    assert redis.get("app:b") == b'"text=more"'
    assert 240 < redis.ttl("app:c") <= 300
    done = katax("cache", "mget", "a", "b", "c", "none", "-f", "json")
    assert done.code == 1
    assert [row["value"] for row in done.json] == [{"x": 1}, "text=more", "", None]
    assert katax("cache", "mget", "a", "-f", "csv").out == 'key,value\na,"{""x"":1}"\n'


def test_mset_reads_one_object(redis: driver.Redis, tmp_path: Path) -> None:
    assert katax("cache", "mset", "-", stdin=b'{"a": [1, 2.50], "b": "x"}').code == 0
    assert (redis.get("app:a"), redis.get("app:b")) == (b"[1,2.5]", b'"x"')
    (tmp_path / "v.json").write_text('{"c": null}')
    assert katax("cache", "mset", "@v.json").code == 0
    assert redis.get("app:c") == b"null"


@pytest.mark.parametrize(
    ("words", "stdin", "told"),
    [
        (["mset", "-"], b'{"a": ', "stdin is no JSON"),
        (["mset", "-"], b"[1]", "stdin holds JSON of another kind"),
        (["mset", "-"], b'{"a": NaN}', "NaN is not JSON"),
        (["mset", "a=NaN"], b"", "NaN is not JSON"),
        (["mset", "a"], b"", "'a' has no value; write KEY=VALUE"),
        (["mset", "=1"], b"", "'' has no value; write KEY=VALUE"),
        (["mset", "a=1", "--ttl", "0"], b"", "ttl is 0, expected more than 0 seconds"),
        (["mset", "a=1", "--ttl", "-5"], b"", "-5"),
        (["set", "a", "Infinity"], b"", "Infinity is not JSON"),
        (["clear", ""], b"", "the pattern is empty"),
        (["invalidate", ""], b"", "the resource or its id is empty"),
        (["remember", "k", "--ttl", "0", "--", "true"], b"", "ttl is 0, expected more than 0 seconds"),
        (["remember", "k", "--ttl", "5", "--beta", "-1", "--", "true"], b"", "beta is -1"),
        (["acl", "nothing"], b"", "no group named 'nothing'"),
        (["import", "absent.jsonl"], b"", "cannot read 'absent.jsonl'"),
    ],
)
def test_bad_input_is_told_and_changes_nothing(
    redis: driver.Redis, words: list[str], stdin: bytes, told: str
) -> None:
    done = katax("cache", *words, stdin=stdin)
    assert (done.code, done.out) == (2, "")
    assert told in done.err.splitlines()[-1]
    assert redis.keys("*") == []


def test_persist(redis: driver.Redis) -> None:
    redis.set("app:k", 1, ex=100)
    assert katax("cache", "persist", "k").code == 0
    assert redis.ttl("app:k") == -1
    assert katax("cache", "persist", "k").code == 1
    assert katax("cache", "persist", "none").code == 1


def test_clear_shows_first_what_it_will_delete(redis: driver.Redis) -> None:
    fill(redis, 20, ex=30)
    fill(redis, 2, "kept")

    refused = katax("cache", "clear", "temp:*")
    assert (refused.code, refused.out, len(redis.keys("*"))) == (4, "", 22)
    assert refused.err.splitlines()[-1] == (
        "katax: refused: delete 20 keys that match 'temp:*' on 'test/cache' needs confirmation; repeat with --yes"
    )
    shown = refused.err.splitlines()
    assert shown[0].startswith("20 keys match 'temp:*', about ")
    assert shown[1:3] == ["types: string 100%", "lifetimes: under 1m 100%"]

    dry = katax("cache", "clear", "temp:*", "--dry-run", "-f", "json")
    assert dry.json == {"pattern": "temp:*", "matching": 20, "deleted": 0, "dry_run": True}
    done = katax("cache", "clear", "temp:*", "-y", "-f", "json")
    assert (done.code, done.json) == (0, {"pattern": "temp:*", "matching": 20, "deleted": 20})
    assert sorted(redis.keys("*")) == [b"app:kept:0", b"app:kept:1"]


def test_every_key_of_production_is_refused_even_with_its_name(production: driver.Redis) -> None:
    production.set("k", 1)
    for pattern in ("*", "**", "?*", "*?", "[^_]*", "[!-~]*", "????*", "[^]*"):
        done = katax("cache", "clear", pattern, "--confirm", "test/cache")
        assert done.code == 4
        assert "is every key of 'cache', a prod connection; name a narrower pattern" in done.err
    assert katax("cache", "clear", "k*", "-y").code == 4
    assert production.get("k") == b"1"
    assert katax("cache", "clear", "k*", "--confirm", "test/cache").code == 0
    assert production.get("k") is None


def sessions(redis: driver.Redis) -> set[str]:
    """Those that use the database of this one, itself too."""
    clients = redis.client_list()
    number = str(redis.connection_pool.connection_kwargs["db"])
    return {each["id"] for each in clients if each["db"] == number}


@pytest.mark.begins_first
def test_a_clear_that_was_killed_is_finished_by_the_next(
    redis: driver.Redis, redis_url: str, proxy: MakeProxy, tmp_path: Path
) -> None:
    pipe = redis.pipeline(transaction=False)
    for number in range(60_000):
        pipe.set(f"app:temp:{number}", "x")
    pipe.execute()
    redis.set("app:kept", 1)
    words = [sys.executable, "-m", "katax_cli", "cache", "clear", "temp:*", "-y", "-q"]
    profile = tmp_path / "profiles" / "test.toml"
    direct, wire, halfway = profile.read_text(), proxy(redis_url), threading.Event()

    def hold(_: bytes) -> None:
        if redis.dbsize() < 50_000 and not halfway.is_set():
            wire.stall()
            halfway.set()

    wire.on_client_bytes(hold)
    profile.write_text(direct.replace(redis_url, wire.url))
    own = sessions(redis)
    running = subprocess.Popen(words, cwd=tmp_path)
    assert halfway.wait(60)
    running.kill()
    running.wait()
    wire.cut()
    profile.write_text(direct)
    # Until then the server may go on with what it had been sent.
    until(lambda: sessions(redis) <= own)
    left = redis.dbsize()

    done = katax("cache", "clear", "temp:*", "-y", "-q", "-f", "json")

    assert 1 < left < 60_000
    assert done.json["deleted"] == left - 1
    assert redis.keys("*") == [b"app:kept"]


def test_scan_lists_keys_as_they_are(redis: driver.Redis) -> None:
    for key in (b"app:new\nline", b"app:\xff\xfe", b"app:star*", b"other"):
        redis.set(key, 1)
    done = katax("cache", "scan", "-f", "csv", "--no-header")
    assert sorted(done.stdout.splitlines()) == sorted([b'"new', b'line"', b"\xff\xfe", b"star*"])
    assert katax("cache", "scan", "star\\*", "-f", "json").json == [{"key": "star*"}]
    assert (
        len(katax("cache", "scan", "--limit", "2", "-f", "csv", "--no-header", "[^n]*").stdout.splitlines())
        == 2
    )
    assert katax("cache", "get", "\udcff\udcfe").out == "1\n"


def test_invalidate(redis: driver.Redis) -> None:
    for key in ("cache:user:1:a", "cache:user:2:a", "cache:order:1"):
        redis.set(f"app:{key}", 1)
    assert katax("cache", "invalidate", "user", "1", "-f", "json").json == {
        "pattern": "cache:user:1:*",
        "deleted": 1,
    }
    assert katax("cache", "invalidate", "user", "-f", "json").json["deleted"] == 1
    assert redis.keys("*") == [b"app:cache:order:1"]


def test_flush_asks_and_keeps_what_is_not_ours(redis: driver.Redis) -> None:
    fill(redis, 3)
    redis.set("other", 1)
    assert katax("cache", "flush").code == 4
    assert katax("cache", "flush", "-y", "-f", "json").json == {"matching": 3, "deleted": 3}
    assert redis.keys("*") == [b"other"]


@pytest.mark.parametrize("words", [("clear", "k*", "-y"), ("flush", "-y"), ("invalidate", "user")])
def test_what_an_interrupt_left_deleted_is_told(
    redis: driver.Redis, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    def interrupted(_cache: Cache, _pattern: str, *, on_batch: Callable[[int], object]) -> int:
        on_batch(1200)
        raise KeyboardInterrupt

    fill(redis, 3)
    monkeypatch.setattr(Cache, "clear", interrupted)
    done = katax("cache", *words)

    assert done.code == 130
    assert "interrupted: at least 1,200" in done.err

    counted = Survey(900_000, at_least=True, measured=0, bytes=None, types={}, lifetimes={})
    monkeypatch.setattr(Cache, "survey", lambda *_: counted)
    # Where counting took too long, the count so far is no total.
    assert "of 900,000" not in katax("cache", "clear", "k*", "-y").err


def test_export_and_import(redis: driver.Redis, tmp_path: Path) -> None:
    redis.set("app:a", '"x"', px=90_000)
    redis.rpush("app:list", 1, 2)
    assert katax("cache", "export", "-o", "dump.jsonl").err == "exported 2 keys\n"
    redis.flushdb()
    redis.set("app:a", "newer")
    done = katax("cache", "import", "dump.jsonl", "-f", "json")
    assert done.json == {"imported": 1, "skipped": 1}
    assert (redis.get("app:a"), redis.lrange("app:list", 0, -1)) == (b"newer", [b"1", b"2"])
    refused = katax("cache", "import", "dump.jsonl", "--replace")
    assert (refused.code, "replace up to 2 keys" in refused.err) == (4, True)
    dry = katax("cache", "import", "dump.jsonl", "--replace", "--dry-run", "-f", "json").json
    assert dry == {"lines": 2, "imported": 0, "dry_run": True}
    assert katax("cache", "import", "-", "--replace", "-y", stdin=Path("dump.jsonl").read_bytes()).code == 0
    assert redis.get("app:a") == b'"x"'
    assert 80_000 < redis.pttl("app:a") <= 90_000


def test_an_import_from_a_pipe_is_not_counted_before(redis: driver.Redis, tmp_path: Path) -> None:
    redis.set("app:a", "1")
    line = katax("cache", "export").stdout
    redis.set("app:a", "2")
    words = [sys.executable, "-m", "katax_cli", "cache", "import", "-", "--replace"]
    asked = subprocess.run(words, input=line, cwd=tmp_path, capture_output=True, check=False)
    assert (asked.returncode, b"replace the keys that exist" in asked.stderr) == (4, True)
    assert subprocess.run([*words, "-y"], input=line, cwd=tmp_path, check=False).returncode == 0
    assert redis.get("app:a") == b"1"


def test_stats_and_doctor(redis: driver.Redis) -> None:
    fill(redis, 5, "user")
    assert list(katax("cache", "stats", "-f", "json").json) == [
        "uptime_seconds",
        "connected_clients",
        "used_memory",
        "used_memory_human",
        "total_commands_processed",
        "hit_rate",
    ]
    done = katax("cache", "doctor", "-f", "json")
    assert {
        "check": "no_ttl",
        "subject": "user:*",
        "message": "5 of 5 sampled keys never expire",
    } in done.json


def test_remember_runs_its_program_once(redis: driver.Redis, tmp_path: Path) -> None:
    words = ["cache", "remember", "r", "--ttl", "60s", "--", "sh", "-c", "echo x >> ran; echo '{\"a\": 1.0}'"]
    first, second = katax(*words), katax(*words)
    assert (first.out, second.out) == ('{"a":1}\n', '{"a":1}\n')
    assert (tmp_path / "ran").read_text() == "x\n"
    assert redis.get("app:r") == b'{"a":1}'
    assert 30 < redis.ttl("app:r") <= 60


def test_remember_gives_the_programs_status(redis: driver.Redis) -> None:
    done = katax("cache", "remember", "r", "--ttl", "60s", "--", "sh", "-c", "echo no; exit 7")
    assert (done.code, done.out) == (7, "")
    assert done.err == "'sh' ended with status 7\n"
    assert redis.get("app:r") is None
    assert katax("cache", "remember", "r", "--ttl", "60s", "--", "no-such-program").code == 2


def test_remember_falls_back_on_the_last_value(redis: driver.Redis, tmp_path: Path) -> None:
    words = ["cache", "remember", "r", "--ttl", "60s", "--stale-if-error", "--", "cat", "value"]
    (tmp_path / "value").write_text("old")
    assert katax(*words).out == "old\n"
    (tmp_path / "value").unlink()
    redis.delete("app:r")
    assert (katax(*words).code, katax(*words).out) == (0, "old\n")
    redis.delete("app:r", "app:remember:r")
    assert katax(*words).code == 1


def test_cmd_runs_any_command(redis: driver.Redis) -> None:
    assert katax("cache", "cmd", "set", "k", "v").out == "OK\n"
    assert katax("cache", "cmd", "GET", "k").out == "v\n"
    assert katax("cache", "cmd", "GET", "none").code == 1
    assert katax("cache", "cmd", "LPUSH", "l", "a", "-5").out == "2\n"
    assert json.loads(katax("cache", "cmd", "LRANGE", "l", "0", "-1").out) == ["-5", "a"]
    done = katax("cache", "cmd", "NOSUCH")
    assert done.code == 1
    assert katax("cache", "cmd", "flushdb").code == 4
    assert redis.get("k") == b"v"
    assert katax("cache", "cmd", "flushdb", "-y").code == 0
    assert redis.dbsize() == 0


def test_cmd_that_administers_asks_on_production(production: driver.Redis) -> None:
    for words in (
        ("eval", "return 1", "0"),
        ("CONFIG", "set", "maxmemory", "0"),
        ("flushall",),
        ("script", "flush"),
    ):
        assert katax("cache", "cmd", *words).code == 4
    assert katax("cache", "cmd", "flushall", "-y").code == 4
    assert katax("cache", "cmd", "config", "get", "maxmemory").code == 0
    assert katax("cache", "cmd", "eval", "return 1", "0", "-y").out == "1\n"


def test_acl_prints_a_rule_for_the_prefix(redis: driver.Redis) -> None:
    rule = katax("cache", "acl", "cache", "--user", "web").out.split()
    assert rule[:7] == ["ACL", "SETUSER", "web", "on", ">PASSWORD", "~app:*", "&app:*"]
    assert {"+get", "+set", "+unlink"} <= set(rule)
    assert "+flushdb" not in rule
    assert "+set" not in katax("cache", "acl", "--read-only").out.split()
