"""A TCP proxy that breaks the wire: cut, stall, slow down, refuse, come back, swallow a reply, count."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite
from typing import Self
from urllib.parse import urlsplit, urlunsplit

CHUNK = 65_536
QUIET = 0.25
"""Seconds of silence after which the connection to a server is half-closed."""
# Closing with zero linger sends RST instead of FIN: what a cut cable's far end or a crashed host looks like.
NO_LINGER = struct.pack("ii", 1, 0)
POLL = 0.005

HostPort = tuple[str, int]
"""Host and port of a server."""

_PORTS = {
    "postgresql": 5432,
    "postgres": 5432,
    "mysql": 3306,
    "mariadb": 3306,
    "mongodb": 27017,
    "redis": 6379,
}


@dataclass(frozen=True)
class _Trap:
    """Cut the connection whose client sends matching bytes; `forward`: once the server answered them."""

    matches: Callable[[bytes], bool]
    forward: bool


@dataclass(eq=False)
class _Relay:
    """One client's connection and the one to the server in its place; `server` is None in a black hole."""

    client: socket.socket
    server: socket.socket | None
    threads: list[threading.Thread] = field(default_factory=list)
    cut: bool = False
    frozen: bool = False
    swallow_reply: bool = False
    finishing: bool = False
    wake: tuple[int, int] = field(default_factory=os.pipe)
    open_pumps: int = 2
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def sockets(self) -> list[socket.socket]:
        return [self.client] if self.server is None else [self.client, self.server]

    def ask_to_cut(self) -> None:
        """Both pumps leave, wherever they wait; the last one resets the connection."""
        self.cut = True
        os.write(self.wake[1], b"x")

    def close(self) -> None:
        for end in self.sockets:
            if self.cut:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            end.close()
        for descriptor in self.wake:
            os.close(descriptor)


