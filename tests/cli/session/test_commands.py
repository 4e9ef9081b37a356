"""`katax session`: words in, JSON and codes out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import redis as driver

from tests.cli.harness import katax, write_profile
from tests.cli.terminal import at_terminal


@pytest.fixture(autouse=True)
def redis(redis_url: str, tmp_path: Path) -> driver.Redis:
    write_profile(tmp_path, {"cache": redis_url})
    return driver.Redis.from_url(redis_url)


def test_a_session_from_its_beginning_to_its_end(redis: driver.Redis) -> None:
    id = katax("session", "create", '{"userId": 7, "cart": [1.0]}', "--ttl", "2h").out.strip()
    assert katax("session", "get", id).out == '{"userId": 7, "cart": [1]}\n'
    assert redis.get(f"session:{id}") == b'{"userId":7,"cart":[1]}'
    assert 7000 < redis.ttl(f"session:{id}") <= 7200
    done = katax("session", "update", id, '{"x": null}', "-f", "json")
    assert done.json == {"userId": 7, "cart": [1], "x": None}
    assert katax("session", "touch", id, "--ttl", "5m", "-f", "json").json == {"id": id, "touched": True}
    assert 240 < redis.ttl(f"session:{id}") <= 300
    (row,) = katax("session", "list", "7", "-f", "json").json
    assert list(row) == ["id", "created_at", "expires_at", "data"]
    assert row["id"] == id
    assert katax("session", "destroy", id).code == 0
    assert katax("session", "list", "7", "-f", "json").json == []


def test_people_see_how_old_a_session_is() -> None:
    katax("session", "create", '{"userId": 7}', "--ttl", "2h")

    shown = at_terminal("session", "list", "7", typed=None, width=200).out.splitlines()

    assert re.search(r" (ms|s) ago +\d{4}-\d\d-\d\d ", shown[2])


def test_what_is_missing_is_no(redis: driver.Redis) -> None:
    for words in (["get", "x"], ["update", "x", "{}"], ["touch", "x"], ["destroy", "x"]):
        assert katax("session", *words).code == 1
    assert redis.keys("*") == []


def test_id_user_and_data_from_stdin(redis: driver.Redis) -> None:
    done = katax("session", "create", "-", "--id", "mine", "--user", "ada", stdin=b'{"a": 1}')
    assert done.out == "mine\n"
    assert redis.get("session:mine") == b'{"a":1,"user_id":"ada"}'
    assert katax("session", "create", "{}", "--id", "mine").code == 1
    assert katax("session", "set", "mine", '{"b": 2}', "--ttl", "short").code == 0
    assert redis.get("session:mine") == b'{"b":2}'


def test_revoke(redis: driver.Redis) -> None:
    for _ in range(3):
        katax("session", "create", '{"user_id": 1}')
    assert katax("session", "revoke", "1", "--older-than", "1h", "-f", "json").json["revoked"] == 0
    assert katax("session", "revoke", "1", "--dry-run", "-f", "json").json["revoked"] == 0
    assert katax("session", "revoke", "1", "-f", "json").json == {"user": "1", "revoked": 3}
    assert redis.keys("*") == []


def test_revoking_on_production_wants_a_yes(redis_url: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"cache": redis_url}, role="prod")
    assert katax("session", "revoke", "1").code == 4
    assert katax("session", "revoke", "1", "-y").code == 0


@pytest.mark.parametrize("data", ["{", "[1]", "text", '{"a": NaN}', "5"])
def test_data_is_an_object(data: str, redis: driver.Redis) -> None:
    done = katax("session", "create", data)
    assert done.code == 2
    assert "expected an object such as '{\"a\": 1}'" in done.err
    assert redis.keys("*") == []


def test_ids_of_the_index_are_taken() -> None:
    done = katax("session", "create", "{}", "--id", "user:1")
    assert (done.code, "'user:1' is no id of a session" in done.err) == (2, True)
    assert katax("session", "set", "s", "{}", "--ttl", "0").code == 2
