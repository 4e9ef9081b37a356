"""Sessions on a real Redis."""

from __future__ import annotations

import time
from threading import Thread

import pytest

from katax_cli.errors import RecordExists, Refused
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.redis.sessions import SessionStore
from tests.services.redis_database import opened


@pytest.fixture
def store(redis: RedisDatabase) -> SessionStore:
    return SessionStore(redis)


def ids(store: SessionStore, user: str | int) -> list[str]:
    return [each.id for each in store.list_for_user(user)]


def test_a_session_comes_back_and_ends(store: SessionStore, redis: RedisDatabase) -> None:
    id = store.create({"userId": 7, "x": 1.0})
    assert len(id) == 43
    assert store.get(id) == {"userId": 7, "x": 1}
    assert redis.redis("GET", f"app:session:{id}") == b'{"userId":7,"x":1}'
    assert 86_300 <= redis.redis("TTL", f"app:session:{id}") <= 86_400
    assert store.destroy(id)
    assert not store.destroy(id)
    assert store.get(id) is None
    assert redis.redis("KEYS", "*") == []


def test_ids_are_the_callers_if_he_wants_and_used_once(store: SessionStore) -> None:
    assert store.create({"a": 1}, id="mine") == "mine"
    with pytest.raises(RecordExists):
        store.create({"a": 2}, id="mine")
    assert store.get("mine") == {"a": 1}
    with pytest.raises(RecordExists):
        store.create({"user_id": "mallory"}, id="mine")
    assert (ids(store, "mallory"), store.revoke("mallory")) == ([], 0)
    for id in ("", "user:7"):
        with pytest.raises(ValueError):
            store.create({}, id=id)


def test_no_id_is_an_option_of_a_command(store: SessionStore) -> None:
    """Of random URL-safe text, one in 64 begins with a dash."""
    assert not any(store.create({}).startswith("-") for _ in range(500))


def test_a_user_may_be_said_beside_the_data(store: SessionStore) -> None:
    id = store.create({"a": 1}, user="ada")
    assert store.get(id) == {"a": 1, "user_id": "ada"}
    assert ids(store, "ada") == [id]
    same = store.create({"userId": "ada"}, user="ada")
    assert store.get(same) == {"userId": "ada"}
    assert ids(store, "ada") == [id, same]


def test_update_merges_and_keeps_the_lifetime(store: SessionStore, redis: RedisDatabase) -> None:
    store.set("s", {"a": 1, "list": []}, ttl=500)
    assert store.update("s", {"b": 12345678901234567890}) == {"a": 1, "list": [], "b": 12345678901234567890}
    assert store.get("s") == {"a": 1, "list": [], "b": 12345678901234567890}
    assert 400 <= redis.redis("TTL", "app:session:s") <= 500
    assert store.update("none", {"a": 1}) is None
    assert store.get("none") is None


def test_updates_at_once_lose_nothing(store: SessionStore) -> None:
    store.create({}, id="s")
    threads = [Thread(target=store.update, args=("s", {f"k{n}": n})) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get("s") == {f"k{n}": n for n in range(12)}


def test_update_may_change_the_user(store: SessionStore) -> None:
    store.create({"a": 1}, id="s")
    store.update("s", {"user_id": "ada"})
    assert ids(store, "ada") == ["s"]
    store.update("s", {"user_id": "bob"})
    assert (ids(store, "ada"), ids(store, "bob")) == ([], ["s"])


def test_touch_extends(store: SessionStore, redis: RedisDatabase) -> None:
    store.set("s", {"user_id": 1}, ttl=500)
    assert store.touch("s", 5000)
    assert 4000 <= redis.redis("TTL", "app:session:s") <= 5000
    assert store.extend("s")
    assert redis.redis("TTL", "app:session:s") > 86_000
    assert not store.touch("none")


def test_a_users_sessions_are_listed_oldest_first_and_only_those_that_live(store: SessionStore) -> None:
    for name in ("b", "a", "c"):
        store.create({"user_id": 1}, id=name)
        time.sleep(0.002)
    store.set("short", {"user_id": 1}, ttl=0.05)
    store.create({"user_id": 2}, id="other")
    time.sleep(0.06)
    assert ids(store, 1) == ["b", "a", "c"]
    first = store.list_for_user(1)[0]
    assert (first.expires_at - first.created_at).total_seconds() == 86_400
    assert ids(store, 3) == []


def test_touch_keeps_the_time_of_creation(store: SessionStore) -> None:
    store.create({"user_id": 1}, id="s")
    created = store.list_for_user(1)[0].created_at
    time.sleep(0.01)
    store.touch("s", 5000)
    assert store.list_for_user(1)[0].created_at == created
    assert 4990 < (store.list_for_user(1)[0].expires_at - created).total_seconds() <= 5100


def test_the_index_forgets_what_has_ended_and_ends_itself(store: SessionStore, redis: RedisDatabase) -> None:
    store.set("old", {"user_id": 1}, ttl=0.05)
    time.sleep(0.06)
    store.set("new", {"user_id": 1}, ttl=600)
    assert redis.redis("HKEYS", "app:session:user:1") == [b"new"]
    assert 500_000 < redis.redis("PTTL", "app:session:user:1") <= 600_000
    store.set("longer", {"user_id": 1}, ttl=6000)
    store.set("shorter", {"user_id": 1}, ttl=60)
    assert 5_900_000 < redis.redis("PTTL", "app:session:user:1") <= 6_000_000


def test_revoke_ends_all_or_the_old_ones(store: SessionStore, redis: RedisDatabase) -> None:
    store.create({"user_id": 1}, id="old")
    store.create({"user_id": 1}, id="new")
    store.create({"user_id": 2}, id="other")
    index = "app:session:user:1"
    created, ends = map(int, redis.redis("HGET", index, "old").split())
    redis.redis("HSET", index, "old", f"{created - 3_600_000} {ends}")
    assert store.revoke(1, older_than=7200) == 0
    assert store.revoke(1, older_than=1800) == 1
    assert (store.get("old"), store.get("new")) == (None, {"user_id": 1})
    assert store.revoke(1) == 1
    assert store.revoke(1) == 0
    assert redis.redis("EXISTS", "app:session:user:1") == 0
    assert store.get("other") is not None


def test_a_read_only_connection_reads_sessions(store: SessionStore, redis_url: str) -> None:
    store.create({"user_id": 1}, id="s")
    with opened(redis_url, prefix="app:", read_only=True) as database:
        reader = SessionStore(database)
        assert (reader.get("s"), ids(reader, 1)) == ({"user_id": 1}, ["s"])
        for write in (
            lambda: reader.create({}),
            lambda: reader.touch("s"),
            lambda: reader.destroy("s"),
            lambda: reader.revoke(1),
            lambda: reader.update("s", {"a": 1}),
        ):
            with pytest.raises(Refused):
                write()


@pytest.mark.parametrize("ttl", [0, -1])
def test_a_lifetime_is_more_than_nothing(store: SessionStore, redis: RedisDatabase, ttl: float) -> None:
    with pytest.raises(ValueError):
        SessionStore(redis, ttl=ttl)
    for use in (lambda: store.touch("s", ttl), lambda: store.set("s", {}, ttl)):
        with pytest.raises(ValueError):
            use()


def test_fields_are_dropped_in_the_same_step(store: SessionStore) -> None:
    id = store.create({"a": 1, "b": 2, "user_id": "ann"})
    assert store.update(id, {"c": 3}, remove=["a", "missing"]) == {"b": 2, "user_id": "ann", "c": 3}
    assert store.get(id) == {"b": 2, "user_id": "ann", "c": 3}