class FaultProxy:
    """Listens on a free loopback port and forwards to `target`, an address or the path of a Unix socket.

    Its methods act at once, from any thread. `url` leads through it; `connections`, `bytes_up` and `bytes_down`
    count what did.
    """

    def __init__(self, target: HostPort | str, *, url: str = "") -> None:
        self.target = target
        self.host = "127.0.0.1"
        self.connections = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self._url = url
        self._stalled = False
        self._black_hole = False
        self._delay = 0.0
        self._bytes_per_second = 0.0
        self._trap: _Trap | None = None
        self._client_hook: Callable[[bytes], None] | None = None
        self._links: list[_Relay] = []
        self._lock = threading.Lock()
        self._accepting = threading.Lock()
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        # Never listens: as long as it is bound nobody else gets the port, which `refuse` leaves without a listener.
        self._seat = _bound(self.host, 0)
        self.port: int = self._seat.getsockname()[1]
        self.come_back()

    @classmethod
    def for_url(cls, url: str) -> Self:
        """A proxy before the server of `url`, whose own `url` leads through it.

        Raises ValueError for a URL that names no single server to be reached by TCP.
        """
        parts = urlsplit(url)
        try:
            port = parts.port or _PORTS.get(parts.scheme)
        except ValueError:  # several hosts, or no number
            port = None
        if not parts.hostname or not port or "," in parts.netloc.rpartition("@")[2]:
            raise ValueError(
                f"a fault proxy stands before one host and port; the {parts.scheme or 'given'} URL names none"
            )
        return cls((parts.hostname, port), url=url)

    @property
    def url(self) -> str:
        """The server's URL by way of this proxy; empty when it was made for a bare address."""
        return _by_way_of(self._url, self.host, self.port) if self._url else ""

    @property
    def open_connections(self) -> int:
        with self._lock:
            return len(self._links)

    def cut(self) -> None:
        """Reset every connection; returns when they are gone. New ones are accepted."""
        if listener := self._listener:
            # A client may believe to be connected that our thread has not come round to yet.
            with contextlib.suppress(OSError):
                self._accept_waiting(listener)
        with self._lock:
            links = list(self._links)
            for link in links:
                link.ask_to_cut()
        for link in links:
            for thread in link.threads:
                if thread is not threading.current_thread():
                    thread.join()

    def stall(self) -> None:
        """No byte flows either way until `resume`; connections stay open and new ones are accepted."""
        self._stalled = True

    def freeze(self) -> None:
        """The connections that are open now fall silent for good, as on a half-open wire; new ones work."""
        with self._lock:
            for link in self._links:
                link.frozen = True

    def resume(self) -> None:
        """Undo `stall` and `slow`; what was held back flows first."""
        self._stalled = False
        self._delay = self._bytes_per_second = 0.0

    def slow(self, delay: float = 0.0, *, bytes_per_second: float = 0.0) -> None:
        """Hold each chunk for `delay` seconds, and for as long as its size takes at `bytes_per_second`.

        Raises ValueError for what is no time or no speed.
        """
        for name, value in (("delay", delay), ("bytes_per_second", bytes_per_second)):
            if not (isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value:g}, expected 0 or more")
        self._delay, self._bytes_per_second = delay, bytes_per_second

    def refuse(self) -> None:
        """New connections are refused, as by a host without the server; open ones stay (`cut` ends them)."""
        if self._listener is None:
            return
        # shutdown wakes the thread that waits in accept; close alone would not.
        self._listener.shutdown(socket.SHUT_RDWR)
        if self._acceptor:
            self._acceptor.join()
        self._listener.close()
        self._listener = None

    def black_hole(self) -> None:
        """New connections are accepted and nothing is ever said; open ones stay as they are."""
        self._black_hole = True

    def come_back(self) -> None:
        """Undo `refuse` and `black_hole`, on the same port."""
        self._black_hole = False
        if self._listener is not None:
            return
        if sys.platform != "linux":  # elsewhere two sockets do not share a port
            self._seat.close()
        listener = _bound(self.host, self.port)
        listener.listen(128)
        listener.settimeout(0)
        self._listener = listener
        self._acceptor = _thread(f"proxy-{self.port}-accept", lambda: self._accept_from(listener))

    def on_client_bytes(self, hook: Callable[[bytes], None] | None) -> None:
        """Call `hook` with each chunk from a client before it is forwarded, on a thread of the proxy."""
        self._client_hook = hook

    def cut_after(self, what: bytes | Callable[[bytes], bool], *, forward: bool) -> None:
        """Once: cut the connection whose client sends `what` (bytes to find in a chunk, or a predicate).

        With `forward` the server gets it and its answer is dropped: done, and the client cannot know.
        Without, the server never sees it.
        """
        matches = what if callable(what) else lambda chunk: what in chunk
        self._trap = _Trap(matches, forward)

    def close(self) -> None:
        """Refuse and cut; no thread is left."""
        self.refuse()
        self.resume()
        self.cut()
        self._seat.close()

    def _accept_from(self, listener: socket.socket) -> None:
        try:
            while True:
                select.select([listener], [], [])
                self._accept_waiting(listener)
        except (OSError, ValueError):
            # `refuse` has shut it down.
            return

    def _accept_waiting(self, listener: socket.socket) -> None:
        """Open a link for every client whose handshake is done."""
        with self._accepting, contextlib.suppress(BlockingIOError):
            while True:
                client, _ = listener.accept()
                self.connections += 1
                self._open_link(client)

    def _open_link(self, client: socket.socket) -> None:
        try:
            server = None if self._black_hole else _connected(self.target)
        except OSError:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            client.close()
            return
        link = _Relay(client, server)
        for end in link.sockets:
            end.settimeout(0)
            if end.family != socket.AF_UNIX:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._links.append(link)
            link.threads = [
                _thread(f"proxy-{self.port}-up", lambda: self._pump(link, client, server, up=True)),
                _thread(f"proxy-{self.port}-down", lambda: self._pump(link, server, client, up=False)),
            ]

    def _pump(
        self, link: _Relay, source: socket.socket | None, sink: socket.socket | None, *, up: bool
    ) -> None:
        try:
            while (
                source and (chunk := self._receive(link, source)) and self._pass_on(link, chunk, sink, up=up)
            ):
                pass
            self._end_of_stream(link, source, sink)
        except OSError:
            # One side was reset by its peer: the other side shall see the same.
            link.ask_to_cut()
        finally:
            self._leave(link)

    def _receive(self, link: _Relay, source: socket.socket) -> bytes:
        """The next chunk; empty at the end of the stream or when the link is cut."""
        select.select([source.fileno(), link.wake[0]], [], [])
        return b"" if link.cut else source.recv(CHUNK)

    def _pass_on(self, link: _Relay, chunk: bytes, sink: socket.socket | None, *, up: bool) -> bool:
        """Forward `chunk` in the state the proxy is in; False when the link is to end."""
        if not up and link.swallow_reply:
            # The first answer may be to what went before (a SET in the same round trip), and a busy server takes its
            # time for the next one: the work is done when it has read to the end of what it was sent, and leaves.
            if self._says_more(link):
                return True
            self._let_finish(link)
            link.ask_to_cut()
            return False
        if up and link.finishing:
            return True
        self._hold(link, len(chunk))
        if up and not self._spring(link, chunk):
            link.ask_to_cut()
            return False
        # Counted first: who has received the last byte finds it counted.
        self._count(len(chunk), up=up)
        return self._send(link, chunk, sink)

    def _says_more(self, link: _Relay) -> bool:
        readable, _, _ = select.select([link.sockets[-1].fileno(), link.wake[0]], [], [], QUIET)
        return bool(readable) and not link.cut

    def _let_finish(self, link: _Relay) -> None:
        """Sends the server nothing more; it does what it was sent, however long that takes, and hangs up."""
        link.finishing = True
        server = link.sockets[-1]
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_WR)
            while self._receive(link, server):
                pass

    def _spring(self, link: _Relay, chunk: bytes) -> bool:
        """Tell the hook and the trap; False when `chunk` must not be forwarded."""
        if self._client_hook:
            self._client_hook(chunk)
        with self._lock:
            trap = self._trap
            if trap is None or not trap.matches(chunk):
                return True
            self._trap = None
        link.swallow_reply = trap.forward
        return trap.forward

    def _hold(self, link: _Relay, size: int) -> None:
        """Wait while stalled, or for as long as `slow` says; asked again and again, so that `resume` works."""
        since = time.monotonic()
        while (self._stalled or link.frozen or time.monotonic() - since < self._wait(size)) and not link.cut:
            time.sleep(POLL)

    def _wait(self, size: int) -> float:
        return self._delay + (size / self._bytes_per_second if self._bytes_per_second else 0.0)

    def _send(self, link: _Relay, chunk: bytes, sink: socket.socket | None) -> bool:
        while chunk and sink and not link.cut:
            _, writable, _ = select.select([link.wake[0]], [sink], [])
            if writable:
                chunk = chunk[sink.send(chunk) :]
        return not link.cut

    def _count(self, size: int, *, up: bool) -> None:
        with self._lock:
            if up:
                self.bytes_up += size
            else:
                self.bytes_down += size

    def _end_of_stream(self, link: _Relay, source: socket.socket | None, sink: socket.socket | None) -> None:
        self._hold(link, 0)
        if source and sink and not link.cut:
            sink.shutdown(socket.SHUT_WR)

    def _leave(self, link: _Relay) -> None:
        with link.lock:
            link.open_pumps -= 1
            last = link.open_pumps == 0
        if last:
            with self._lock:
                self._links.remove(link)
                link.close()


def _connected(target: HostPort | str) -> socket.socket:
    if not isinstance(target, str):
        return socket.create_connection(target)
    end = socket.socket(socket.AF_UNIX)
    try:
        end.connect(target)
    except OSError:
        end.close()
        raise
    return end


def _bound(host: str, port: int) -> socket.socket:
    """A socket on this port, which others of ours may be bound to; 0 is a free one."""
    made = socket.socket()
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made


def _by_way_of(url: str, host: str, port: int) -> str:
    parts = urlsplit(url)
    login, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{login}{at}{host}:{port}"))


def _thread(name: str, body: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=body, name=name, daemon=True)
    thread.start()
    return thread
