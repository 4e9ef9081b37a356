"""Messages through a real Redis, over wires that break."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from queue import Queue
from threading import Thread
from typing import Any

import pytest

from katax_cli.errors import OutcomeUnknown, Refused, Unavailable
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.redis.pubsub import PubSub
from katax_cli.services.redis.subscription import Message, Subscription
from tests.engines.connections import settings_for
from tests.fake_clock import AheadClock
from tests.servers.fixtures import MakeProxy, Throwaway
from tests.services.redis_database import database_of, opened
from tests.waiting import SECONDS, until

PREFIX = "app[1]:"


@pytest.fixture
def redis(redis_url: str) -> Iterator[RedisDatabase]:
    with opened(redis_url, prefix=PREFIX) as database:
        yield database


def delivered(publisher: PubSub, channel: str, value: Any) -> None:
    """Publishes until somebody was there to hear it."""
    until(lambda: publisher.publish(channel, value))


def test_messages_arrive_in_order_as_what_they_were(redis: RedisDatabase) -> None:
    heard: Queue[Any] = Queue()
    with PubSub(redis) as pubsub:
        pubsub.subscribe("news", heard.put)
        values = [{"a": 1.0}, "text", None, [1, "é"], 5]
        assert [pubsub.publish("news", value) for value in values] == [1] * 5
        assert [heard.get(timeout=SECONDS) for _ in values] == [{"a": 1}, "text", None, [1, "é"], 5]
        redis.redis("PUBLISH", PREFIX + "news", b"not json")
        assert heard.get(timeout=SECONDS) == "not json"
        assert pubsub.publish("other", 1) == 0


def test_patterns_say_what_matched_without_the_prefix(redis: RedisDatabase) -> None:
    heard: Queue[Any] = Queue()
    with PubSub(redis) as pubsub:
        pubsub.psubscribe("user:*", lambda *args: heard.put(args))
        redis.redis("PUBLISH", "app1:user:1", b"not under our prefix")
        pubsub.publish("user:7", {"x": 1})
        assert heard.get(timeout=SECONDS) == ("user:*", "user:7", {"x": 1})
        assert heard.empty()


def test_several_functions_and_leaving(redis: RedisDatabase) -> None:
    first: Queue[Any] = Queue()
    second: Queue[Any] = Queue()
    with PubSub(redis) as pubsub:
        pubsub.subscribe("a", first.put)
        pubsub.subscribe("a", second.put)
        pubsub.subscribe("b", first.put)
        until(lambda: pubsub.publish("b", "b"))
        assert first.get(timeout=SECONDS) == "b"
        pubsub.unsubscribe("a", second.put)
        pubsub.publish("a", 1)
        assert first.get(timeout=SECONDS) == 1
        pubsub.unsubscribe("a")
        until(lambda: pubsub.publish("a", 2) == 0)
        pubsub.psubscribe("p*", lambda *_args: None)
        pubsub.punsubscribe("p*")
        until(lambda: pubsub.publish("pp", 2) == 0)
        assert second.empty()


def test_a_function_that_fails_stops_nobody(redis: RedisDatabase, caplog: pytest.LogCaptureFixture) -> None:
    heard: Queue[Any] = Queue()

    def fail(_message: Any) -> None:
        raise ZeroDivisionError

    with PubSub(redis) as pubsub:
        pubsub.subscribe("a", fail)
        pubsub.subscribe("a", heard.put)
        pubsub.publish("a", 1)
        pubsub.publish("a", 2)
        assert [heard.get(timeout=SECONDS), heard.get(timeout=SECONDS)] == [1, 2]
    assert "a subscriber of 'a' failed" in caplog.text


class Strict:
    """A codec that reads nothing but digits."""

    def encode(self, value: int) -> str:
        return str(value)

    def decode(self, data: bytes) -> int:
        return int(data)


def test_a_message_that_the_codec_cannot_read_stops_nobody(
    redis: RedisDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    heard: Queue[int] = Queue()
    with PubSub(redis, codec=Strict()) as pubsub:
        pubsub.subscribe("a", heard.put)
        PubSub(redis).publish("a", "no digits")
        pubsub.publish("a", 2)
        assert heard.get(timeout=SECONDS) == 2
    assert "a message of 'a' could not be decoded" in caplog.text


def test_a_cut_wire_is_repaired_and_the_gap_told_to_a_function_that_fails(
    redis_url: str, proxy: MakeProxy
) -> None:
    way = proxy(redis_url)
    heard: Queue[Any] = Queue()
    gaps: Queue[float] = Queue()

    def tell(seconds: float) -> None:
        gaps.put(seconds)
        raise ZeroDivisionError

    with opened(way.url) as behind, opened(redis_url) as direct, PubSub(behind, on_gap=tell) as pubsub:
        pubsub.subscribe("a", heard.put)
        pubsub.psubscribe("p*", lambda *args: heard.put(args))
        publisher = PubSub(direct)
        delivered(publisher, "pp", 0)
        assert heard.get(timeout=SECONDS) == ("p*", "pp", 0)

        way.refuse()
        way.cut()
        until(lambda: publisher.publish("a", "lost") == 0)
        way.come_back()

        assert gaps.get(timeout=SECONDS) > 0
        while not heard.empty():
            heard.get()
        delivered(publisher, "a", "found")
        delivered(publisher, "pp", 1)
        assert {str(heard.get(timeout=SECONDS)), str(heard.get(timeout=SECONDS))} >= {"found"}
        assert gaps.empty()


def test_a_write_whose_answer_is_lost_is_unknown_and_not_made_again(redis_url: str, proxy: MakeProxy) -> None:
    way = proxy(redis_url)
    heard: Queue[Any] = Queue()
    repeating = database_of(settings_for(way.url), attempts=3)
    with closing(repeating) as behind, opened(redis_url) as direct, PubSub(direct) as pubsub:
        pubsub.subscribe("a", heard.put)
        delivered(PubSub(behind), "a", "before")
        way.cut_after(b"PUBLISH", forward=True)
        with pytest.raises(OutcomeUnknown):
            PubSub(behind).publish("a", "in doubt")
        way.cut_after(b"HINCRBY", forward=True)
        with pytest.raises(OutcomeUnknown):
            behind.redis("HINCRBY", "counts", "field", 1)
        way.cut_after(b"HGET", forward=True)
        assert behind.redis("HGET", "counts", "field") == b"1"
        delivered(PubSub(direct), "a", "after")
        assert [heard.get(timeout=SECONDS) for _ in range(3)] == ["before", "in doubt", "after"]


def test_a_server_that_was_killed_is_found_again(throwaway: Throwaway) -> None:
    server = throwaway("redis")
    heard: Queue[Any] = Queue()
    gaps: Queue[float] = Queue()
    with opened(server.url) as redis, PubSub(redis, on_gap=gaps.put) as pubsub:
        pubsub.subscribe("a", heard.put)
        assert server.process is not None
        server.process.kill()
        server.process.start()
        assert gaps.get(timeout=SECONDS) > 0
        with opened(server.url) as other:
            delivered(PubSub(other), "a", 1)
        assert heard.get(timeout=SECONDS) == 1


def test_a_wire_that_goes_silent_is_noticed(redis_url: str, proxy: MakeProxy) -> None:
    """No reset, no close: only the answer to a ping is missing."""
    way = proxy(redis_url)
    gaps: Queue[float] = Queue()
    heard: Queue[Message] = Queue()
    clock = AheadClock()

    def is_noticed() -> bool:
        clock.lead += 1
        return subscription._subscriber is None

    with opened(way.url) as behind, opened(redis_url) as direct:
        subscription = Subscription(behind, on_message=heard.put, on_gap=gaps.put, clock=clock)
        subscription.start(channels=["a"])
        way.stall()
        until(is_noticed)
        way.resume()
        assert gaps.get(timeout=SECONDS) > 0
        delivered(PubSub(direct), "a", 1)
        assert heard.get(timeout=SECONDS).value == 1
        subscription.close()


def test_silence_alone_is_no_gap(redis_url: str, proxy: MakeProxy) -> None:
    way = proxy(redis_url)
    gaps: Queue[float] = Queue()
    heard: Queue[Message] = Queue()
    clock = AheadClock()
    with opened(way.url) as behind, opened(redis_url) as redis:
        subscription = Subscription(
            behind, on_message=heard.put, on_gap=gaps.put, dead_after=SECONDS, clock=clock
        )
        subscription.start(channels=["a"])
        for _ in range(2):
            before = way.bytes_down
            clock.lead += 20
            until(lambda before=before: way.bytes_down > before)  # type: ignore[misc]
        PubSub(redis).publish("a", 1)
        assert heard.get(timeout=SECONDS).value == 1
        assert gaps.empty()
        subscription.close()


def test_a_subscription_to_nothing_lives_until_it_is_to_something(redis_url: str, proxy: MakeProxy) -> None:
    """Without any subscription the server answers a ping in another form."""
    way = proxy(redis_url)
    heard: Queue[Message] = Queue()
    ends: list[BaseException] = []
    clock = AheadClock()
    with opened(way.url) as behind, opened(redis_url) as redis:
        subscription = Subscription(behind, on_message=heard.put, on_end=ends.append, clock=clock)
        subscription.start(channels=["a"])
        subscription.remove("UNSUBSCRIBE", "a")
        until(lambda: PubSub(redis).publish("a", 0) == 0)
        for _ in range(2):
            before = way.bytes_down
            clock.lead += 20
            until(lambda before=before: way.bytes_down > before or ends)  # type: ignore[misc]
        subscription.add("SUBSCRIBE", "a")
        delivered(PubSub(redis), "a", 1)
        until(lambda: heard.get(timeout=60).value == 1)
        subscription.close()
    assert ends == []


def test_a_first_connect_that_fails_is_the_callers(closed_port: int) -> None:
    with opened(f"redis://127.0.0.1:{closed_port}/0") as redis:
        pubsub = PubSub(redis)
        for _ in range(2):
            with pytest.raises(Unavailable):
                pubsub.subscribe("a", print)


def test_close_ends_thread_and_connection(redis: RedisDatabase) -> None:
    pubsub = PubSub(redis)
    pubsub.subscribe("a", lambda _message: pubsub.close())
    publisher = PubSub(redis)
    delivered(publisher, "a", 1)
    until(lambda: publisher.publish("a", 1) == 0)
    closer = Thread(target=pubsub.close)
    closer.start()
    closer.join(SECONDS)
    assert not closer.is_alive()


def test_a_read_only_connection_listens_and_sends_nothing(redis_url: str, redis: RedisDatabase) -> None:
    heard: Queue[Any] = Queue()
    with opened(redis_url, prefix=PREFIX, read_only=True) as reader, PubSub(reader) as pubsub:
        pubsub.subscribe("a", heard.put)
        pubsub.psubscribe("b*", lambda *args: heard.put(args))
        delivered(PubSub(redis), "bb", 1)
        delivered(PubSub(redis), "a", 2)
        assert [heard.get(timeout=SECONDS), heard.get(timeout=SECONDS)] == [("b*", "bb", 1), 2]
        with pytest.raises(Refused):
            pubsub.publish("a", 1)


def test_an_empty_channel_is_told(redis: RedisDatabase) -> None:
    with pytest.raises(ValueError), PubSub(redis) as pubsub:
        pubsub.subscribe("", print)
