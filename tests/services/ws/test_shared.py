"""Servers of one name over one Redis, and what Redis does to them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, date, datetime
from functools import partial
from threading import Event
from typing import Any

import pytest
import redis as driver

from katax_cli.errors import Refused, Unavailable
from katax_cli.resilience import CircuitBreaker
from katax_cli.services.calls.left_behind import start
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.redis.subscription import Message
from katax_cli.services.ws import shared
from katax_cli.services.ws.client import SocketClient
from katax_cli.services.ws.cluster import this_worker
from katax_cli.services.ws.server import Sockets
from katax_cli.services.ws.shared import ClusterMember
from tests.servers.fixtures import MakeProxy, Throwaway
from tests.services.redis_database import redis_database
from tests.services.ws.conftest import MakeClient, MakeServer, ask, next_event, soon
from tests.waiting import SECONDS, until

Pair = tuple[Sockets, Sockets]
TIMES = ("_CALL_SECONDS", "_CONFIRM_SECONDS", "DEAF_AFTER")
USUAL = {name: getattr(shared, name) for name in TIMES}
MakePair = Callable[..., Pair]
Times = Callable[..., None]
Dial = Callable[[str], driver.Redis]


@pytest.fixture(autouse=True)
def times(monkeypatch: pytest.MonkeyPatch) -> Iterator[Times]:
    """`times(name, …)`: these are as in a program; all others so long that a busy machine loses nothing by them."""

    def usual(*names: str) -> None:
        for name in TIMES:
            monkeypatch.setattr(shared, name, USUAL[name] if name in names else SECONDS)

    usual()
    yield usual
    # Nobody at the end waits so long for a Redis that is gone.
    usual(*TIMES)


@pytest.fixture
def pair(serve: MakeServer) -> Iterator[MakePair]:
    """Two servers of one name, each with a Redis connection of its own."""
    with ExitStack() as databases:

        def make(url: str, *, first: str | None = None, **changes: Any) -> Pair:
            made = [_touchy(redis_database(one, prefix="app:", **changes)) for one in (first or url, url)]
            for each in made:
                databases.callback(each.close)
            servers = serve(redis=made[0]), serve(redis=made[1])
            for server in servers:
                databases.callback(server.close)
            return servers

        yield make


@pytest.fixture
def dial() -> Iterator[Dial]:
    """Clients of Redis past katax, closed at the end."""
    with ExitStack() as clients:
        yield lambda url: clients.enter_context(driver.Redis.from_url(url))


def _touchy(database: RedisDatabase) -> RedisDatabase:
    """As a program's: one failure, and calls are refused for a minute."""
    database.guard.breaker = CircuitBreaker(1, 60.0)
    return database


def hear(*servers: Sockets) -> bool:
    """Whether all of them hear a canary of each."""
    try:
        return not any(server.cluster.ask("canary", None).deaf for server in servers)
    except Unavailable:
        return False


def exchange(pair: Pair, clients: tuple[SocketClient, SocketClient], data: str) -> list[object]:
    """What both clients hear of an event that each server sends to all."""
    for server, name in zip(pair, ("first", "second"), strict=True):
        server.emit(name, data)
    return [data for client in clients for data in _both(client)]


def _both(client: SocketClient) -> list[object]:
    """The data of `first` and `second`, which may come in either order."""
    wanted = (event for event in client.events(soon()) if event.name in ("first", "second"))
    heard = dict(next(wanted)[:2] for _ in range(2))
    return [heard["first"], heard["second"]]


def connected(pair: Pair, join: MakeClient) -> tuple[SocketClient, SocketClient]:
    first, second = join(pair[0]), join(pair[1])
    first.join("r", deadline=soon())
    second.join("r", deadline=soon())
    return first, second


def test_they_act_as_one(pair: MakePair, join: MakeClient, redis_url: str) -> None:
    servers = pair(redis_url)
    clients = connected(servers, join)

    assert exchange(servers, clients, "x") == ["x"] * 4
    servers[1].emit_to_room("r", "room", [1, date(2026, 1, 2)])
    assert [next_event(client, "room").data for client in clients] == [[1, "2026-01-02"]] * 2
    until(lambda: [server.clients_count() for server in servers] == [2, 2])
    until(lambda: [server.room_clients_count("r") for server in servers] == [2, 2])
    assert not servers[0].has_room_listeners("other")


