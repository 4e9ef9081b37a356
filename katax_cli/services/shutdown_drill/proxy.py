"""A TCP proxy between a program and a server, with faults on demand."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock, Thread

_CHUNK = 65_536
_TICK = 0.05
# Closing with zero linger resets the connection, as a server does that died.
_RESET = struct.pack("ii", 1, 0)


class _Link:
    """One connection of the program and the one to the server in its place; None while it is never answered."""

    def __init__(self, client: socket.socket, server: socket.socket | None) -> None:
        self._sockets = [client] if server is None else [client, server]
        self._lock = Lock()
        self.closed = Event()

    def close(self, *, reset: bool = False) -> None:
        """Ends both sides and wakes the threads that wait on one of them."""
        with self._lock:
            if self.closed.is_set():
                return
            self.closed.set()
            for each in self._sockets:
                with suppress(OSError):
                    if reset:
                        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    # Wakes the thread that reads from it, which closing alone would not.
                    each.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)
                each.close()


class Proxy:
    """Forwards a free loopback port to `target` until a fault is set; its methods act at once, from any thread.

    `ports` are those from which it ever was connected to the server, for the program.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.ports: frozenset[int] = frozenset()
        self._target = target
        self._flows = Event()
        self._flows.set()
        self._mute = self._dead = False
        self._links: list[_Link] = []
        self._lock = Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_TICK)
        self.port = int(self._listener.getsockname()[1])
        _thread(f"accept-{self.port}", self._accept)

    @property
    def used(self) -> bool:
        """True once the program came this way."""
        return bool(self.ports)

    def hang(self) -> None:
        """Servers still get everything, and their answers are held back."""
        self._flows.clear()

    def refuse_new(self) -> None:
        """New connections are taken and never answered; open ones go on."""
        self._mute = True

    def die(self) -> None:
        """Every connection is reset and new ones are refused."""
        self._dead = True
        self._end_links(reset=True)

    def close(self) -> None:
        """Ends everything: the servers see that their clients left."""
        self._dead = True
        self._end_links(reset=False)

    def _end_links(self, *, reset: bool) -> None:
        self._listener.close()
        with self._lock:
            links = list(self._links)
        for link in links:
            link.close(reset=reset)

    def _accept(self) -> None:
        while not self._dead:
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:  # closed meanwhile
                return
            client.settimeout(None)
            self._open(client)

    def _open(self, client: socket.socket) -> None:
        try:
            server = None if self._mute else socket.create_connection(self._target, timeout=5.0)
        except OSError:
            client.close()
            return
        link = _Link(client, server)
        with self._lock:
            self._links.append(link)
            if server is not None:
                self.ports |= {int(server.getsockname()[1])}
        if self._dead:
            link.close()
        elif server is not None:
            server.settimeout(None)
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _thread(f"up-{self.port}", lambda: self._pump(link, client, server, answers=False))
            _thread(f"down-{self.port}", lambda: self._pump(link, server, client, answers=True))

    def _pump(self, link: _Link, source: socket.socket, sink: socket.socket, *, answers: bool) -> None:
        """Until either side ends, which ends the other: no protocol of databases half-closes."""
        with suppress(OSError):
            while chunk := source.recv(_CHUNK):
                while answers and not self._flows.wait(_TICK):
                    if link.closed.is_set():
                        return
                sink.sendall(chunk)
        link.close()


def _thread(name: str, work: Callable[[], object]) -> None:
    Thread(target=work, name=f"katax-drill-proxy-{name}", daemon=True).start()
