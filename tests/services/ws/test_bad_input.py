"""What clients do wrong costs them their connection, and nobody else anything."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any
from urllib.error import HTTPError

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from katax_cli.services.calls.left_behind import start
from katax_cli.services.ws import listener as listening
from katax_cli.services.ws import server as server_module
from katax_cli.services.ws.server import Sockets
from tests.services.ws.conftest import SECONDS, MakeClient, MakeServer, next_event, soon
from tests.waiting import until

HANDSHAKE = "/socket.io/?EIO=4&transport="


class Raw:
    """A WebSocket that says what it is told, whatever it is."""

    def __init__(self, socket: ClientConnection, *, joined: bool) -> None:
        self.socket = socket
        self.hello = json.loads(str(socket.recv(timeout=20))[1:])
        if joined:
            socket.send("40")
            assert str(socket.recv(timeout=20)).startswith("40")

    @property
    def is_closed(self) -> bool:
        try:
            while True:
                self.socket.recv(timeout=0.05)
        except ConnectionClosed:
            return True
        except TimeoutError:
            return False


@pytest.fixture
def raw() -> Iterator[Any]:
    with ExitStack() as sockets:

        def make(server: Sockets, *, joined: bool = True, **options: Any) -> Raw:
            url = server.url.replace("http", "ws") + HANDSHAKE + "websocket"
            opened = sockets.enter_context(
                connect(url, proxy=None, compression=None, close_timeout=0.1, **options)
            )
            return Raw(opened, joined=joined)

        yield make


@pytest.mark.parametrize(
    "text",
    [
        "4",
        "49",
        "4xyz",
        "42",
        '42"x"',
        "42[",
        "42[]",
        "42[7]",
        '42["x",NaN]',
        '42{"a":1}',
        "4" * 50,
        b"\xff",
    ],
)
def test_what_is_no_packet_ends_its_connection_only(
    text: str | bytes, serve: MakeServer, join: MakeClient, raw: Any
) -> None:
    server = serve()
    server.on("echo", lambda data: data)
    good, bad = join(server), raw(server)
    good.connect(deadline=soon())

    bad.socket.send(text)

    assert good.call("echo", 1, deadline=soon()) == 1
    until(lambda: bad.is_closed)
    until(lambda: server.clients_count() == 1)


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

    assert server.clients_count() == 1
    assert server.io.dropped == 1
    assert "it does not read what it is sent" in caplog.text
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

    assert str(bad.socket.recv(timeout=20)).startswith("44/nowhere,")


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