def test_the_admin_sees_and_reaches_all(pair: MakePair, join: MakeClient, redis_url: str) -> None:
    servers = pair(redis_url)
    first, second = connected(servers, join)
    admin = join(servers[0], admin=True)
    ask(admin, "observe")

    until(lambda: ask(admin, "rooms") == {"rooms": {"r": 2}, "deaf": []})
    everybody = {*servers[0].clients, *servers[1].clients}
    until(lambda: {row["sid"] for row in ask(admin, "clients")["clients"]} == everybody)
    assert ask(admin, "emit", {"event": "e", "data": 1, "room": "r"})["clients"] == 2
    servers[1].emit("far", 2)

    assert [next_event(client, "e").data for client in (first, second)] == [1, 1]
    assert next_event(admin, "seen").data["event"] == "e"
    assert next_event(admin, "seen").data | {"seq": 0} == {
        "event": "far",
        "room": None,
        "data": 2,
        "sid": None,
        "seq": 0,
    }
    (far,) = servers[1].clients
    assert ask(admin, "kick", far)["kicked"] is True
    until(lambda: servers[0].clients_count() == 1)


def test_servers_of_other_names_and_prefixes_hear_nothing(
    serve: MakeServer, join: MakeClient, redis_url: str
) -> None:
    with ExitStack() as databases:
        made = [redis_database(redis_url, prefix=prefix) for prefix in ("a:", "a:", "b:")]
        for each in made:
            databases.callback(each.close)
        one, named, prefixed = (
            serve("one", redis=made[0]),
            serve("two", redis=made[1]),
            serve("one", redis=made[2]),
        )
        outsiders = [join(named), join(prefixed)]
        for client in outsiders:
            client.connect(deadline=soon())
        one.emit("secret", 1)
        named.emit("own", 2)
        prefixed.emit("own", 2)

        for client in outsiders:
            assert next(iter(client.events(soon()))).name == "own"
        assert one.clients_count() == 0
        for server in (one, named, prefixed):
            server.close()


def test_killed_subscriptions_come_back(
    pair: MakePair, join: MakeClient, redis_url: str, dial: Dial, caplog: pytest.LogCaptureFixture
) -> None:
    servers = pair(redis_url)
    clients = connected(servers, join)
    admin = dial(redis_url)

    for number in range(3):
        assert admin.client_kill_filter(_type="pubsub") >= 2

        until(lambda: hear(*servers))
        assert exchange(servers, clients, f"again {number}") == [f"again {number}"] * 4
        assert [server.ready for server in servers] == [True, True]
        assert caplog.text.count("what they sent meanwhile did not reach the clients here") >= 2
        caplog.clear()


def test_redis_may_restart(
    pair: MakePair, join: MakeClient, throwaway: Throwaway, times: Times, caplog: pytest.LogCaptureFixture
) -> None:
    times("DEAF_AFTER")
    redis = throwaway("redis")
    servers = pair(redis.url)
    clients = connected(servers, join)
    assert exchange(servers, clients, "before") == ["before"] * 4

    redis.stop()
    servers[0].emit("kept", 1)
    until(lambda: not servers[0].ready and not servers[1].ready)
    redis.start()

    until(lambda: hear(*servers))
    times()
    assert [server.ready for server in servers] == [True, True]
    assert next_event(clients[0], "kept").data == 1
    assert exchange(servers, clients, "after") == ["after"] * 4
    assert caplog.text.count("what they sent meanwhile did not reach the clients here") >= 2


def test_a_redis_that_hung_is_found_again(
    pair: MakePair, redis_url: str, proxy: MakeProxy, times: Times
) -> None:
    times(*TIMES)
    way = proxy(redis_url)
    # A login that the wire has frozen ends then.
    servers = pair(redis_url, first=way.url, connect_timeout=5.0)

    way.stall()
    way.black_hole()
    until(lambda: not servers[0].ready and servers[1].ready)
    way.resume()
    way.freeze()
    way.come_back()

    until(lambda: servers[0].ready and hear(*servers))


