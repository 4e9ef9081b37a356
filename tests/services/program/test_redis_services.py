"""The services on Redis that a container makes, and those that stand for them in tests."""

from __future__ import annotations

from queue import SimpleQueue
from typing import Any

import pytest

from katax_cli import Cache, LockHeld, RecordStore, TestDatabase, TestRedis, WrongEngine
from tests.services.program.test_lifecycle import container


def test_they_are_made_on_the_connection_that_is_meant(redis_url: str, sqlite_url: str) -> None:
    with container(cache=redis_url, main=sqlite_url) as katax:
        sessions = katax.sessions(prefix="s:", ttl="1h")
        id = sessions.create({"user_id": 7})
        assert katax.redis().redis("EXISTS", f"s:{id}") == 1
        limiter = katax.limiter(max=2, window=60)
        assert [limiter.check("key").allowed for _ in range(3)] == [True, True, False]
        with katax.lock("nightly", ttl=600), pytest.raises(LockHeld):
            katax.lock("nightly").acquire()
        heard: SimpleQueue[Any] = SimpleQueue()
        assert katax.pubsub() is katax.pubsub("cache")
        katax.pubsub().subscribe("news", heard.put)
        assert katax.pubsub().publish("news", {"n": 1}) == 1
        assert heard.get(timeout=60) == {"n": 1}
        assert katax.info().services == ("PubSub",)
        for make in (katax.sessions, katax.limiter, katax.pubsub):
            with pytest.raises(WrongEngine):
                make("main")


def test_an_override_stands_for_its_name(redis_url: str, sqlite_url: str) -> None:
    with container(cache=redis_url, main=sqlite_url) as katax, TestDatabase.create() as test_database:
        real, records = katax.database(), katax.records("users")
        katax.cache().set("key", "real")
        records.save({"id": 1, "name": "real"})
        with katax.override("main", test_database):
            test_database.execute("create table only_here (n int)")
            assert katax.database() is katax.db("main") is test_database
            assert katax.database("main", type="postgresql").query("select n from only_here") == []
            assert katax.health_check("main", timeout=60).connections["main"].status == "healthy"
            assert katax.info().connections["main"].replaced
        assert katax.database() is real
        assert not test_database.closed

        with TestRedis() as test_redis, katax.override("cache", test_redis):
            assert katax.cache().get("key") is None
            assert katax.redis() is test_redis
            assert katax.records("users").load(1) is None
            katax.sessions().create({"user_id": 1}, id="one")
            assert test_redis.redis("EXISTS", "session:one") == 1
        assert katax.cache().get("key") == "real"
        assert katax.records("users") is records
        assert katax.records("users").get(1)["name"] == "real"


def test_any_object_may_stand_for_a_service(redis_url: str) -> None:
    class Fake:
        redis = "not a client"

    with container(cache=redis_url) as katax:
        registered = katax.register(RecordStore("users", katax.redis()))
        fake, other, cache = Fake(), Fake(), Cache(katax.redis())
        outer = katax.override("cache", fake)
        inner = katax.override("cache", other)
        assert [katax.cache(), katax.redis(), katax.database("cache")] == [other] * 3
        outer.restore()
        assert id(katax.cache()) == id(other)
        inner.restore()
        inner.restore()
        assert katax.cache().redis is cache.redis
        with katax.override("cache", cache):
            assert (katax.cache(), katax.redis()) == (cache, cache.redis)
        with katax.override("users", fake), katax.override("default", other):
            assert [katax.records("users"), katax.socket(), katax.database()] == [fake, other, other]
        assert katax.records("users") is registered
