"""Whose a key is, and changes of records that others change at the same time."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any
from uuid import UUID

import pytest

from katax_cli.core.text.js_json import stringify
from katax_cli.errors import (
    MisshapedRecord,
    OutcomeUnknown,
    RecordChanged,
    RecordExists,
    UnknownRecord,
    UnsupportedArgument,
)
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.redis.record_keys import is_equal
from katax_cli.services.redis.records import Records
from tests.servers.fixtures import MakeProxy
from tests.services.redis_database import opened
from tests.waiting import SECONDS

AWKWARD_IDS = ("a:b", ":", "a*", "[x]", "?", "a b", "line\nbreak", "👍", "\\", "{tag}", "-1", 7)
AWKWARD_NAMES = ("users", "users:archive", "u*", "u?[a-z]", "u\\", "ü👍", "a b", "users:")


@pytest.fixture
def users(redis: RedisDatabase) -> Records:
    return Records("users", redis)


@pytest.fixture
def archive(redis: RedisDatabase) -> Records:
    return Records("users:archive", redis)


def test_a_resource_never_touches_another_whose_name_begins_alike(
    users: Records, archive: Records, redis: RedisDatabase
) -> None:
    users.save({"id": "7", "of": "users"})
    users.save({"id": "a:b", "of": "users"})
    users.save({"id": "archive:9", "of": "users"})
    archive.save({"id": 7, "of": "archive"})
    for key, value in (("app:users:note", "text"), ("app:users:x:y", "[1]"), ("app:users:broken", "{")):
        redis.redis("SET", key, value)
    redis.redis("SADD", "app:users:online", "1")

    assert [record["id"] for record in users.list({"of": "users"}).items] == ["7", "a:b", "archive:9"]
    assert [record["id"] for record in archive.list().items] == [7]
    assert (archive.count(), archive.list().pager.total) == (1, 1)
    assert (users.count({"of": "users"}), users.count({"of": "archive"})) == (3, 0)

    assert (users.load("archive:7"), users.delete("archive:7"), archive.load("9")) == (None, None, None)
    assert archive.delete("9") is None
    missing: tuple[Callable[[], object], ...] = (
        lambda: users.update({"id": "archive:7", "of": "stolen"}),
        lambda: archive.update({"id": "9", "of": "stolen"}),
        lambda: users.compare_and_set({"id": "archive:7", "of": "archive"}, {"id": "archive:7"}),
        lambda: users.pick("archive:7"),
    )
    for use in missing:
        with pytest.raises(UnknownRecord):
            use()
    with pytest.raises(MisshapedRecord, match="'app:users:archive:7' is not the record with this id"):
        users.save({"id": "archive:7"})
    with pytest.raises(MisshapedRecord):
        archive.save({"id": "9"})
    with pytest.raises(RecordExists):
        users.create({"id": "archive:7"})

    assert users.purge() == 3
    assert sorted(redis.redis("KEYS", "*")) == [
        b"app:users:archive:7",
        b"app:users:broken",
        b"app:users:note",
        b"app:users:online",
        b"app:users:x:y",
    ]
    assert archive.get(7) == {"id": 7, "of": "archive"}
    assert archive.purge() == 1


def test_awkward_ids_and_names_are_only_themselves(redis: RedisDatabase) -> None:
    stores = [Records(name, redis) for name in AWKWARD_NAMES]
    for store in stores:
        for id in AWKWARD_IDS:
            store.create({"id": id, "of": store.name})
    for store in stores:
        assert store.count() == store.count({"of": store.name}) == len(AWKWARD_IDS)
        for id in AWKWARD_IDS:
            assert store.get(id) == store.get({"of": store.name, "id": id}) == {"id": id, "of": store.name}
            store.update({"id": id, "n": 1})
            store.save({"id": id, "of": store.name, "n": 2})
        assert store.count({"n": 2}) == len(AWKWARD_IDS)
    for purged in range(len(stores)):
        assert stores[purged].purge() == len(AWKWARD_IDS)
        left = [store.count() for store in stores]
        assert left == [0] * (purged + 1) + [len(AWKWARD_IDS)] * (len(stores) - purged - 1)
    assert redis.redis("DBSIZE") == 0


def test_purge_by_criteria_deletes_what_has_them(users: Records, redis: RedisDatabase) -> None:
    stored = [{"id": number, "even": number % 2 == 0} for number in range(2500)]
    redis.pipeline([("SET", users.key(record["id"]), stringify(record)) for record in stored])
    heard: list[int] = []
    assert users.purge({"even": True}, on_batch=heard.append) == heard[-1] == 1250
    assert heard == sorted(heard)
    assert users.count() == users.count({"even": False}) == 1250
    with pytest.raises(UnsupportedArgument, match="None stands for all"):
        users.purge({})
    assert users.purge() == 1250


def test_a_record_is_found_by_several_fields(users: Records) -> None:
    for number in range(5):
        users.save({"id": number, "name": "Ada", "even": number % 2 == 0})
    assert users.load({"name": "Ada", "even": False}) == users.load(1)
    assert users.load({"name": "Ada", "id": "4"}) == users.load(4)
    assert users.load({"name": "Eve"}) is None
    with pytest.raises(UnknownRecord, match=r"no record at 'users\[name=Ada, even=7\]'"):
        users.get({"name": "Ada", "even": 7})
    nonsense: tuple[Callable[[], object], ...] = (
        lambda: users.load({}),
        lambda: users.get({"name": "Ada"}, "even"),
    )
    for use in nonsense:
        with pytest.raises(UnsupportedArgument):
            use()


def test_a_generated_id_sorts_by_its_moment(users: Records) -> None:
    made = [users.create({"n": number}, generate_id=True)["id"] for number in range(3)]
    assert {UUID(id).version for id in made} == {7}
    assert sorted(made) == [record["id"] for record in users.list().items]
    assert users.create({"id": "mine"}, generate_id=True) == {"id": "mine"}
    with pytest.raises(MisshapedRecord):
        users.create({"n": 1})


def test_compare_and_set(users: Records, redis: RedisDatabase) -> None:
    before = users.create({"id": 1, "n": 1, "of": {"a": [1, True], "b": None}}, ttl=500)
    redis.redis("SET", "app:users:1", '{"of": {"b": null, "a": [1, true]}, "n": 1.0, "id": 1}', "KEEPTTL")
    after = users.compare_and_set(before, {"id": 1, "n": 2})
    assert (after, users.get(1)) == ({"id": 1, "n": 2}, {"id": 1, "n": 2})
    assert 400 < redis.redis("TTL", "app:users:1") <= 500
    for stale in (before, {"id": 1}, {"id": 1, "n": True}, {"id": "1", "n": 2}):
        with pytest.raises(RecordChanged, match="'app:users:1' was changed or deleted since"):
            users.compare_and_set(stale, {"id": 1, "n": 3})
    users.compare_and_set(after, {"id": 1}, ttl=1000)
    assert 900 < redis.redis("TTL", "app:users:1") <= 1000
    with pytest.raises(UnsupportedArgument, match="expected the same id"):
        users.compare_and_set({"id": 1}, {"id": 2})
    with pytest.raises(UnknownRecord):
        users.compare_and_set({"id": 2}, {"id": 2})


def test_no_compare_and_set_of_eight_threads_is_lost(users: Records, archive: Records) -> None:
    archive.create({"id": "c", "n": 0})

    def count() -> None:
        done = 0
        while done < 20:
            seen = archive.get("c", timeout=60)
            try:
                archive.compare_and_set(seen, {**seen, "n": seen["n"] + 1}, timeout=60)
            except RecordChanged:
                continue
            done += 1

    threads = [Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert archive.get("c") == {"id": "c", "n": 160}


def test_a_lost_answer_is_unknown_and_the_record_says_what_is_true(redis_url: str, proxy: MakeProxy) -> None:
    wire = proxy(redis_url)
    with opened(wire.url) as redis, opened(redis_url) as direct:
        redis.patience = direct.patience = SECONDS
        users, truth = Records("users", redis), Records("users", direct)
        seen: dict[str, Any] = users.create({"id": 1, "n": 0})
        seen = users.compare_and_set(seen, {"id": 1, "n": 1})
        for arrives in (True, False):
            wire.cut_after(b"EVALSHA", forward=arrives)
            with pytest.raises(OutcomeUnknown):
                users.compare_and_set(seen, {"id": 1, "n": seen["n"] + 1})
            assert truth.get(1)["n"] in ((seen["n"], seen["n"] + 1) if arrives else (seen["n"],))
            seen = users.get(1)
        redis.pipeline([("SET", users.key(number), f'{{"id":{number}}}') for number in range(100)])
        wire.cut_after(b"EVAL", forward=True)
        with pytest.raises(OutcomeUnknown):
            users.purge()
        left = truth.count()
        assert users.purge() <= left
        assert truth.count() == 0


def test_equal_as_json_knows_it() -> None:
    assert is_equal({"a": [1, {"b": None}], "c": 1.0}, {"c": 1, "a": [1, {"b": None}]})
    for left, right in (
        (True, 1),
        ([0], [False]),
        ({"a": 1}, {"a": 1, "b": None}),
        ([1], [1, 2]),
        (None, ""),
    ):
        assert not is_equal(left, right)
