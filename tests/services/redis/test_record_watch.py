"""Changes of records, told by a real Redis over wires that break."""

from __future__ import annotations

from collections.abc import Iterator
from queue import Queue
from threading import Event

import pytest

from katax_cli.errors import ConfigError
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.redis.record_watch import RecordEvent
from katax_cli.services.redis.records import Records
from tests.servers import Server
from tests.servers.fixtures import MakeProxy, Throwaway
from tests.services.redis_database import opened
from tests.waiting import SECONDS, until

PREFIX = "app[1]:"
TOLD = {"notify-keyspace-events": "Kg$xe"}
Told = tuple[str | None, str]


@pytest.fixture
def server(throwaway: Throwaway) -> Server:
    return throwaway("redis", settings=TOLD)


@pytest.fixture
def redis(server: Server) -> Iterator[RedisDatabase]:
    with opened(server.url, prefix=PREFIX) as database:
        database.patience = SECONDS
        yield database


def next_of(events: Queue[RecordEvent]) -> Told:
    event = events.get(timeout=SECONDS)
    return event.id, event.event


def test_every_change_is_told_once_and_in_order(redis: RedisDatabase) -> None:
    users, events = Records("u*", redis), Queue[RecordEvent]()
    stop = users.watch(events.put)
    Records("uu", redis).save({"id": "other"})
    redis.redis("SADD", users.key("set"), "x")
    for id in (1, "a:b", "[x]\n👍"):
        users.save({"id": id}, ttl=500)
        users.update({"id": id, "n": 1})
        users.load(id)
        users.delete(id)
        assert [next_of(events) for _ in range(3)] == [
            (str(id), "saved"),
            (str(id), "saved"),
            (str(id), "deleted"),
        ]
    users.save({"id": "short"}, ttl=0.01)
    assert [next_of(events), next_of(events)] == [("short", "saved"), ("short", "expired")]
    users.save({"id": "long"})
    users.purge()
    redis.redis("RENAME", "app[1]:uu:other", users.key("renamed"))
    wanted = [("long", "saved"), ("long", "deleted"), ("renamed", "saved")]
    assert [next_of(events) for _ in wanted] == wanted
    stop()
    users.save({"id": "unheard"})
    assert events.empty()


def test_a_server_that_tells_nothing_is_said_to_and_left_as_it_is(redis: RedisDatabase) -> None:
    redis.redis("CONFIG", "SET", "notify-keyspace-events", "Ex")
    with pytest.raises(ConfigError) as error:
        Records("users", redis).watch(print)
    assert str(error.value) == (
        "'cache' tells of no changes to records: its notify-keyspace-events is 'xE' and lacks 'Kg$e'; "
        "set it on the server: CONFIG SET notify-keyspace-events xEKg$e"
    )
    assert redis.redis("CONFIG", "GET", "notify-keyspace-events")[1] == b"xE"
    redis.redis("CONFIG", "SET", "notify-keyspace-events", "KA")
    Records("users", redis).watch(print)()


def test_a_server_that_does_not_say_how_it_is_set_is_watched_with_a_warning(
    server: Server, redis: RedisDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    redis.redis("ACL", "SETUSER", "shy", "on", ">katax", "~*", "&*", "+@all", "-config")
    url = f"redis://shy:katax@{server.host}:{server.port}/0"
    events = Queue[RecordEvent]()
    with opened(url, prefix=PREFIX) as shy:
        shy.patience = SECONDS
        users = Records("users", shy)
        users.watch(events.put)
        assert "'cache' does not say its notify-keyspace-events (NOPERM)" in caplog.text
        users.save({"id": 1})
        assert next_of(events) == ("1", "saved")
        users.close()


def test_a_compatible_server_without_the_setting_is_watched_with_a_warning(
    throwaway: Throwaway, caplog: pytest.LogCaptureFixture
) -> None:
    """The intersection of two sets that are not there is the empty list of a server that knows no such setting."""
    renamed = {"rename-command CONFIG": "OLDCONFIG", "rename-command SINTER": "CONFIG"}
    with opened(throwaway("redis", settings=TOLD | renamed).url, prefix=PREFIX) as redis:
        assert redis.redis("CONFIG", "GET", "notify-keyspace-events") == []
        users, events = Records("users", redis), Queue[RecordEvent]()
        users.watch(events.put)
        assert "does not say its notify-keyspace-events (it knows no such setting)" in caplog.text
        users.save({"id": 1})
        assert next_of(events) == ("1", "saved")
        users.close()


def test_a_lost_connection_is_told_between_the_events_before_and_after(
    redis: RedisDatabase, server: Server, proxy: MakeProxy
) -> None:
    wire, events = proxy(server), Queue[RecordEvent]()
    ended = Queue[BaseException]()
    direct = Records("users", redis)
    with opened(server.url, prefix=PREFIX, port=wire.port) as behind:
        behind.patience = SECONDS
        watched = Records("users", behind)
        watched.watch(events.put, on_end=ended.put)
        direct.save({"id": 1})
        assert next_of(events) == ("1", "saved")
        wire.refuse()
        wire.cut()
        direct.save({"id": "unheard"})
        wire.come_back()
        assert next_of(events) == (None, "missed")
        direct.save({"id": 2})
        assert next_of(events) == ("2", "saved")

        redis.redis("CONFIG", "SET", "notify-keyspace-events", "")
        wire.cut()
        assert isinstance(ended.get(timeout=SECONDS), ConfigError), "it came back without its setting"
        assert events.empty()
        watched.close()


def test_a_watcher_that_is_too_slow_is_told_what_it_missed(redis: RedisDatabase) -> None:
    """Nothing heaps up here: the server's buffer fills up, and it cuts the connection."""
    redis.redis("CONFIG", "SET", "client-output-buffer-limit", "pubsub 64kb 64kb 1")
    users, events, go_on = Records("users", redis), Queue[RecordEvent](), Event()

    def slow(event: RecordEvent) -> None:
        go_on.wait(SECONDS)
        events.put(event)

    users.watch(slow)
    redis.pipeline([("SET", users.key("x" * 100 + str(number)), "{}") for number in range(1000)])

    def is_cut() -> bool:
        redis.pipeline([("SET", users.key("x" * 500), "{}")] * 5000)
        return b"cmd=psubscribe" not in redis.redis("CLIENT", "LIST")

    until(is_cut)
    go_on.set()
    while next_of(events) != (None, "missed"):
        pass
    users.save({"id": "after"})
    assert next_of(events) == ("after", "saved")
    users.close()


def test_what_a_watcher_raises_is_logged_and_the_others_go_on(
    redis: RedisDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    users, events = Records("users", redis), Queue[RecordEvent]()

    def fails(event: RecordEvent) -> None:
        events.put(event)
        raise RuntimeError("of the watcher")

    users.watch(fails)
    for id in ("1", "2"):
        users.save({"id": id})
        assert next_of(events) == (id, "saved")
    users.close()
    assert "a watcher of the records 'users' failed" in caplog.text
