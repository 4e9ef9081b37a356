"""Sessions, limits, locks, records and messages for tasks: the same rules as in threads, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from threading import enumerate as enumerate_threads
from typing import Any
from uuid import UUID, uuid4

import pytest

from katax_cli import Katax
from katax_cli.aio import AsyncKatax, AsyncLock, AsyncSubscription
from katax_cli.aio.pubsub import MOST_WAITING
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.errors import (
    ConfigError,
    KataxError,
    LockHeld,
    LockLost,
    OutcomeUnknown,
    RateLimitExceeded,
    RecordChanged,
    RecordExists,
    Unavailable,
    UnknownRecord,
)
from katax_cli.services.locks import lock as locks
from katax_cli.services.redis.subscription import Subscription
from tests.aio.conftest import MakeKatax
from tests.aio.tasks import eventually
from tests.servers.fixtures import MakeProxy, Throwaway
from tests.waiting import SECONDS, until


async def test_sessions(make_katax: MakeKatax, redis_url: str) -> None:
    async with make_katax(cache=redis_url) as katax:
        sessions = katax.sessions(ttl="1h")
        id = await sessions.create({"user_id": 7})
        assert await sessions.update(id, {"cart": [1]}) == {"user_id": 7, "cart": [1]}
        assert [each.id for each in await sessions.list_for_user(7)] == [id]
        with pytest.raises(RecordExists):
            await sessions.create({}, id=id)
        assert (await sessions.touch(id), await sessions.revoke(7), await sessions.get(id)) == (True, 1, None)


async def test_limits(make_katax: MakeKatax, redis_url: str) -> None:
    """A hundred tasks at once get no more than the maximum."""
    async with make_katax(cache=redis_url) as katax:
        limiter = katax.limiter(max=10, window=60)
        decisions = await asyncio.gather(*[limiter.check("api:42", timeout=60) for _ in range(100)])
        assert sum(decision.allowed for decision in decisions) == 10
        with pytest.raises(RateLimitExceeded):
            await limiter.consume("api:42")
        assert (await limiter.peek("api:42")).remaining == 0
        assert await limiter.reset("api:42")


async def test_a_write_that_waits_for_a_connection_was_not_sent(
    make_katax: MakeKatax, redis_url: str
) -> None:
    """Cancelled there it is as cancelled as any other wait; what was sent is unknown."""
    async with make_katax(cache={"url": redis_url, "pool": {"max": 1}}) as katax:
        redis = katax.redis()
        await redis.ping()
        sent = asyncio.create_task(redis.redis("BLPOP", "queue", 0, timeout=3600))
        while redis.pool_stats().active == 0:
            await asyncio.sleep(0.01)
        waits = asyncio.create_task(redis.redis("SET", "key", "value", timeout=3600))
        while redis.pool_stats().waiting == 0:
            await asyncio.sleep(0.01)
        for task in (waits, sent):
            task.cancel()
        ended = await asyncio.gather(waits, sent, return_exceptions=True)
        assert [type(end) for end in ended] == [asyncio.CancelledError, OutcomeUnknown]
        assert await redis.redis("EXISTS", "key") == 0


async def test_a_limit_without_redis(make_katax: MakeKatax, redis_url: str, proxy: MakeProxy) -> None:
    wire = proxy(redis_url)
    async with make_katax("[retry]\nattempts = 1\n", cache=wire.url) as katax:
        wire.refuse()
        limiter = katax.limiter(on_error="open")
        assert (await limiter.check("api:42")).allowed
        assert limiter.undecided == 1
        with pytest.raises(Unavailable):
            await katax.limiter().check("api:42")


async def test_records(make_katax: MakeKatax, redis_url: str) -> None:
    async with make_katax(cache={"url": redis_url, "prefix": "app:"}) as katax:
        users = katax.records("users")
        await users.create({"id": 7, "name": "Ada"})
        assert await users.update({"id": 7, "age": 36}) == {"id": 7, "name": "Ada", "age": 36}
        assert (await users.get("Ada", "name"))["id"] == 7
        assert (await users.list({"name": "Ada"})).pager.total == 1
        async with users.subscribe("7") as events:
            assert await users.publish({"changed": "name"}, "7") == 1
            assert await anext(events) == {"changed": "name"}
        seen = await users.get({"name": "Ada", "age": 36})
        assert await users.compare_and_set(seen, {"id": 7, "name": "Ada"}) == {"id": 7, "name": "Ada"}
        with pytest.raises(RecordChanged):
            await users.compare_and_set(seen, {"id": 7})
        assert UUID((await users.create({"name": "Eve"}, generate_id=True))["id"]).version == 7
        assert (await users.count(), await users.count({"name": "Eve"})) == (2, 1)
        assert (await users.purge({"name": "Eve"}), await users.count()) == (1, 1)
        assert (await users.pick(7))["name"] == "Ada"
        with pytest.raises(UnknownRecord):
            await users.get(7)


async def test_changes_of_records(make_katax: MakeKatax, throwaway: Throwaway, proxy: MakeProxy) -> None:
    server = throwaway("redis", settings={"notify-keyspace-events": "KA"})
    wire = proxy(server)
    async with make_katax(cache={"url": wire.url, "prefix": "app:"}) as katax:
        users = katax.records("users")
        async with users.watch(timeout=60) as events:
            await users.save({"id": 7}, timeout=60)
            event = await anext(events)
            assert (event.id, event.event) == ("7", "saved")
            wire.cut()
            event = await anext(events)
            assert (event.id, event.event) == (None, "missed")
            await katax.redis().redis("CONFIG", "SET", "notify-keyspace-events", "", timeout=60)
            wire.cut()
            with pytest.raises(ConfigError, match="tells of no changes to records"):
                await anext(events)
        with pytest.raises(ConfigError, match="CONFIG SET notify-keyspace-events"):
            async with users.watch(timeout=60):
                pass


async def test_a_lock_is_held_by_one_and_renewed(
    make_katax: MakeKatax, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_katax(cache=redis_url) as katax:
        inside: list[int] = []
        tokens: list[int] = []

        async def work() -> None:
            async with katax.lock("nightly", wait=60) as lock:
                inside.append(1)
                assert len(inside) == 1
                await asyncio.sleep(0.01)
                tokens.append(lock.token)
                inside.pop()

        await asyncio.gather(*[work() for _ in range(12)])
        assert sorted(tokens) == tokens
        assert len(set(tokens)) == 12

        monkeypatch.setattr(locks, "RENEWALS", 300)
        async with katax.lock("nightly", ttl=60) as lock:
            seen: list[int] = []

            async def was_renewed() -> bool:
                seen.append(await katax.redis().redis("PTTL", "lock:nightly", timeout=60))
                return seen[-1] > min(seen)

            await eventually(was_renewed)
            with pytest.raises(LockHeld):
                await katax.lock("nightly").acquire()
            lock.check()


async def test_a_lost_lock_is_told_on_the_event_loop(
    make_katax: MakeKatax, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "RENEWALS", 300)
    async with make_katax(cache=redis_url) as katax:
        lock: AsyncLock = katax.lock("nightly", ttl=30)
        told: asyncio.Future[LockLost] = asyncio.get_running_loop().create_future()
        lock.on_lost(told.set_result)

        async def lose() -> None:
            async with lock:
                await katax.redis().redis("DEL", "lock:nightly")
                assert isinstance(await told, LockLost)

        with pytest.raises(LockLost):
            await lose()


async def test_a_listener_that_is_a_coroutine_function(make_katax: MakeKatax, redis_url: str) -> None:
    """It would be called without being awaited, as nobody is there to await it."""

    async def listener(_: object) -> None: ...

    async with make_katax(cache=redis_url) as katax:
        with pytest.raises(TypeError, match=r"which on_lost\(\) never runs"):
            katax.lock("nightly").on_lost(listener)
        with pytest.raises(TypeError, match=r"which on_gap\(\) never runs"):
            katax.pubsub().subscribe("news", on_gap=listener)


@pytest.mark.usefixtures("settled")
async def test_a_cancelled_holder_gives_its_lock_back(make_katax: MakeKatax, redis_url: str) -> None:
    async with make_katax(cache=redis_url) as katax:
        held = asyncio.Event()

        async def hold() -> None:
            async with katax.lock("nightly"):
                held.set()
                await asyncio.sleep(1000)

        holding = asyncio.create_task(hold())
        await held.wait()
        waiting = asyncio.create_task(katax.lock("nightly", wait=1000).acquire())
        await asyncio.sleep(0.05)
        waiting.cancel()
        holding.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        with suppress(asyncio.CancelledError):
            await holding
        async with katax.lock("nightly", wait=60):
            pass


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine gives a lock back as late as it likes."""
    monkeypatch.setattr(locks, "_SETTLE_SECONDS", SECONDS)
    monkeypatch.setattr(locks, "_GIVE_BACK_SECONDS", SECONDS)


