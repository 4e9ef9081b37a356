"""A server and its clients: events, acknowledgements, rooms, tokens, and the end."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from katax_cli.errors import ConfigError, Refused, TokenRefused, Unavailable
from katax_cli.profiles.model.model import WsSettings
from katax_cli.services.ws.clients import Client
from katax_cli.services.ws.server import Sockets
from tests.services.ws.conftest import MakeClient, MakeServer, next_event, soon
from tests.waiting import SECONDS, until


def test_what_a_handler_returns_is_the_acknowledgement(serve: MakeServer, join: MakeClient) -> None:
    server = serve()
    server.on("add", lambda data: data["a"] + data["b"])

    assert join(server).call("add", {"a": 1, "b": 2}, deadline=soon()) == 3


def test_an_event_reaches_every_client(serve: MakeServer, join: MakeClient) -> None:
    server = serve()
    clients = [join(server) for _ in range(3)]
    for client in clients:
        client.connect(deadline=soon())

    server.emit("news", {"x": [1.5, None, "ä", datetime(2026, 1, 2, tzinfo=UTC), Decimal("1.10")]})

    sent = {"x": [1.5, None, "ä", "2026-01-02T00:00:00.000Z", "1.10"]}
    assert [next_event(client, "news").data for client in clients] == [sent] * 3


def test_a_room_gets_what_is_for_it_and_nobody_else_does(serve: MakeServer, join: MakeClient) -> None:
    server = serve()
    inside, outside = join(server), join(server)
    assert inside.join("r", deadline=soon()) == {"ok": True, "room": "r"}
    outside.connect(deadline=soon())

    server.emit_to_room("r", "news", 1)
    server.emit("news", 2)

    assert next_event(inside, "news").data == 1
    assert next_event(outside, "news").data == 2
    assert (server.room_clients_count("r"), server.clients_count()) == (1, 2)
    assert (server.has_room_listeners("r"), server.has_room_listeners("other")) == (True, False)


def test_who_leaves_a_room_hears_it_no_more(serve: MakeServer, join: MakeClient) -> None:
    server = serve()
    client = join(server)
    client.join("r", deadline=soon())

    assert client.call("leave", {"room": "r"}, deadline=soon()) == {"ok": True, "room": "r"}
    server.emit_to_room("r", "news", 1)
    server.emit("news", 2)

    assert next_event(client, "news").data == 2


def test_the_policy_decides_who_joins(serve: MakeServer, join: MakeClient) -> None:
    server = serve(may_join=lambda client, room: room.startswith("open"))
    client = join(server)

    assert client.join("open-1", deadline=soon())["ok"] is True
    assert client.join("closed", deadline=soon()) == {"ok": False, "error": "this room is not open to you"}
    assert server.room_clients_count("closed") == 0


@pytest.mark.parametrize("room", ["", "x" * 201, 7, None, {"room": ["a"]}])
def test_a_room_has_a_name(room: object, serve: MakeServer, join: MakeClient) -> None:
    answer = join(serve()).call("join", {"room": room}, deadline=soon())

    assert answer == {"ok": False, "error": "a room is a name of 1 to 200 characters"}


def test_nobody_reads_what_is_for_another_client(serve: MakeServer, join: MakeClient) -> None:
    server = serve()
    join(server).connect(deadline=soon())
    (victim,) = list(server.clients)

    assert join(server).join(victim, deadline=soon())["ok"] is False
    assert server.room_clients_count(victim) == 1


def test_a_greeter_gets_the_client_before_its_first_event(serve: MakeServer, join: MakeClient) -> None:
    server = serve()

    def greet(client: Client) -> None:
        time.sleep(0.1)
        client.join("greeted")
        client.on("who", lambda _: [client.id, client.rooms])
        client.emit("welcome", client.id)

    server.on_connection(greet)
    client = join(server)

    sid, rooms = client.call("who", deadline=soon())
    assert (next_event(client, "welcome").data, rooms) == (sid, ["greeted"])


def test_events_of_one_client_keep_their_order(serve: MakeServer, join: MakeClient) -> None:
    server = serve()
    seen: list[int] = []

    def note(number: int) -> None:
        time.sleep(0.002 if number % 2 else 0)
        seen.append(number)

    server.on("n", note)
    client = join(server)
    for number in range(100):
        client.emit("n", number, deadline=soon())

    until(lambda: len(seen) == 100)
    assert seen == list(range(100))


def test_a_handler_may_call_the_server_and_block(serve: MakeServer, join: MakeClient) -> None:
    server = serve()
    held = threading.Event()
    server.on("wait", lambda _: held.wait(SECONDS))
    server.on("echo", lambda data: server.emit("echoed", data))
    slow, quick = join(server), join(server)
    slow.emit("wait", deadline=soon())

    # Another client's lane may be the one that waits; one of a few is not.
    others = [quick, *(join(server) for _ in range(5))]
    for number, client in enumerate(others):
        client.emit("echo", number, deadline=soon())
    assert next_event(slow, "echoed").data in range(6)
    held.set()


def test_a_handler_that_fails_says_so_and_nothing_more(
    serve: MakeServer, join: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve()

    def fail(_: object) -> None:
        raise LookupError("inner secret")

    server.on("bad", fail)
    client = join(server)

    assert client.call("bad", deadline=soon()) == {"error": "the handler failed"}
    assert "the handler of event 'bad' failed" in caplog.text
    server.on("good", lambda _: 1)
    assert client.call("good", deadline=soon()) == 1


def test_the_loop_cannot_wait_for_itself(serve: MakeServer) -> None:
    server = serve()
    raised: list[BaseException] = []

    def call() -> None:
        try:
            server.emit("x")
        except BaseException as error:  # noqa: BLE001 - it is what is looked at
            raised.append(error)

    server._loop.soon(call)
    until(lambda: raised)
    assert "the event loop cannot wait for itself" in str(raised[0])


def test_coroutine_functions_are_no_handlers(serve: MakeServer) -> None:
    async def handler(_: object) -> None: ...

    with pytest.raises(TypeError, match="plain function"):
        serve().on("x", handler)


@pytest.mark.parametrize("token", [None, "wrong", "hush-hus", "hush-hush2"])
def test_a_wrong_token_is_refused(token: str | None, serve: MakeServer, join: MakeClient) -> None:
    server = serve(auth_token="hush-hush")

    with pytest.raises(TokenRefused) as refused:
        join(server, token=token).connect(deadline=soon())

    assert str(refused.value).endswith(
        "refused the connection: wrong or missing token; send it as auth.token"
    )
    assert (server.clients_count(), server.counters.refused) == (0, 1)
    assert "hush" not in str(refused.value)


def test_the_right_token_is_not(serve: MakeServer, join: MakeClient) -> None:
    server = serve(auth_token="hush-hush")
    join(server, token="hush-hush").connect(deadline=soon())

    assert server.clients_count() == 1
    assert "hush" not in repr(server) + repr(server.settings) + repr(list(server.clients.values()))


def test_beyond_loopback_a_token_is_needed(tmp_path: Path) -> None:
    settings = WsSettings("open", port=0, host="0.0.0.0")

    with pytest.raises(Refused) as refused:
        Sockets(settings, home=str(tmp_path))

    assert "set auth_token, or repeat with --insecure" in str(refused.value)
    Sockets(settings, home=str(tmp_path), insecure=True).close()


def test_a_port_in_use_is_said(serve: MakeServer) -> None:
    port = serve().port

    with pytest.raises(ConfigError) as refused:
        serve("second", port=port)

    assert str(refused.value) == (
        f"ws 'second' cannot listen on 127.0.0.1:{port}: Address already in use; "
        "choose another with --port, or end what listens there"
    )


def test_a_wrong_path_is_said_by_both_sides(serve: MakeServer, join: MakeClient) -> None:
    server = serve(path="/live-data/")
    join(server).connect(deadline=soon())

    with pytest.raises(ConfigError) as refused:
        join(server.url).connect(deadline=soon())
    with pytest.raises(HTTPError) as seen:
        urllib.request.urlopen(f"{server.url}/socket.io/")

    assert str(refused.value).endswith("at /socket.io: no Socket.IO there; name its path")
    with seen.value as answer:
        assert (answer.code, answer.read()) == (404, b"no Socket.IO here; its path is /live-data/\n")


def test_metrics_count_and_name_no_room(serve: MakeServer, join: MakeClient) -> None:
    server = serve()
    server.on("e", lambda _: 1)
    client = join(server)
    client.join("private-room", deadline=soon())
    client.call("e", deadline=soon())
    server.emit("x")

    with urllib.request.urlopen(f"{server.url}/metrics") as answer:
        text = answer.read().decode()
        assert answer.headers["content-type"].startswith("application/openmetrics-text")

    assert 'katax_ws_clients{server="test"} 1\n' in text
    assert 'katax_ws_received_total{server="test"} 2\n' in text
    assert 'katax_ws_emitted_total{server="test"} 1\n' in text
    assert text.endswith("# EOF\n")
    assert "private-room" not in text


def test_closing_tells_the_clients_and_lets_handlers_finish(serve: MakeServer, join: MakeClient) -> None:
    server = serve()
    entered, finished = threading.Event(), threading.Event()

    def work(_: object) -> None:
        entered.set()
        time.sleep(0.3)
        finished.set()

    server.on("work", work)
    client = join(server)
    client.emit("work", deadline=soon())
    assert entered.wait(SECONDS)

    assert server.close() == 0

    assert finished.is_set()
    assert next_event(client, "server_closing").data == {"reason": "shutdown"}
    with pytest.raises(Unavailable):
        join(server).connect(deadline=soon())
    with pytest.raises(Unavailable):
        server.emit("x")


def test_data_that_json_cannot_hold_is_refused(serve: MakeServer, join: MakeClient) -> None:
    server = serve()
    join(server).connect(deadline=soon())

    for data in ({1, 2}, float("nan"), object()):
        with pytest.raises(ValueError):
            server.emit("x", data)


def test_handlers_and_the_policy_know_who_a_client_is(serve: MakeServer, raw: Any) -> None:
    seen: list[Client] = []

    def may_join(client: Client, room: str) -> bool:
        seen.append(client)
        return room == f"of-{client.user}"

    server = serve(auth_token="right", may_join=may_join)

    @server.on_connection
    def greet(client: Client) -> None:
        client.user = {"j-1": "ada"}.get(client.auth["jwt"])

    server.on("who", lambda data, client: [data, client.user, client.auth, client.address])
    client = raw(server, joined=False, additional_headers={"X-Team": "Red"})
    client.socket.send('40{"token":"right","jwt":"j-1"}')
    client.socket.recv(timeout=SECONDS)

    def call(number: int, *event: object) -> Any:
        client.socket.send(f"42{number}{json.dumps(event)}")
        return json.loads(str(client.socket.recv(timeout=SECONDS))[3:])[0]

    assert call(1, "who", 7) == [7, "ada", {"jwt": "j-1"}, "127.0.0.1"]
    assert call(2, "join", "of-ada") == {"ok": True, "room": "of-ada"}
    assert call(3, "join", "of-bob")["ok"] is False
    assert [one.headers["x-team"] for one in seen] == ["Red", "Red"]


def test_the_room_of_a_client_is_closed_to_others_wherever_it_is(serve: MakeServer, join: MakeClient) -> None:
    here, there = serve("here"), serve("there")
    client, elsewhere = join(here), join(there)
    client.connect(deadline=soon())
    elsewhere.connect(deadline=soon())
    (own,), (foreign,) = here.clients, there.clients

    refused = {"ok": False, "error": "this room is not open to you"}
    for room in (own, foreign):
        assert client.call("join", {"room": room}, deadline=soon()) == refused
        assert client.call("leave", room, deadline=soon()) == refused
    assert here.rooms_of(own) == []