def test_a_wire_that_fell_silent_for_good_is_left(
    pair: MakePair, join: MakeClient, redis_url: str, proxy: MakeProxy, times: Times
) -> None:
    times(*TIMES)
    way = proxy(redis_url)
    servers = pair(redis_url, first=way.url)
    clients = connected(servers, join)

    way.freeze()

    until(lambda: hear(*servers))
    times()
    assert exchange(servers, clients, "after") == ["after"] * 4


def beat_of(url: str, server: Sockets) -> float:
    """When the server last signed the register."""
    with driver.Redis.from_url(url) as redis:
        rows = [json.loads(row) for row in redis.hvals("app:ws:test:workers")]
    return float(next(row["seen_at"] for row in rows if row["port"] == server.port))


def beat_after(url: str, server: Sockets, moment: float) -> bool:
    return beat_of(url, server) > moment


def test_what_an_earlier_subscription_still_hears_does_not_arrive_twice(
    pair: MakePair, join: MakeClient, redis_url: str
) -> None:
    servers = pair(redis_url)
    client = join(servers[0])
    client.connect(deadline=soon())
    member = servers[0].cluster
    assert isinstance(member, ClusterMember)
    earlier = member._subscription
    assert earlier is not None
    late = {"method": "emit", "event": "late", "data": 1, "namespace": "/", "host_id": "another"}

    member._subscribe()
    earlier._on_message(Message("ws:test", None, json.dumps(late).encode(), datetime.now(UTC)))
    until(lambda: hear(*servers))
    servers[1].emit("next", 2)

    assert next(iter(client.events(soon()))).name == "next"


def test_who_cannot_keep_up_says_so_and_loses_nothing(
    pair: MakePair, join: MakeClient, redis_url: str, times: Times
) -> None:
    times("DEAF_AFTER")
    servers = pair(redis_url)
    clients = connected(servers, join)
    held = Event()
    servers[0]._loop.soon(held.wait)

    for number in range(1_500):
        servers[1].emit("n", number)
    until(lambda: not servers[0].ready)
    # It looks after itself before each beat, and must not take lagging for deafness.
    for _ in range(2):
        until(partial(beat_after, redis_url, servers[0], beat_of(redis_url, servers[0])))
    held.set()

    assert [next_event(clients[0], "n").data for _ in range(1_500)] == list(range(1_500))
    until(lambda: servers[0].ready)


def test_whom_redis_cuts_off_for_lagging_hears_again(
    pair: MakePair, join: MakeClient, throwaway: Throwaway, dial: Dial
) -> None:
    redis = throwaway("redis")
    admin = dial(redis.url)
    admin.config_set("client-output-buffer-limit", "pubsub 2mb 1mb 1")
    servers = pair(redis.url)
    clients = connected(servers, join)
    subscribed = {each["id"] for each in admin.client_list(_type="pubsub")}
    held = Event()
    servers[0]._loop.soon(held.wait)

    while {each["id"] for each in admin.client_list(_type="pubsub")} >= subscribed:
        servers[1].emit_to_room("nobody", "bulk", "x" * 100_000)
    held.set()

    until(lambda: hear(*servers))
    heard = Event()

    def emit() -> None:
        # What waited for Redis meanwhile may have it cut off once more.
        while not heard.wait(0.1):
            servers[1].emit("after", 1)

    emitting = start("emit", emit)
    assert next_event(clients[0], "after").data == 1
    heard.set()
    assert emitting.ended(SECONDS)


