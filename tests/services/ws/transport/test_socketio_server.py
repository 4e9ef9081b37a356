"""What is sent arrives once and in order, whether it goes past a client's queue or waits in it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from websockets.sync.client import ClientConnection, connect

from katax_cli.services.ws.server import Sockets
from katax_cli.services.ws.transport.queues import Outbox
from katax_cli.services.ws.transport.socketio_server import Encoded
from tests.services.ws.conftest import MakeServer
from tests.waiting import SECONDS

Slow = Callable[[Sockets], ClientConnection]


@pytest.fixture
def slow() -> Iterator[Slow]:
    """A client for which the system holds little, and which reads when it is told to."""
    with ExitStack() as sockets:

        def make(server: Sockets) -> ClientConnection:
            narrow = socket.socket()
            narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            narrow.connect(("127.0.0.1", server.port))
            url = f"ws://127.0.0.1:{server.port}/socket.io/?EIO=4&transport=websocket"
            opening = connect(
                url,
                sock=narrow,
                max_queue=1,
                proxy=None,
                compression=None,
                open_timeout=SECONDS,
                ping_interval=None,
                close_timeout=0.1,
            )
            made = sockets.enter_context(opening)
            made.recv(timeout=SECONDS)
            made.send("40")
            made.recv(timeout=SECONDS)
            return made

        yield make


def test_no_id_of_a_client_is_an_option_of_a_command(serve: MakeServer) -> None:
    """Of those that Engine.IO draws, one in 64 begins with a dash."""
    engine = serve().io.eio
    ids = {engine.generate_id() for _ in range(2000)}

    assert len(ids) == 2000
    assert not any(id.startswith("-") for id in ids)


def outbox(server: Sockets) -> Outbox:
    """That of its only client."""
    (one,) = server.io.eio.sockets.values()
    assert isinstance(one.queue, Outbox)
    return one.queue


@pytest.mark.parametrize("data", ["text", b"bytes"], ids=["text", "binary"])
def test_order_holds_when_a_client_falls_behind_and_catches_up(
    data: str | bytes, serve: MakeServer, slow: Slow
) -> None:
    server = serve()
    client = slow(server)
    sent = 0
    for _ in range(2):
        # At first past the queue, then into it.
        begun = sent
        while outbox(server).qsize() < 20:
            server.emit("n", [sent, data * 20_000])
            sent += 1
        assert sent - begun > 20

        for number in range(begun, sent):
            head = str(client.recv(timeout=SECONDS))
            if isinstance(data, bytes):
                assert head.startswith(f'451-["n",[{number},')
                assert client.recv(timeout=SECONDS) == data * 20_000
            else:
                assert head.startswith(f'42["n",[{number},')


def test_an_answer_does_not_overtake_what_was_sent_before(serve: MakeServer, slow: Slow) -> None:
    server = serve()

    def answer(_: object) -> str:
        server.emit("before")
        return "answer"

    server.on("ask", answer)
    client = slow(server)
    filled = 0
    while outbox(server).qsize() < 20:
        server.emit("bulk", "x" * 100_000)
        filled += 1

    client.send('420["ask"]')

    heard = [str(client.recv(timeout=SECONDS))[:12] for _ in range(filled + 2)]
    assert heard == ['42["bulk","x'] * filled + ['42["before"]', '430["answer"']


def test_a_packet_that_is_about_to_be_written_is_not_overtaken(serve: MakeServer, slow: Slow) -> None:
    server = serve()
    client = slow(server)
    (sid,) = server.io.eio.sockets

    def send_both() -> None:
        outbox(server).put_nowait(Encoded('2["first"]'))
        server.io.send_now(sid, [Encoded('2["second"]')])

    for _ in range(5):
        server._loop.soon(send_both)

    assert [client.recv(timeout=SECONDS) for _ in range(10)] == ['42["first"]', '42["second"]'] * 5
