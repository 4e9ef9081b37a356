"""Keys and values of any bytes: JSON stays JSON, text formats hand the bytes on."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

from katax_cli.services.cache.cache import Cache
from tests.cli.harness import katax, write_profile
from tests.services.redis_database import opened


def test_every_byte_in_keys_and_values(redis_url: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"cache": redis_url})
    names = [b"k" + bytes([byte]) for byte in range(256)]
    with opened(redis_url) as database:
        database.pipeline([("SET", name, bytes([byte]) * 2) for byte, name in enumerate(names)])
        database.redis("SET", "surrogate", b'"\\ud800"')

    def shown(data: bytes) -> object:
        return data.decode() if data.isascii() else {"base64": b64encode(data).decode()}

    keys = katax("cache", "scan", "k*", "-f", "json").json
    assert sorted(map(json.dumps, (row["key"] for row in keys))) == sorted(
        json.dumps(shown(name)) for name in names
    )
    word = b"k\xfe".decode("utf-8", "surrogateescape")
    value = {"base64": "/v4="}
    assert katax("cache", "get", word, "-f", "json").json == value
    assert katax("cache", "mget", word, "-f", "json").json == [{"key": {"base64": "a/4="}, "value": value}]
    assert katax("cache", "cmd", "mget", word, "kA", "-f", "json").json == [value, "AA"]
    assert katax("cache", "set", word, "1", "--dry-run", "-f", "json").json["key"] == word
    assert katax("cache", "get", "surrogate", "-f", "json").json == "\ud800"


def test_the_doctor_groups_what_it_finds(redis_url: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"cache": redis_url})
    with opened(redis_url) as database:
        Cache(database).mset({f"plain{number}": 1 for number in range(300)})
        Cache(database).mset({f"family{number}:x": 1 for number in range(300)})
    rows = katax("cache", "doctor", "-f", "json").json
    without = [row for row in rows if row["check"] == "no_ttl"]
    assert without[0]["subject"] == "keys without ':'"
    assert without[0]["message"] == "300 of 300 sampled keys never expire"
    assert without[-1]["subject"] == "291 other families"
    assert without[-1]["message"] == "291 of 291 sampled keys never expire"
    assert len(without) == 11
