"""The bare way to a server, on sockets that do as they are told."""

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.settings import ConnectionSettings, TlsSettings
from katax_cli.services.health import bare_connection
from katax_cli.services.health.bare_connection import Wire, try_wire
from tests.waiting import SECONDS, patiently

Serve = Callable[[Callable[[socket.socket], object]], int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(talk)`: a port whose first client is talked to."""
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def start(talk: Callable[[socket.socket], object]) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def run() -> None:
            client, _ = listener.accept()
            with closing(client):
                talk(client)

        threads.append(threading.Thread(target=run, daemon=True))
        threads[-1].start()
        return int(listener.getsockname()[1])

    yield start
    for thread in threads:
        thread.join(60)
    for listener in listeners:
        listener.close()


def settings(kind: str = "redis", port: int = 0, **more: object) -> ConnectionSettings:
    made = ConnectionSettings("main", kind, host="127.0.0.1", port=port, **more)  # type: ignore[arg-type]
    return replace(made, connect_timeout=SECONDS)


def seen(wire: Wire) -> list[tuple[str, str]]:
    return [(check.name, check.status) for check in wire.checks]


def test_the_way_is_given_back_before_anybody_logs_in(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has closed when the call returns, although it takes its time."""
    closed = threading.Event()
    monkeypatch.setattr(bare_connection, "_GOODBYE_SECONDS", SECONDS)

    def talk(client: socket.socket) -> None:
        assert client.recv(1) == b""
        select.select([], [], [], 0.1)
        closed.set()

    wire = try_wire(settings(port=serve(talk)), Deadline(60))

    assert closed.is_set()
    assert seen(wire) == [("dns", "healthy"), ("tcp", "healthy"), ("tls", "skipped")]
    assert not wire.failed


def hang_up(client: socket.socket) -> None:
    client.recv(4096)


def say(data: bytes) -> Callable[[socket.socket], None]:
    def talk(client: socket.socket) -> None:
        client.sendall(data)
        client.recv(4096)

    return talk


@pytest.mark.parametrize(
    ("kind", "talk", "message"),
    [
        ("redis", hang_up, "no TLS: the connection was reset"),
        ("redis", say(b"-ERR what is this\r\n"), "no TLS: wrong version number"),
        ("postgresql", say(b"N"), "no TLS: the server does not offer it"),
        ("postgresql", hang_up, "no TLS: the server does not offer it"),
        (
            "mysql",
            say(b"\x05\x00\x00\x00\xff\x10\x04no"),
            "no TLS: the server refused the connection with error 1040",
        ),
        ("mysql", lambda client: client.shutdown(socket.SHUT_WR), "no TLS: the server hung up"),
        ("mysql", say(b"\x03\x00\x00\x00\x0a8\x00"), "no TLS: the server does not offer it"),
    ],
)
def test_a_server_without_tls(
    kind: str, talk: Callable[[socket.socket], object], message: str, serve: Serve
) -> None:
    wire = try_wire(settings(kind, serve(talk), tls=TlsSettings("require")), Deadline(60))

    assert seen(wire)[-1] == ("tls", "unhealthy")
    assert (wire.checks[-1].message, wire.failed) == (message, True)


def test_one_that_says_nothing_is_left_in_time(deaf_port: int) -> None:
    def is_left(seconds: float) -> bool:
        wire = try_wire(settings("mysql", deaf_port, tls=TlsSettings("require")), Deadline(seconds))
        assert wire.failed
        return wire.checks[-1].message == "no TLS: did not answer in time"

    patiently(is_left)


def test_a_path_that_is_wrong(serve: Serve) -> None:
    tls = TlsSettings("verify-full", ca="/nowhere/ca.pem")
    wire = try_wire(settings(port=serve(hang_up), tls=tls), Deadline(60))

    assert wire.cause == "a path of the tls settings is wrong"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"path": "/x.db"}, "a file"),
        ({"socket": "/run/x"}, "a local socket"),
        ({"srv": True}, "a seed list, which the driver looks up"),
    ],
)
def test_what_has_no_way_is_skipped(more: dict[str, object], why: str) -> None:
    wire = try_wire(settings("mongodb", 0, **more), Deadline(1))

    assert [(check.status, check.message) for check in wire.checks] == [("skipped", why)] * 3
