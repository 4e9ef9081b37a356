"""`katax cache` on a real Redis: values, lifetimes, patterns, and what it asks before it deletes."""

import io
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from katax_cli.cli import app
from tests.cli.harness import Done, katax, write_profile
from tests.cli.terminal import at_terminal

PREFIX = "app:[*]?:"
"""A prefix full of characters that mean something in a Redis pattern."""


@pytest.fixture
def server(redis_url: str, tmp_path: Path) -> redis.Redis:
    """The server behind the profile's connection `cache`, by another way."""
    use(tmp_path, redis_url)
    return redis.Redis.from_url(redis_url)


def use(folder: Path, url: str, *, role: str = "dev") -> None:
    file = write_profile(folder, {"cache": url}, role=role)
    file.write_text(file.read_text() + f'prefix = "{PREFIX}"\n')


def test_set_and_get(server: redis.Redis) -> None:
    assert (
        katax("cache", "set", "k", '{"b": 1.0, "a": [null, true, 1.10]}').out == "key     k\nstored  true\n"
    )

    assert server.get(PREFIX + "k") == b'{"b":1,"a":[null,true,1.1]}'
    assert katax("cache", "get", "k") == Done(0, b'{"b":1,"a":[null,true,1.1]}\n', "")
    assert katax("cache", "get", "k", "-f", "json").json == {"b": 1, "a": [None, True, 1.1]}


@pytest.mark.parametrize(
    ("typed", "stored", "shown"),
    [
        ("5", b"5", "5\n"),
        ("1.0", b"1", "1\n"),
        ("-5", b"-5", "-5\n"),
        ("true", b"true", "true\n"),
        ("null", b"null", "null\n"),
        ('"text"', b'"text"', "text\n"),
        ("just words", b'"just words"', "just words\n"),
        ("Grüße 漢字", '"Grüße 漢字"'.encode(), "Grüße 漢字\n"),
        ("{broken", b'"{broken"', "{broken\n"),
        ("", b'""', "\n"),
        ("two\nlines", b'"two\\nlines"', "two\nlines\n"),
    ],
)
def test_what_is_typed_and_stored_and_shown(
    typed: str, stored: bytes, shown: str, server: redis.Redis
) -> None:
    """JSON is JSON, anything else is a JSON string; a string is shown bare."""
    assert katax("cache", "set", "k", typed).code == 0
    assert server.get(PREFIX + "k") == stored
    assert katax("cache", "get", "k").out == shown


@pytest.mark.needs_node
@pytest.mark.parametrize(
    "typed", ['{"a":1.0,"b":"é\\u0001"}', "123456789012345680000", "1e-7", '["\\ud83d"]', "0.10"]
)
def test_the_bytes_are_those_of_json_stringify(typed: str, server: redis.Redis) -> None:
    program = "process.stdout.write(JSON.stringify(JSON.parse(process.argv[1])))"
    node = shutil.which("node") or "node"
    expected = subprocess.run([node, "-e", program, typed], capture_output=True, check=True).stdout

    katax("cache", "set", "k", typed)

    assert json.loads(expected) == json.loads(server.get(PREFIX + "k") or b"")
    assert server.get(PREFIX + "k") == expected


def test_raw_bytes(server: redis.Redis, tmp_path: Path) -> None:
    data = bytes(range(256))
    (tmp_path / "data.bin").write_bytes(data)

    assert katax("cache", "set", "k", "@data.bin", "--raw").code == 0
    assert server.get(PREFIX + "k") == data
    assert katax("cache", "get", "k", "--raw") == Done(0, data, "")
    assert katax("cache", "get", "k", "--raw", "-o", "copy.bin").code == 0
    assert (tmp_path / "copy.bin").read_bytes() == data

    refused = katax("cache", "set", "k", "@data.bin")
    assert (refused.code, refused.err) == (
        2,
        "katax: the value is not UTF-8 text; use --raw to store bytes\n",
    )


def test_standard_input_and_files(server: redis.Redis, tmp_path: Path) -> None:
    (tmp_path / "value.json").write_text('{"from": "file"}')

    katax("cache", "set", "a", "-", stdin=b'{"from": "stdin"}')
    katax("cache", "set", "b", "@value.json")

    assert server.mget(PREFIX + "a", PREFIX + "b") == [b'{"from":"stdin"}', b'{"from":"file"}']


def test_what_others_stored_comes_back_as_its_text(server: redis.Redis) -> None:
    server.set(PREFIX + "k", "NaN is no JSON")
    server.set(PREFIX + "spaced", '{"a":   1}')

    assert katax("cache", "get", "k").out == "NaN is no JSON\n"
    assert katax("cache", "get", "k", "-f", "json").out == '"NaN is no JSON"\n'
    assert katax("cache", "get", "spaced").out == '{"a":   1}\n'


