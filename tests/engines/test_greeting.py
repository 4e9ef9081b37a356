"""A server that says a byte lives; one whose kernel alone accepts does not. No more than the hello is sent."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from threading import Thread

import pytest

from katax_cli.engines.greeting import greeted


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_only_silence_speaks_against_a_server(family: socket.AddressFamily, tmp_path: Path) -> None:
    heard: list[bytes] = []

    def answer(word: bytes) -> None:
        peer, _ = listener.accept()
        with peer:
            heard.append(peer.recv(5, socket.MSG_WAITALL))
            peer.sendall(word)
            if word:
                heard.append(peer.recv(1))

    listener = socket.socket(family, socket.SOCK_STREAM)
    with socket.socket(family, socket.SOCK_STREAM) as connected:
        with listener:
            listener.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(tmp_path / "s"))
            listener.listen()
            connected.connect(listener.getsockname())
            accepted, _ = listener.accept()
            # One that hangs up without a word has answered, too.
            for word in (b"N", b""):
                server = Thread(target=answer, args=(word,))
                server.start()
                assert greeted(connected.fileno(), b"hello", 60.0)
                server.join()
            assert heard == [b"hello", b"", b"hello"]
            assert not greeted(connected.fileno(), b"hello", 0.05), "only the kernel accepts"
        with accepted:
            assert greeted(connected.fileno(), b"hello", 60.0), "nobody listens, and the connection is open"
    assert greeted(connected.fileno(), b"hello", 60.0), "closed meanwhile"


def test_a_host_without_a_way_to_it_is_silent_once_the_time_is_over() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connected:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        # TCP finds no way to a broadcast address, as to a neighbour that is gone.
        connected.connect(("127.255.255.255", 9))
        started = time.monotonic()
        assert not greeted(connected.fileno(), b"hello", 0.7)
        assert time.monotonic() - started >= 0.7