@pytest.mark.parametrize("asked", [0, 1], ids=["of the deaf one", "of the other"])
def test_the_doctor_names_the_deaf_one(
    asked: int,
    pair: MakePair,
    join: MakeClient,
    redis_url: str,
    times: Times,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times("DEAF_AFTER")
    # It stays deaf until it may try again.
    monkeypatch.setattr(shared, "TRY_EVERY", 3600.0)
    servers = pair(redis_url)
    admin = join(servers[asked], admin=True)
    ports = [server.port for server in servers]
    until(lambda: listening(admin) == (dict.fromkeys(ports, True), 2))
    healthy = ask(admin, "doctor")
    deaf = servers[0].cluster
    assert isinstance(deaf, ClusterMember)

    # What brokers and bugs do to a subscriber: its connection lives, nothing arrives.
    assert deaf._subscription is not None
    deaf._subscription.remove("UNSUBSCRIBE", deaf.channel)

    assert all((each["ack_ms"] is not None) == each["listening"] for each in healthy["workers"])
    until(lambda: listening(admin) == ({ports[0]: False, ports[1]: True}, 1))
    until(lambda: not servers[0].ready)
    monkeypatch.setattr(shared, "TRY_EVERY", 2.0)
    until(lambda: servers[0].ready)
    until(lambda: listening(admin) == (dict.fromkeys(ports, True), 2))


def listening(admin: SocketClient) -> tuple[dict[int, bool], int]:
    """Which servers hear, by their ports, and how many subscribe."""
    told = ask(admin, "doctor")
    return {each["port"]: each["listening"] for each in told.get("workers", ())}, told.get("subscribers", 0)


def test_a_server_that_ended_is_no_worker(pair: MakePair, join: MakeClient, redis_url: str) -> None:
    servers = pair(redis_url)
    servers[0].close()

    admin = join(servers[1], admin=True)
    until(lambda: listening(admin) == ({servers[1].port: True}, 1))


def test_the_end_of_one_is_told_to_its_own_clients(pair: MakePair, join: MakeClient, redis_url: str) -> None:
    servers = pair(redis_url)
    leaving, staying = connected(servers, join)
    servers[0].emit("last words", 1)
    servers[0].close()
    servers[1].emit("own", 2)

    assert next_event(leaving, "server_closing").data == {"reason": "shutdown"}
    heard = staying.events(soon())
    assert {next(heard).name, next(heard).name} == {"last words", "own"}


def test_who_hangs_is_named_for_long_and_who_is_gone_is_not(
    pair: MakePair, join: MakeClient, redis_url: str, dial: Dial
) -> None:
    both = pair(redis_url)
    admin, redis = join(both[0], admin=True), dial(redis_url)
    hanging = replace(this_worker(7), seen_at=redis.time()[0] - 60)
    forgotten = replace(this_worker(8), seen_at=redis.time()[0] - 3600)
    for each in (hanging, forgotten):
        redis.hset("app:ws:test:workers", each.id, json.dumps(asdict(each)))

    assert 7 not in listening(admin)[0]
    with redis.pubsub() as its_subscription:  # type: ignore[no-untyped-call]
        its_subscription.subscribe("app:ws:test")
        its_subscription.get_message(timeout=SECONDS)
        servers = {server.port: True for server in both}
        until(lambda: listening(admin)[0] == {7: False, **servers})
    assert not redis.hexists("app:ws:test:workers", forgotten.id)
    assert redis.hexists("app:ws:test:workers", hanging.id)


def test_no_redis_no_server(serve: MakeServer, closed_port: int) -> None:
    with redis_database(f"redis://127.0.0.1:{closed_port}") as database, pytest.raises(Unavailable):
        serve(redis=database)


def test_a_read_only_redis_is_refused(serve: MakeServer, redis_url: str) -> None:
    with redis_database(redis_url, read_only=True) as database, pytest.raises(Refused):
        serve(redis=database)


def test_what_others_publish_does_not_harm(
    pair: MakePair, join: MakeClient, redis_url: str, dial: Dial
) -> None:
    servers = pair(redis_url)
    clients = connected(servers, join)
    admin = dial(redis_url)

    for junk in (b"\xff", b"no json", b"[1]", b"{}", b'{"method": "emit"}', b'{"method": "katax"}'):
        admin.publish("app:ws:test", junk)

    assert exchange(servers, clients, "x") == ["x"] * 4
