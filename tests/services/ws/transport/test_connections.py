"""What clients do wrong costs them their connection, and nobody else anything."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.request
from contextlib import suppress
from functools import partial
from threading import Event
from typing import Any
from urllib.error import HTTPError

import pytest
from websockets.exceptions import ConnectionClosed

from katax_cli.errors import Unavailable
from katax_cli.services.calls.left_behind import start
from katax_cli.services.ws import guesses
from katax_cli.services.ws import listener as listening
from katax_cli.services.ws import server as server_module
from katax_cli.services.ws.server import Sockets
from katax_cli.services.ws.transport import connections, queues
from tests.services.ws.conftest import HANDSHAKE, MakeClient, MakeServer, ask, next_event, soon
from tests.waiting import SECONDS, until


def frame(opcode: int, data: bytes, *, fin: bool = True) -> bytes:
    """A frame of a WebSocket's client."""
    return bytes([0x80 * fin | opcode, 0x80 | len(data)]) + b"\0\0\0\0" + data


NO_PACKETS: list[list[str | bytes]] = [
    # types
    ["4"],
    ["49"],
    ["4xyz"],
    ["4" * 50],
    [b"\xff"],
    ['44{"message":"x"}'],
    # data
    ["42"],
    ['42"x"'],
    ["42["],
    ["42[]"],
    ["42[7]"],
    ['42{"a":1}'],
    ['42["x",NaN]'],
    ['42["x",1e999]'],
    ['42["x",' + "9" * 5_000 + "]"],
    ['42["x",' + "[" * 101 + "]" * 101 + "]"],
    ['42["x",' + "[" * 400_000 + "]"],
    ["42" + "7" * 200 + '["x"]'],
    # events of Socket.IO itself
    ['42["connect",{},{}]'],
    ['42["disconnect","x"]'],
    ['42["connect_error"]'],
    ['42["newListener"]'],
    ['42["removeListener"]'],
    ['42["*","x"]'],
    # attachments
    ['423-["x"]'],
    ['450-["x"]'],
    ['45999999999-["x",{"_placeholder":true,"num":0}]'],
    ['4545999999999-["x"]'],
    ['451001-["x"]'],
    ['451-["x",{"_placeholder":true,"num":0}]', '42["x"]'],
    ['451-["x",{"_placeholder":true,"num":1}]', b"1"],
    ['451-["x",{"_placeholder":true,"num":-1}]', b"1"],
    ['451-["x",{"_placeholder":true,"num":"0"}]', b"1"],
    ['451-["x",{"_placeholder":true,"num":[]}]', b"1"],
    ['451-["x"]', b"1"],
    ['451-["x",' + '{"_placeholder":true,"num":0},' * 9 + "0]", b"1"],
    ['453-["x"]', b"1" * 600_000, b"1" * 600_000],
    ['461-["x"]', b"1"],
]


def test_what_is_no_packet_ends_its_connection_only(serve: MakeServer, join: MakeClient, raw: Any) -> None:
    server = serve()
    server.on("echo", lambda data: data)
    good = join(server)
    good.connect(deadline=soon())

    for messages in NO_PACKETS:
        bad = raw(server)
        with suppress(ConnectionClosed):  # it may be closed before all is sent
            for message in messages:
                bad.socket.send(message)
        until(partial(getattr, bad, "is_closed"))

        assert good.call("echo", 1, deadline=soon()) == 1
    until(lambda: server.clients_count() == 1)
    assert server.io._binary_packet == {}


def test_attachments_are_one_message_together(serve: MakeServer, join: MakeClient) -> None:
    server = serve()
    server.on("sizes", lambda data: [len(part) for part in data])
    client = join(server)

    assert client.call("sizes", [b"1" * 400_000, b"", b"2" * 400_000], deadline=soon()) == [
        400_000,
        0,
        400_000,
    ]
    with pytest.raises(Unavailable, match="lost"):
        client.call("sizes", [b"1" * 400_000] * 3, deadline=soon())
    until(lambda: server.clients_count() == 0)


def test_a_packet_that_waits_for_attachments_is_freed_with_its_client(serve: MakeServer, raw: Any) -> None:
    server = serve()
    bad = raw(server)
    bad.socket.send('453-["x"]')
    bad.socket.send(b"1" * 300_000)
    until(lambda: len(server.io._binary_packet) == 1)
    (client,) = server.clients.values()

    client.disconnect()
    bad.socket.close()

    until(lambda: server.io._binary_packet == {})