@pytest.mark.usefixtures("settled")
async def test_a_cancelled_acquisition_or_release_leaves_no_lock(
    make_katax: MakeKatax, redis_url: str
) -> None:
    """At each turn of the loop; the lock of another holder stays his."""
    async with make_katax(cache=redis_url) as katax:
        redis = katax.redis()
        async with katax.lock("nightly"):
            pass

        async def cancelled(call: Coroutine[Any, Any, object], turns: int) -> object:
            task = asyncio.create_task(call)
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            [end] = await asyncio.gather(task, return_exceptions=True)
            return end

        async def is_held() -> bool:
            return bool(await redis.redis("EXISTS", "lock:nightly", timeout=60))

        for turns in range(12):
            lock = katax.lock("nightly")
            end = await cancelled(lock.acquire(timeout=60), turns)
            if isinstance(end, asyncio.CancelledError):
                assert not await is_held()
                await lock.acquire(timeout=60)
            else:
                assert end == lock.token
            assert await is_held()
            other = await cancelled(katax.lock("nightly").acquire(timeout=60), turns)
            assert isinstance(other, asyncio.CancelledError | LockHeld)
            assert await is_held()
            end = await cancelled(lock.release(timeout=60), turns)
            assert end is None or isinstance(end, asyncio.CancelledError)
            if turns:
                assert not await is_held()
            else:
                await lock.release(timeout=60)  # it had not begun