@pytest.mark.parametrize("words", [("get", "k"), ("ttl", "k"), ("expire", "k", "5s")])
def test_a_missing_key_prints_nothing(words: tuple[str, ...], server: redis.Redis) -> None:
    assert katax("cache", *words) == Done(1, b"", "")


def test_exists(server: redis.Redis) -> None:
    server.set(PREFIX + "k", 1)

    assert katax("cache", "exists", "k") == Done(0, b"true\n", "")
    assert katax("cache", "exists", "other") == Done(1, b"false\n", "")


def test_del_says_how_many_there_were(server: redis.Redis) -> None:
    server.mset({PREFIX + "a": 1, PREFIX + "b": 2, "a": 3})

    assert katax("cache", "del", "a", "b", "missing") == Done(0, b"2\n", "")
    assert katax("cache", "del", "missing") == Done(0, b"0\n", "")
    assert server.keys() == [b"a"]


def test_only_if_missing_or_present(server: redis.Redis) -> None:
    assert katax("cache", "set", "k", "1", "--xx").code == 1
    assert katax("cache", "set", "k", "1", "--nx").code == 0
    assert katax("cache", "set", "k", "2", "--nx").out == "key     k\nstored  false\n"
    assert server.get(PREFIX + "k") == b"1"
    assert katax("cache", "set", "k", "3", "--xx", "-f", "json").json == {"key": "k", "stored": True}

    both = katax("cache", "set", "k", "4", "--nx", "--xx")
    assert (both.code, "one of --nx and --xx" in both.err) == (2, True)
    assert server.get(PREFIX + "k") == b"3"


@pytest.mark.parametrize(
    ("ttl", "seconds"),
    [
        ("short", 300),
        ("medium", 900),
        ("long", 3600),
        ("session", 86400),
        ("week", 604800),
        ("90", 90),
        ("90s", 90),
        ("5m", 300),
        ("2h", 7200),
        ("7d", 604800),
    ],
)
def test_lifetimes(ttl: str, seconds: int, server: redis.Redis) -> None:
    katax("cache", "set", "k", "1", "--ttl", ttl)

    assert seconds - 60 < int(server.ttl(PREFIX + "k")) <= seconds
    shown = katax("cache", "ttl", "k")
    assert seconds - 60 < int(shown.out) <= seconds


def test_a_lifetime_is_exact_to_the_millisecond(server: redis.Redis) -> None:
    katax("cache", "set", "k", "1", "--ttl", "90500ms")

    assert 60_000 < int(server.pttl(PREFIX + "k")) <= 90_500


def test_a_key_without_end(server: redis.Redis) -> None:
    katax("cache", "set", "k", "1")

    assert katax("cache", "ttl", "k") == Done(0, b"-1\n", "")


def test_expire(server: redis.Redis) -> None:
    server.set(PREFIX + "k", 1)

    assert katax("cache", "expire", "k", "short", "-f", "json").json == {"key": "k", "ttl_seconds": 300}
    assert 240 < int(server.ttl(PREFIX + "k")) <= 300


def test_keep_ttl(server: redis.Redis) -> None:
    katax("cache", "set", "k", "1", "--ttl", "5m")
    katax("cache", "set", "k", "2", "--keep-ttl")
    assert 240 < int(server.ttl(PREFIX + "k")) <= 300

    katax("cache", "set", "k", "3")
    assert server.ttl(PREFIX + "k") == -1
    assert katax("cache", "set", "k", "4", "--keep-ttl", "--ttl", "1m").code == 2


@pytest.mark.parametrize("ttl", ["0", "-5", "soon", "shorter"])
def test_a_lifetime_that_is_none(ttl: str, server: redis.Redis) -> None:
    done = katax("cache", "set", "k", "1", f"--ttl={ttl}")

    assert (done.code, ttl in done.err, server.keys()) == (2, True, [])


def fill(server: redis.Redis) -> None:
    """Two keys under the prefix that match `temp:*`, one that does not, and lookalikes that are not ours."""
    server.mset({PREFIX + "temp:1": 1, PREFIX + "temp:2": 2, PREFIX + "kept": 3})
    server.mset({"temp:1": 4, "app:xyz?:temp:1": 5, "app:*q:temp:2": 6})


def kept(server: redis.Redis) -> set[bytes]:
    return {key if isinstance(key, bytes) else key.encode() for key in server.scan_iter(count=5000)}


def test_clear_stays_within_the_prefix(server: redis.Redis) -> None:
    fill(server)

    done = katax("cache", "clear", "temp:*", "-y", "-f", "json")

    assert done == Done(0, b'{"pattern": "temp:*", "matching": 2, "deleted": 2}\n', "")
    assert kept(server) == {(PREFIX + "kept").encode(), b"temp:1", b"app:xyz?:temp:1", b"app:*q:temp:2"}