def test_half_a_surrogate_pair_reaches_others_and_costs_nobody_the_connection(
    serve: MakeServer, join: MakeClient, raw: Any
) -> None:
    server = serve()
    server.on("say", lambda data: server.emit("said", data))
    good, other = join(server), raw(server)
    good.connect(deadline=soon())

    other.socket.send('42["say","cut \\ud83d"]')

    assert next_event(good, "said").data == "cut \ud83d"
    assert server.clients_count() == 2


def test_no_event_of_socketio_itself_is_sent(serve: MakeServer, join: MakeClient) -> None:
    """The clients of JavaScript end their connection when they get one."""
    server = serve()
    admin, client = join(server, admin=True), join(server)
    client.connect(deadline=soon())

    with pytest.raises(ValueError, match="'connect' is an event of Socket"):
        server.emit("connect", 1)
    answer = ask(admin, "emit", {"event": "disconnect"})

    assert answer == {"error": "'disconnect' is an event of Socket.IO itself; choose another name"}
    assert server.clients_count() == 1


def test_a_huge_message_ends_its_connection_only(serve: MakeServer, join: MakeClient, raw: Any) -> None:
    server = serve()
    server.on("size", lambda data: len(data))
    good, bad = join(server), raw(server)

    assert good.call("size", "x" * 900_000, deadline=soon()) == 900_000
    with suppress(ConnectionClosed):  # it may be closed before all is sent
        bad.socket.send('42["size","' + "x" * 2_000_000 + '"]')

    until(lambda: bad.is_closed)
    assert good.call("size", "xy", deadline=soon()) == 2


def post(server: Sockets, sid: str, body: bytes) -> int:
    try:
        with urllib.request.urlopen(f"{server.url}{HANDSHAKE}polling&sid={sid}", data=body) as answer:
            return int(answer.status)
    except HTTPError as error:
        with error:
            return error.code


def polling(server: Sockets) -> str:
    """The id of a client that polls."""
    with urllib.request.urlopen(f"{server.url}{HANDSHAKE}polling") as answer:
        return str(json.loads(answer.read()[1:])["sid"])


def test_a_huge_post_is_refused_and_ends_its_session(serve: MakeServer) -> None:
    server = serve()
    sid = polling(server)

    assert [post(server, sid, b"4" * 1_500_000), post(server, sid, b"40"), post(server, "x", b"40")] == [
        400
    ] * 3
    assert post(server, polling(server), b"40") == 200


def test_nobody_waits_long_for_who_does_not_poll_any_more(serve: MakeServer) -> None:
    server = serve()
    assert post(server, polling(server), b"40") == 200
    until(lambda: server.clients_count() == 1)

    closing = start("close", lambda: server.close(600.0))

    assert closing.ended(SECONDS)
    assert closing.outcome == 1