async def test_an_acquisition_that_is_cancelled_while_redis_is_silent(
    make_katax: MakeKatax, throwaway: Throwaway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can know whether it was taken; once the server answers it is given back all the same."""
    monkeypatch.setattr(locks, "_SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(locks, "_GIVE_BACK_SECONDS", SECONDS)
    server = throwaway("redis")
    async with make_katax(cache=server.url) as katax:
        lock = katax.lock("nightly", ttl=3600)
        await lock.acquire(timeout=60)
        await lock.release(timeout=60)
        server.stop_signal()
        task = asyncio.create_task(lock.acquire(timeout=60))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(OutcomeUnknown, match="the EVALSHA was cancelled after it was sent"):
            await task
        server.resume()
        async with katax.lock("nightly", wait=SECONDS):
            pass


async def test_messages(make_katax: MakeKatax, redis_url: str) -> None:
    """Of channels and patterns, more than may wait, in their order."""
    async with make_katax(cache={"url": redis_url, "prefix": "app:"}) as katax:
        pubsub = katax.pubsub()
        async with (
            pubsub.subscribe("news", "weather", timeout=60) as messages,
            pubsub.psubscribe("n*", timeout=60) as matching,
        ):
            many = 3 * MOST_WAITING
            sending = asyncio.create_task(publish(katax, many))
            got = [message async for message, _ in numbered(messages, many)]
            assert [message.value for message in got] == list(range(many))
            assert {message.channel for message in got} == {"news"}
            first = await anext(matching)
            assert (first.pattern, first.channel, first.value) == ("n*", "news", 0)
            await sending
        assert [message async for message in messages] == []


async def publish(katax: AsyncKatax, count: int) -> None:
    await katax.redis().pipeline([("PUBLISH", "app:news", number) for number in range(count)], timeout=60)


async def numbered(messages: AsyncSubscription, count: int):  # type: ignore[no-untyped-def]
    number = 0
    async for message in messages:
        yield message, number
        number += 1
        if number == count:
            return


async def test_a_subscription_comes_back_and_says_what_it_missed(
    make_katax: MakeKatax, redis_url: str, proxy: MakeProxy
) -> None:
    wire = proxy(redis_url)
    async with make_katax(cache=wire.url, direct=redis_url) as katax:
        gaps: list[float] = []
        async with katax.pubsub("cache").subscribe("news", on_gap=gaps.append, timeout=60) as messages:
            wire.cut()

            async def told() -> bool:
                return bool(gaps)

            await eventually(told)
            received = asyncio.create_task(anext(messages))

            async def reached() -> bool:
                return await katax.pubsub("direct").publish("news", "again") == 1 or received.done()

            await eventually(reached)
            assert (await received).value == "again"


async def test_a_message_between_two_looks_leaves_its_reader_alone(
    make_katax: MakeKatax, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread hears it after the first look and before the second, so nobody waits for the wake-up."""
    loop = asyncio.get_running_loop()
    make = loop.create_future
    async with make_katax(cache=redis_url) as katax:
        with Katax(katax.profile) as threads:
            async with katax.pubsub().subscribe("news", timeout=60) as messages:

                def heard_meanwhile() -> asyncio.Future[object]:
                    monkeypatch.setattr(loop, "create_future", make)
                    threads.pubsub().publish("news", 1, timeout=SECONDS)
                    until(lambda: messages._arrived)
                    return make()

                monkeypatch.setattr(loop, "create_future", heard_meanwhile)
                assert (await anext(messages)).value == 1
                loop.call_soon(partial(threads.pubsub().publish, "news", 2, timeout=SECONDS))
                async with asyncio.timeout(SECONDS):
                    assert (await anext(messages)).value == 2


async def test_a_subscription_whose_connect_was_refused_begins_again_and_an_ended_one_says_so(
    make_katax: MakeKatax, redis_url: str, proxy: MakeProxy
) -> None:
    wire = proxy(redis_url)
    async with make_katax(cache=wire.url, direct=redis_url) as katax:
        messages = katax.pubsub("cache").subscribe("news", timeout=SECONDS)
        wire.refuse()
        with pytest.raises(Unavailable):
            async with messages:
                raise AssertionError("the connect was refused")
        wire.come_back()
        async with messages:
            await katax.pubsub("direct").publish("news", "heard", timeout=SECONDS)
            async with asyncio.timeout(SECONDS):
                assert (await anext(messages)).value == "heard"
        with pytest.raises(KataxError, match="this subscription has ended; make another one"):
            await messages.__aenter__()


async def test_a_subscription_that_begins_as_its_container_ends(
    make_katax: MakeKatax, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would live on, without anybody who could end it."""
    katax, before = make_katax(cache=redis_url), enumerate_threads()
    loop, open_it = asyncio.get_running_loop(), Subscription._open

    def ends_meanwhile(subscription: Subscription, deadline: Deadline) -> None:
        open_it(subscription, deadline)
        asyncio.run_coroutine_threadsafe(katax.shutdown(SECONDS), loop).result()

    monkeypatch.setattr(Subscription, "_open", ends_meanwhile)
    messages = katax.pubsub().subscribe("news", timeout=SECONDS)
    with pytest.raises(KataxError, match="this subscription has ended; make another one"):
        await messages.__aenter__()
    until(
        lambda: "katax-pubsub-cache" not in {each.name for each in enumerate_threads() if each not in before}
    )


async def test_subscriptions_that_begin_during_a_shutdown(make_katax: MakeKatax, redis_url: str) -> None:
    """The thread that shuts down looks at them while the event loop adds others."""
    katax = make_katax(cache=redis_url)
    home = katax.wraps.home
    made = [katax.pubsub().subscribe("news") for _ in range(2000)]
    home.subscriptions.update(made[:1000])
    looking = asyncio.get_running_loop().run_in_executor(
        None, lambda: [katax.wraps._end_services() for _ in range(100)]
    )
    while not looking.done():
        home.subscriptions.update(made)
        await asyncio.sleep(0)
        home.subscriptions.difference_update(made[1000:])
        await asyncio.sleep(0)
    looks = await looking
    assert all(1000 <= len(steps) <= 2000 for steps in looks)
    home.subscriptions.clear()
    assert (await katax.shutdown(SECONDS)).clean


async def test_a_subscription_ends_with_its_task_and_with_the_container(
    make_katax: MakeKatax, redis_url: str
) -> None:
    # Channels are the server's, whatever the database.
    katax = make_katax(cache={"url": redis_url, "prefix": f"{uuid4().hex}:"})
    heard, subscribed = list[object](), asyncio.Event()

    async def listen() -> None:
        async with katax.pubsub().subscribe("news") as messages:
            subscribed.set()
            async for message in messages:
                heard.append(message.value)
        heard.append("the end")

    with Katax(katax.profile) as threads:
        redis = threads.redis()

        def listeners() -> int:
            return int(redis.redis("PUBSUB", "NUMSUB", redis.settings.prefix + "news")[1])

        task = asyncio.create_task(listen())
        await asyncio.sleep(0)
        # The event loop stands still while a thread subscribes.
        until(lambda: listeners() == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not subscribed.is_set()
        await eventually(lambda: asyncio.to_thread(lambda: listeners() == 0))

        task = asyncio.create_task(listen())
        await subscribed.wait()
        async with katax.pubsub().subscribe("other") as messages:
            first = asyncio.create_task(anext(messages))
            await asyncio.sleep(0)
            with pytest.raises(KataxError, match="another task reads these messages"):
                await anext(messages)
            first.cancel()
        assert (await katax.shutdown(SECONDS)).clean
        async with asyncio.timeout(SECONDS):
            await task
        assert heard == ["the end"]
        await eventually(lambda: asyncio.to_thread(lambda: listeners() == 0))
