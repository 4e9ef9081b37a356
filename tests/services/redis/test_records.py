"""Records on a real Redis, and their events."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import pytest

from katax_cli import Katax
from katax_cli.errors import (
    MisshapedRecord,
    RecordExists,
    UnknownConnection,
    UnknownRecord,
    UnsupportedArgument,
)
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.program.records import RecordStore
from katax_cli.services.redis.record_keys import is_same
from katax_cli.services.redis.records import (
    DEFAULT_DB_ALIAS,
    DEFAULT_PAGE_SIZE,
    Pager,
    seconds_of,
)
from tests.cli.harness import write_profile
from tests.waiting import SECONDS, until


@pytest.fixture
def users(redis: RedisDatabase) -> Iterator[RecordStore]:
    store = RecordStore("users", redis)
    yield store
    store.close()


def test_a_record_from_its_beginning_to_its_end(users: RecordStore, redis: RedisDatabase) -> None:
    assert users.create({"id": "u1", "name": "Ada", "score": 1.0}) == {
        "id": "u1",
        "name": "Ada",
        "score": 1.0,
    }
    assert redis.redis("GET", "app:users:u1") == b'{"id":"u1","name":"Ada","score":1}'
    assert users.get("u1") == {"id": "u1", "name": "Ada", "score": 1}
    assert users.get("Ada", "name") == users.load("u1")
    assert users.update({"id": "u1", "name": "Eve"}) == {"id": "u1", "name": "Eve", "score": 1}
    assert users.save({"id": "u1"}) == {"id": "u1"}
    assert users.delete("u1") == {"id": "u1"}
    assert redis.redis("KEYS", "*") == []


def test_the_four_errors(users: RecordStore) -> None:
    users.create({"id": 1})
    with pytest.raises(RecordExists) as exists:
        users.create({"id": 1, "a": 2})
    assert str(exists.value) == "a record at 'app:users:1' exists; use save to replace it"
    assert users.get(1) == {"id": 1}
    missing: tuple[Callable[[], object], ...] = (
        lambda: users.get("x"),
        lambda: users.pick("x"),
        lambda: users.update({"id": "x"}),
    )
    for use in missing:
        with pytest.raises(UnknownRecord) as unknown:
            use()
        assert str(unknown.value) == "no record at 'app:users:x'"
    shapes: tuple[dict[str, Any], ...] = (
        {},
        {"id": None},
        {"id": ""},
        {"id": True},
        {"id": 1.5},
        {"name": "x"},
    )
    for shapeless in shapes:
        with pytest.raises(MisshapedRecord):
            users.save(shapeless)
    for ttl in (0, -1, True, "soon", datetime(2020, 1, 1, tzinfo=UTC), float("nan")):
        with pytest.raises(UnsupportedArgument):
            users.save({"id": 1}, ttl=ttl)


def test_what_may_be_missing_is_none(users: RecordStore) -> None:
    assert (users.load("x"), users.delete("x"), users.load("x", "name")) == (None, None, None)


def test_update_does_not_make_a_record(users: RecordStore, redis: RedisDatabase) -> None:
    with pytest.raises(UnknownRecord):
        users.update({"id": "x", "a": 1})
    assert redis.redis("KEYS", "*") == []


def test_lifetimes(users: RecordStore, redis: RedisDatabase) -> None:
    users.create({"id": 1}, ttl=1000)
    users.update({"id": 1, "a": 1})
    assert 900 <= redis.redis("TTL", "app:users:1") <= 1000
    users.update({"id": 1, "a": 2}, ttl=datetime.now(UTC) + timedelta(seconds=5000))
    assert 4900 <= redis.redis("TTL", "app:users:1") <= 5000
    users.save({"id": 1})
    assert redis.redis("TTL", "app:users:1") == -1


def test_a_date_without_offset_is_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        ahead = datetime.now(UTC) + timedelta(hours=9, seconds=3600)
        assert 3500 < (seconds_of(ahead.replace(tzinfo=None)) or 0) <= 3600
    finally:
        monkeypatch.undo()
        time.tzset()


def test_pages(users: RecordStore, redis: RedisDatabase) -> None:
    for number in range(25):
        users.create({"id": f"{number:02}", "even": number % 2 == 0, "tag": str(number)})
    RecordStore("users2", redis).create({"id": "other"})
    first, third = users.list(), users.list(page=2)
    assert [record["id"] for record in first.items] == [f"{n:02}" for n in range(10)]
    assert (first.pager, third.pager) == (Pager(0, 10, 25), Pager(2, 10, 25))
    assert len(third.items) == 5
    assert users.list(page=9).items == []
    even = users.list({"even": True}, 1, 5)
    assert [record["id"] for record in even.items] == ["10", "12", "14", "16", "18"]
    assert even.pager.total == 13
    assert users.list({"even": True, "tag": "3"}).pager.total == 0
    for page, size in ((-1, 10), (0, 0)):
        with pytest.raises(UnsupportedArgument):
            users.list(page=page, size=size)


def test_a_value_is_found_by_its_text_too() -> None:
    assert is_same(5, "5")
    assert is_same("5", "5")
    assert is_same([True], "[true]")
    assert is_same(1.0, 1)
    assert not is_same("5", 5)
    assert not is_same(None, "")


def test_updates_at_once_lose_nothing(users: RecordStore) -> None:
    users.create({"id": 1})
    threads = [Thread(target=users.update, args=({"id": 1, f"k{n}": n},)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert users.get(1) == {"id": 1} | {f"k{n}": n for n in range(10)}


def test_names_that_mean_something_in_a_glob(redis: RedisDatabase) -> None:
    store = RecordStore("a*[b]?", redis)
    store.create({"id": "\n*"})
    RecordStore("axb", redis).create({"id": 1})
    assert [record["id"] for record in store.list().items] == ["\n*"]


def test_what_is_no_record_is_told(users: RecordStore, redis: RedisDatabase) -> None:
    redis.redis("SET", "app:users:x", "[1]")
    with pytest.raises(MisshapedRecord):
        users.get("x")
    with pytest.raises(MisshapedRecord):
        users.update({"id": "x", "a": 1})
    assert users.list().items == []


def test_events_reach_those_who_want_them(users: RecordStore, redis: RedisDatabase) -> None:
    everything: Queue[Any] = Queue()
    one: Queue[Any] = Queue()
    once: Queue[Any] = Queue()
    stop = users.subscribe(everything.put)
    users.subscribe(one.put, "u1")
    users.subscribe(once.put, once=True)
    publisher = RecordStore("users", redis)
    until(lambda: publisher.publish("warm", "u1"))
    assert one.get(timeout=SECONDS) == "warm"
    publisher.publish({"id": "u1"})
    assert (everything.get(timeout=SECONDS), once.get(timeout=SECONDS)) == ({"id": "u1"}, {"id": "u1"})
    publisher.publish(2)
    assert everything.get(timeout=SECONDS) == 2
    stop()
    until(lambda: not publisher.publish(3))
    publisher.publish("last", "u1")
    assert one.get(timeout=SECONDS) == "last"
    assert (everything.empty(), once.empty(), one.empty()) == (True, True, True)


def test_a_store_may_be_made_ones_own(redis: RedisDatabase) -> None:
    class Users(RecordStore):
        def by_name(self, name: str) -> dict[str, Any]:
            return self.get(name, "name")

    users = Users("users", redis)
    users.create({"id": 1, "name": "Ada"})
    assert users.by_name("Ada")["id"] == 1
    assert (users.client, users.prefix, users.key(), users.key(1)) == (
        redis,
        "app:",
        "app:users",
        "app:users:1",
    )
    assert (DEFAULT_DB_ALIAS, DEFAULT_PAGE_SIZE) == ("redis", 10)


@pytest.mark.parametrize("connection", ["redis", "cache"])
def test_a_name_is_a_connection_of_the_container(connection: str, redis_url: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {connection: redis_url})
    try:
        katax = Katax.get_instance()
        assert katax.records("users").save({"id": 1}) == {"id": 1}
        assert katax.records("users") is katax.records("users")
        mine = katax.register(RecordStore("mine", katax.records("users").client))
        assert katax.register(mine) is katax.records("mine") is mine
        assert RecordStore("users").get(1) == {"id": 1}
        assert RecordStore("users", connection).client is katax.cache(connection).redis
        with pytest.raises(UnknownConnection):
            _ = RecordStore("users", "other").client
    finally:
        Katax.reset()