def test_a_request_for_a_client_that_left_holds_nobody_up(serve: MakeServer) -> None:
    server = serve()
    sid = polling(server)
    with socket.create_connection(("127.0.0.1", server.port)) as waiting:
        waiting.sendall(f"GET {HANDSHAKE}polling&sid={sid} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        until(lambda: server.io.eio.sockets[sid].queue._getters)

        assert post(server, sid, b"1") == 200
        closing = start("close", lambda: server.close(600.0))

        assert closing.ended(SECONDS)
        assert closing.outcome == 0


@pytest.mark.parametrize("body", [b"junk\xff", b"9", b"4" + b"\x1e4" * 50], ids=["bytes", "type", "many"])
def test_a_bad_post_is_one_line_in_the_log(
    body: bytes, serve: MakeServer, join: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve()
    server.on("echo", lambda data: data)

    post(server, polling(server), body)

    assert join(server).call("echo", 1, deadline=soon()) == 1
    assert "Traceback" not in caplog.text
    assert server.clients_count() == 1


def test_who_does_not_read_is_cut_off_and_nobody_waits(
    serve: MakeServer, join: MakeClient, raw: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve()
    good, slow = join(server), raw(server, max_queue=1)
    good.connect(deadline=soon())
    data = "x" * 500_000

    for number in range(80):
        server.emit("bulk", [number, data])
        assert next_event(good, "bulk").data[0] == number

    until(lambda: server.clients_count() == 1)
    assert server.io.dropped == 1
    assert "it does not read its messages" in caplog.text
    until(lambda: slow.is_closed)


def test_who_says_nothing_is_cut_off(
    serve: MakeServer, join: MakeClient, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "SWEEP_EVERY", 0.05)
    server = serve()
    good, silent = join(server), raw(server, joined=False)
    good.connect(deadline=soon())
    monkeypatch.setattr(server_module, "SILENT_SECONDS", 0.1)

    until(lambda: silent.is_closed)
    assert server.clients_count() == 1


def test_an_unknown_namespace_is_refused(serve: MakeServer, raw: Any) -> None:
    bad = raw(serve())
    bad.socket.send("40/nowhere,")

    assert str(bad.socket.recv(timeout=SECONDS)).startswith("44/nowhere,")


def test_browsers_of_other_origins_are_refused(serve: MakeServer) -> None:
    closed, opened = serve("closed"), serve("opened", cors=("https://app.example",))

    def status(server: Sockets, origin: str) -> tuple[int, str | None]:
        request = urllib.request.Request(server.url + HANDSHAKE + "polling", headers={"Origin": origin})
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.headers["access-control-allow-origin"]
        except HTTPError as error:
            with error:
                return error.code, None

    assert status(closed, "https://evil.example") == (400, None)
    assert status(closed, closed.url) == (200, closed.url)
    assert status(opened, "https://evil.example") == (400, None)
    assert status(opened, "https://app.example") == (200, "https://app.example")


def test_who_leaves_while_its_token_waits_leaves_nothing_behind(
    serve: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, goes_on = serve(auth_token="right"), Event()

    async def held(_seconds: float) -> None:
        while not goes_on.is_set():
            await asyncio.sleep(0.01)

    monkeypatch.setattr(server.guesses, "_sleep", held)
    wrong = start("wrong", lambda: post(server, polling(server), b'40{"token":"wrong"}'))
    until(lambda: [one.wrong for one in server.guesses._addresses.values()] == [1])
    for place in range(guesses.AT_ONCE - 1):
        start(f"wrong {place}", lambda: post(server, polling(server), b'40{"token":"wrong"}'))
    until(lambda: [one.waiting for one in server.guesses._addresses.values()] == [guesses.AT_ONCE])
    sid = polling(server)
    right = start("right", lambda: post(server, sid, b'40{"token":"right"}'))
    until(lambda: [one.waiting for one in server.guesses._addresses.values()] == [guesses.AT_ONCE + 1])

    assert post(server, sid, b"1") == 200
    goes_on.set()

    assert wrong.ended(SECONDS)
    assert right.ended(SECONDS)
    until(lambda: server.io.manager.rooms.get("/", {}).get(None, {}) == {})
    assert server.clients == {}


def test_neither_a_blocked_handler_nor_a_client_that_does_not_read_keeps_it_from_ending(
    serve: MakeServer, raw: Any
) -> None:
    server = serve()
    blocks, goes_on = Event(), Event()

    @partial(server.on, "block")
    def block(_data: object) -> None:
        blocks.set()
        goes_on.wait(SECONDS)

    server.on_connection(lambda client: client.on("disconnect", lambda _reason: None))
    assert post(server, polling(server), b'40\x1e42["block"]') == 200
    assert blocks.wait(SECONDS)
    raw(server, max_queue=1)
    until(lambda: server.clients_count() == 2)
    while not any(one.queue.bytes for one in server.io.eio.sockets.values()):
        server.emit("bulk", "x" * 900_000)

    closing = start("close", lambda: server.close(2.0))

    assert closing.ended(SECONDS)
    assert closing.outcome >= 1
    goes_on.set()


def test_a_client_whose_events_wait_for_their_handlers_is_not_read_until_some_are_handled(
    serve: MakeServer, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "MAX_HANDLING", 20)
    server = serve()
    goes_on = Event()
    numbers: list[int] = []

    @partial(server.on, "count")
    def count(number: int) -> None:
        goes_on.wait(SECONDS)
        numbers.append(number)

    bad = raw(server)
    for number in range(500):
        bad.socket.send(f'42["count",{number}]')
    (inbox,) = server.io._inboxes.values()
    until(lambda: inbox.is_full)
    bad.socket.send("1" * 10)

    assert server.io.is_open(next(iter(server.io.eio.sockets)))
    assert inbox.events == 20
    goes_on.set()
    until(lambda: numbers == list(range(500)))
    until(lambda: inbox.events == inbox.bytes == 0)


def test_events_that_wait_are_counted_with_their_attachments(
    serve: MakeServer, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "MAX_HANDLING_BYTES", 1_000_000)
    server = serve()
    goes_on = Event()
    server.on("wait", lambda _data: goes_on.wait(SECONDS))
    bad = raw(server)

    for _ in range(3):
        bad.socket.send('451-["wait",{"_placeholder":true,"num":0}]')
        bad.socket.send(b"1" * 600_000)
    (inbox,) = server.io._inboxes.values()

    until(lambda: inbox.bytes == 2 * (600_000 + 41))
    goes_on.set()
    until(lambda: inbox.events == inbox.bytes == 0)


def test_an_answer_that_json_cannot_hold_is_answered_with_an_error(
    serve: MakeServer, join: MakeClient
) -> None:
    server = serve()
    server.on("bad", lambda data: {1, 2} if data == 1 else float("nan"))
    client = join(server)

    assert client.call("bad", 1, deadline=soon()) == {"error": "the handler failed"}
    assert client.call("bad", 2, deadline=soon()) == {"error": "the handler failed"}


@pytest.mark.parametrize(
    ("first", "again"),
    [(b"", frame(9, b"x" * 125)), (frame(1, b"4", fin=False), frame(0, b"", fin=False))],
    ids=["pings whose answers are not read", "a message in ever more fragments"],
)
def test_what_makes_the_protocol_below_keep_ever_more_ends_its_connection(
    first: bytes, again: bytes, serve: MakeServer
) -> None:
    server = serve()
    with socket.socket() as bad:
        bad.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        bad.settimeout(SECONDS)
        bad.connect(("127.0.0.1", server.port))
        bad.sendall(
            f"GET {HANDSHAKE}websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: MDAwMDAwMDAwMDAwMDAwMA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        until(lambda: len(server.io.eio.sockets) == 1)

        bad.sendall(first)
        with pytest.raises(ConnectionError):
            bad.sendall(again * 1_000_000)
    until(lambda: not server.io.eio.scopes)


def test_a_connection_that_asks_for_nothing_ends(serve: MakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve()
    address = ("127.0.0.1", server.port)
    request = b"GET /live HTTP/1.1\r\nHost: x\r\n"
    for words in ([], [request], [request + b"\r\n", request]):
        # A request that is answered has the time that this takes.
        monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.1 if len(words) < 2 else 600.0)
        with socket.create_connection(address, timeout=SECONDS) as silent:
            for word in words:
                silent.sendall(word)
                if word.endswith(b"\r\n\r\n"):
                    assert silent.recv(1000).startswith(b"HTTP/1.1 200")
                    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.1)
            with suppress(ConnectionError):
                while silent.recv(1000):
                    pass


def test_a_request_that_arrived_before_the_end_is_answered(serve: MakeServer) -> None:
    """The kernel has it, and uvicorn did not read it yet, when the server closes what is idle."""
    server = serve()
    blocked, sent = Event(), Event()

    async def close_idle() -> None:
        blocked.set()
        sent.wait(SECONDS)
        for connection in list(server._listener._uvicorn.server_state.connections):
            connection.shutdown()

    with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as client:
        request = b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n"
        answers = client.makefile("rb")
        client.sendall(request)
        while answers.readline() != b"live\n":
            pass
        server._loop.start(close_idle())
        blocked.wait(SECONDS)
        client.sendall(request)
        sent.set()
        assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
        assert answers.read().endswith(b"live\n")


def test_more_clients_and_connections_than_there_is_room_for_are_refused(
    serve: MakeServer, join: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "MAX_SESSIONS", 2)
    server = serve()
    good = join(server)
    good.connect(deadline=soon())
    polling(server)

    with pytest.raises(HTTPError, match="503"):
        polling(server)
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 1)
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as more,
        suppress(ConnectionError),
    ):
        assert more.recv(1) == b""
    assert good.call("join", "r", deadline=soon())["ok"]