def test_clear_many_with_binary_names(server: redis.Redis) -> None:
    """More than one batch, and names that are no text."""
    prefix = PREFIX.encode()
    server.mset({prefix + b"x\xff\x00" + str(n).encode(): n for n in range(2500)})

    assert katax("cache", "clear", "x*", "-y", "-f", "json").json["deleted"] == 2500
    assert server.dbsize() == 0


def test_a_pattern_of_one(server: redis.Redis) -> None:
    server.mset({PREFIX + "a[1]": 1, PREFIX + "a1": 2})

    assert katax("cache", "clear", "a\\[1\\]", "-y").code == 0
    assert kept(server) == {(PREFIX + "a1").encode()}


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("set", "k", "1"), {"key": "k", "stored": False, "dry_run": True}),
        (("del", "kept"), {"keys": ["kept"], "deleted": 0, "dry_run": True}),
        (("expire", "kept", "5s"), {"key": "kept", "ttl_seconds": 5.0, "dry_run": True}),
        (("clear", "temp:*"), {"pattern": "temp:*", "matching": 2, "deleted": 0, "dry_run": True}),
    ],
)
def test_a_dry_run_changes_nothing(words: tuple[str, ...], shown: Any, server: redis.Redis) -> None:
    fill(server)
    before = {key: (server.dump(key), server.ttl(key)) for key in kept(server)}

    done = katax("cache", *words, "--dry-run", "-f", "json")

    assert (done.code, done.json) == (0, shown)
    assert {key: (server.dump(key), server.ttl(key)) for key in kept(server)} == before


Clear = Callable[..., Done]
CLEAR = ("cache", "clear", "temp:*")


@pytest.mark.parametrize(
    ("role", "words", "code", "says"),
    [
        (
            "dev",
            (),
            4,
            "delete 2 keys that match 'temp:*' on 'test/cache' needs confirmation; repeat with --yes",
        ),
        ("dev", ("-y",), 0, ""),
        ("stage", (), 4, "repeat with --yes"),
        ("stage", ("--yes",), 0, ""),
        ("prod", (), 4, "refused: 'cache' is a prod connection; repeat with --confirm test/cache"),
        ("prod", ("-y",), 4, "refused: 'cache' is a prod connection; repeat with --confirm test/cache"),
        ("prod", ("--confirm", "test/cache"), 0, ""),
        ("prod", ("--confirm", "test/main", "-y"), 4, "--confirm is 'test/main', expected 'test/cache'"),
        ("dev", ("--confirm", "other/cache", "-y"), 4, "--confirm is 'other/cache'"),
        ("dev", ("--confirm", "test/cache"), 0, ""),
    ],
)
def test_confirmation_without_a_terminal(
    role: str, words: tuple[str, ...], code: int, says: str, redis_url: str, tmp_path: Path
) -> None:
    use(tmp_path, redis_url, role=role)
    server = redis.Redis.from_url(redis_url)
    fill(server)

    done = katax(*CLEAR, *words, stdin=b"y\ntest/cache\n")

    assert (done.code, says in done.err) == (code, True)
    assert done.err.startswith("2 keys match 'temp:*'")
    assert server.exists(PREFIX + "temp:1", PREFIX + "temp:2") == (2 if code else 0)


@pytest.mark.parametrize(
    ("role", "typed", "code"),
    [
        ("dev", "y", 0),
        ("dev", "YES", 0),
        ("dev", "n", 4),
        ("dev", "", 4),
        ("dev", "test/cache", 4),
        ("prod", "y", 4),
        ("prod", "yes", 4),
        ("prod", "cache", 4),
        ("prod", "test/cache", 0),
    ],
)
def test_confirmation_at_a_terminal(role: str, typed: str, code: int, redis_url: str, tmp_path: Path) -> None:
    use(tmp_path, redis_url, role=role)
    server = redis.Redis.from_url(redis_url)
    fill(server)

    done = at_terminal(*CLEAR, typed=typed)

    question = (
        "delete 2 keys that match 'temp:*' on test/cache? [y/N] "
        if role == "dev"
        else "delete 2 keys that match 'temp:*' on test/cache, a prod connection. Type test/cache to go on: "
    )
    assert (done.code, question in done.err) == (code, True)
    assert server.exists(PREFIX + "temp:1", PREFIX + "temp:2") == (2 if code else 0)


def test_end_of_input_is_no(server: redis.Redis) -> None:
    fill(server)

    assert at_terminal(*CLEAR, typed=None).code == 4
    assert app.main([*CLEAR], stdin=io.BytesIO(), stdout=io.BytesIO(), stderr=io.StringIO()) == 4
    assert server.exists(PREFIX + "temp:1") == 1
