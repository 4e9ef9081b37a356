"""`katax cache -c 'shard*'`: commands on all connections that match, one of which is dead."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis as driver

from tests.cli.harness import katax, write_profile
from tests.servers.fixtures import MakeFresh

SHARDS = ["-c", "shard_*"]


@pytest.fixture
def urls(fresh: MakeFresh, postgresql_url: str) -> dict[str, str]:
    """A database is no shard of a cache, even if its name matches."""
    return {"shard_a": fresh("redis").url, "shard_b": fresh("redis").url, "shard_c": postgresql_url}


@pytest.fixture
def shards(urls: dict[str, str], tmp_path: Path) -> list[driver.Redis]:
    """Two that hold different keys."""
    write_profile(tmp_path, urls)
    found = [driver.Redis.from_url(urls[name]) for name in ("shard_a", "shard_b")]
    found[0].mset({"user:1": 1, "user:2": 2, "kept": 3})
    found[1].mset({"user:9": 9, "cache:user:1:x": 1})
    return found


def test_scan_says_where_each_key_is(shards: list[driver.Redis]) -> None:
    done = katax("cache", "scan", "user:*", *SHARDS, "-f", "json")
    assert done.code == 0
    assert sorted((row["connection"], row["key"]) for row in done.json) == [
        ("shard_a", "user:1"),
        ("shard_a", "user:2"),
        ("shard_b", "user:9"),
    ]
    limited = katax("cache", "scan", *SHARDS, "--limit", "1", "-f", "json").json
    assert [row["connection"] for row in limited] == ["shard_a", "shard_b"]
    assert [list(row) for row in katax("cache", "scan", "-c", "shard_b", "-f", "json").json] == [["key"]] * 2


def test_stats_and_doctor_have_a_row_for_each(shards: list[driver.Redis]) -> None:
    alone = katax("cache", "stats", "-c", "shard_a", "-f", "json").json
    done = katax("cache", "stats", *SHARDS, "-f", "json")
    assert [list(row) for row in done.json] == [["connection", *alone]] * 2
    assert [row["connection"] for row in done.json] == ["shard_a", "shard_b"]
    assert all(row["uptime_seconds"] >= 0 for row in done.json)

    doctor = katax("cache", "doctor", *SHARDS, "-f", "csv")
    assert doctor.out.splitlines()[0] == "connection,check,subject,message"
    assert "shard_a,no_ttl,user:*,2 of 2 sampled keys never expire" in doctor.out.splitlines()
    notes = doctor.err.splitlines()
    assert [note.split()[0] for note in notes] == ["shard_a:", "shard_b:"]
    assert notes[0].endswith(" findings in 3 keys")


def test_clear_shows_all_then_asks_for_each_and_deletes_on_each(shards: list[driver.Redis]) -> None:
    refused = katax("cache", "clear", "user:*", *SHARDS)
    assert refused.code == 4
    assert "shard_a: 2 keys match 'user:*', about " in refused.err
    assert "shard_b: 1 keys match 'user:*', about " in refused.err
    dry = katax("cache", "clear", "user:*", *SHARDS, "--dry-run", "-f", "json")
    assert dry.json == {
        "pattern": "user:*",
        "matching": {"shard_a": 2, "shard_b": 1},
        "deleted": 0,
        "dry_run": True,
    }
    assert [shard.dbsize() for shard in shards] == [3, 2]

    done = katax("cache", "clear", "user:*", *SHARDS, "-y", "-f", "json")
    assert done.json == [
        {"connection": "shard_a", "pattern": "user:*", "matching": 2, "deleted": 2},
        {"connection": "shard_b", "pattern": "user:*", "matching": 1, "deleted": 1},
    ]
    assert [shard.keys("*") for shard in shards] == [[b"kept"], [b"cache:user:1:x"]]


def test_nothing_is_deleted_before_the_last_question_is_answered(
    urls: dict[str, str], shards: list[driver.Redis], tmp_path: Path
) -> None:
    """On production the name of one connection confirms that one only."""
    write_profile(tmp_path, urls, role="prod")
    done = katax("cache", "clear", "user:*", *SHARDS, "--confirm", "test/shard_a")
    assert done.code == 4
    assert katax("cache", "clear", "*", *SHARDS, "--confirm", "test/shard_a").code == 4
    assert [shard.dbsize() for shard in shards] == [3, 2]


def test_invalidate_works_on_each(shards: list[driver.Redis]) -> None:
    done = katax("cache", "invalidate", "user", *SHARDS, "-f", "json")
    assert [(row["connection"], row["deleted"]) for row in done.json] == [("shard_a", 0), ("shard_b", 1)]


@pytest.mark.parametrize(
    "words", [["scan"], ["stats"], ["doctor"], ["clear", "user:*", "-y"], ["invalidate", "user"]]
)
def test_a_dead_one_costs_its_own_rows(
    words: list[str], urls: dict[str, str], shards: list[driver.Redis], closed_port: int, tmp_path: Path
) -> None:
    write_profile(tmp_path, {**urls, "shard_b": f"redis://127.0.0.1:{closed_port}/0"})
    done = katax("cache", *words, *SHARDS, "-f", "json")
    assert done.code == 3
    assert {row["connection"] for row in done.json} == {"shard_a"}
    assert '"exit": 3' in done.err or '"exit":3' in done.err


@pytest.mark.parametrize("words", [["get", "kept"], ["flush", "-y"], ["export"], ["cmd", "PING"]])
def test_the_others_want_one_connection(words: list[str], shards: list[driver.Redis]) -> None:
    done = katax("cache", *words, *SHARDS)
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"katax: 'shard_*' matches shard_a, shard_b; 'cache {words[0]}' works on one connection\n"
    )
