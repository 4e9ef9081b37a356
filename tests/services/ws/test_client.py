"""The client comes back by itself, says who it is, and goes where it was."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from katax_cli.core.resilience.deadline import Deadline
from katax_cli.errors import DeadlineExceeded, TokenRefused, Unavailable
from katax_cli.integrations.pytest.fault_proxy import NO_LINGER
from katax_cli.services.ws.client import Event, SocketClient, Where
from katax_cli.services.ws.server import Sockets
from tests.fake_clock import FakeClock
from tests.servers import free_port
from tests.servers.fixtures import MakeProxy
from tests.services.ws.conftest import MakeClient, MakeServer, next_event, soon
from tests.waiting import SECONDS, until


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[None]:
    """Does the work in a thread while the block waits for what comes of it."""
    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join(SECONDS)
    assert not thread.is_alive()


def emit_when_back(server: Sockets, *, but: set[str]) -> None:
    """An event to the room `r`, once a client that was not there before is in it."""
    until(lambda: set(server.clients) - but and server.room_clients_count("r") == 1)
    server.emit_to_room("r", "news", "after")


def test_it_joins_its_rooms_again_when_the_wire_was_cut(
    serve: MakeServer, join: MakeClient, proxy: MakeProxy
) -> None:
    server = serve(auth_token="hush")
    way = proxy(("127.0.0.1", server.port))
    away: list[float] = []
    client = join(f"http://127.0.0.1:{way.port}", token="hush", on_gap=away.append)
    assert client.join("r", deadline=soon())["ok"]
    before = set(server.clients)

    way.cut()
    with meanwhile(lambda: emit_when_back(server, but=before)):
        assert next_event(client, "news").data == "after"

    assert (client.gaps, len(away), server.counters.refused) == (1, 1, 0)
    assert 0 <= away[0] < SECONDS


def test_it_joins_its_rooms_again_when_the_server_restarted(serve: MakeServer, join: MakeClient) -> None:
    first = serve(auth_token="hush", port=free_port())
    client = join(first, token="hush")
    client.join("r", deadline=soon())

    first.close()
    again = serve(auth_token="hush", port=first.port)
    with meanwhile(lambda: emit_when_back(again, but=set())):
        assert next_event(client, "news").data == "after"

    assert client.gaps == 1


def test_a_room_that_it_could_not_join_is_not_joined_again(
    serve: MakeServer, join: MakeClient, proxy: MakeProxy
) -> None:
    asked: list[str] = []

    def may_join(_client: object, room: str) -> bool:
        asked.append(room)
        return room == "open"

    server = serve(may_join=may_join)
    way = proxy(("127.0.0.1", server.port))
    client = join(f"http://127.0.0.1:{way.port}")
    assert [client.join(room, deadline=soon())["ok"] for room in ("open", "closed")] == [True, False]
    before = set(server.clients)

    def emit_when_open() -> None:
        until(lambda: set(server.clients) - before and server.room_clients_count("open") == 1)
        server.emit("news", 1)

    way.cut()
    with meanwhile(emit_when_open):
        next_event(client, "news")

    assert asked == ["open", "closed", "open"]


def test_a_token_that_is_refused_now_ends_it(serve: MakeServer, join: MakeClient) -> None:
    first = serve(auth_token="hush", port=free_port())
    client = join(first, token="hush")
    client.connect(deadline=soon())

    first.close()
    serve(auth_token="other", port=first.port)

    with pytest.raises(TokenRefused):
        next_event(client, "news")


class Patient(FakeClock):
    """Lets the server come back after so many pauses."""

    def __init__(self, pauses: int, come_back: Callable[[], object], dice: float) -> None:
        super().__init__(dice=lambda: dice)
        self._pauses, self._come_back = pauses, come_back

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if len(self.sleeps) == self._pauses:
            self._come_back()


@pytest.mark.parametrize("dice", [0.0, 0.5, 1.0])
def test_pauses_grow_with_full_jitter(
    dice: float, serve: MakeServer, join: MakeClient, proxy: MakeProxy
) -> None:
    server = serve()
    way = proxy(("127.0.0.1", server.port))
    clock = Patient(9, way.come_back, dice)
    client = join(f"http://127.0.0.1:{way.port}", clock=clock)
    client.join("r", deadline=Deadline(None))
    before = set(server.clients)

    way.refuse()
    way.cut()
    with meanwhile(lambda: emit_when_back(server, but=before)):
        next(event for event in client.events(Deadline(None)) if event.name == "news")

    ceilings = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert clock.sleeps == pytest.approx([each * dice for each in ceilings])


def test_it_gives_up_at_the_deadline(serve: MakeServer, join: MakeClient) -> None:
    server, clock = serve(), FakeClock()
    client = join(server, clock=clock)
    client.connect(deadline=soon())
    server.close()

    # On this clock only pauses take time.
    assert [event.name for event in client.events(Deadline(1.0, clock=clock))] == ["server_closing"]
    assert clock.at == pytest.approx(1.0)


def test_who_is_kicked_does_not_come_back(serve: MakeServer, join: MakeClient) -> None:
    server = serve()
    client = join(server)
    client.connect(deadline=soon())
    server.kick(*server.clients)

    with pytest.raises(Unavailable, match="the server ended the connection"):
        next_event(client, "news")


def test_an_acknowledgement_that_does_not_come_is_told(serve: MakeServer, join: MakeClient) -> None:
    server = serve()
    held = threading.Event()
    server.on("wait", lambda _: held.wait(SECONDS))

    client = join(server)
    client.connect(deadline=soon())
    with pytest.raises(DeadlineExceeded, match="the acknowledgement of 'wait'"):
        client.call("wait", deadline=Deadline(0.3))
    held.set()


@contextmanager
def silent_server(
    first: Callable[[ServerConnection], object] = lambda _: None,
) -> Iterator[tuple[str, list[ServerConnection]]]:
    """Says hello, announces pings every 0.1 s, sends none on its first connection, and an event on the next.

    `first` is called with the first connection, once it has joined.
    """
    seen: list[ServerConnection] = []

    def handle(connection: ServerConnection) -> None:
        seen.append(connection)
        hello = {"sid": "x", "upgrades": [], "pingInterval": 100, "pingTimeout": 100, "maxPayload": 1000}
        with suppress(ConnectionClosed):  # by a client that was slow, and then found it silent
            connection.send(f"0{json.dumps(hello)}")
            connection.recv()
            connection.send('40{"sid":"x"}')
            if len(seen) > 1:
                connection.send('42["alive",1]')
            else:
                first(connection)
            for _ in connection:
                pass

    with serve(handle, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.socket.getsockname()[1]}", seen
        server.shutdown()
        thread.join(SECONDS)


def test_a_server_that_fell_silent_is_left() -> None:
    with silent_server() as (url, seen), SocketClient(Where(url)) as client:
        assert next(iter(client.events(soon()))) == Event("alive", 1)
        assert len(seen) > 1


def test_a_ping_of_a_connection_that_has_ended_is_a_loss() -> None:
    ended = threading.Event()

    def ping_and_end(connection: ServerConnection) -> None:
        connection.send("2")
        connection.close()
        ended.set()

    with silent_server(ping_and_end) as (url, _), SocketClient(Where(url)) as client:
        client.connect(deadline=soon())
        assert ended.wait(SECONDS)
        assert next(iter(client.events(soon()))) == Event("alive", 1)


def test_a_connection_that_is_reset_as_it_begins_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def reset() -> None:
            with suppress(OSError):
                while True:
                    accepted, _ = listener.accept()
                    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
                    accepted.close()

        threading.Thread(target=reset, daemon=True).start()
        for _ in range(200):
            client = SocketClient(Where(f"http://127.0.0.1:{listener.getsockname()[1]}"))
            with client, pytest.raises(Unavailable):
                client.connect(deadline=soon())
        listener.shutdown(socket.SHUT_RDWR)
