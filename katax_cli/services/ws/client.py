"""A Socket.IO client for synchronous code: it reconnects and authenticates by itself, and counts its gaps.

python-socketio's `Client` needs two more packages and two threads: an event with its acknowledgement takes 0.42 of its
time here (benchmarks/ws_client.py), and what a server sends is bounded.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from engineio import packet as engine_packet
from socketio import packet
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.resilience import backoff
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.settings import Secret
from katax_cli.errors import ConfigError, DeadlineExceeded, TokenRefused, Unavailable
from katax_cli.services.ws.transport.packets import MALFORMED, StrictJson, WirePacket

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
MAX_BYTES = 64_000_000
MAX_KEPT = 10_000
"""So many events may arrive while an acknowledgement is awaited."""
_CONNECT_SECONDS = 10.0


class LargePacket(WirePacket):
    """As other servers may send it: the limits of ours are for what clients send."""

    largest = MAX_BYTES


class Event(NamedTuple):
    """An event of a server: its name, its data, and the id under which it wants an acknowledgement."""

    name: str
    data: Any
    ack: int | None = None


class Where(NamedTuple):
    """A server: its URL, path and namespace, and the token that is sent as `auth.token`."""

    url: str
    path: str = "/socket.io"
    namespace: str = "/"
    token: Secret | None = None

    @property
    def name(self) -> str:
        """The server for people."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port}" if parts.port else f"{parts.hostname}"

    @property
    def websocket_url(self) -> str:
        parts = urlsplit(self.url)
        schemes = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
        if parts.scheme not in schemes or not parts.hostname or parts.username or parts.password:
            raise ConfigError(
                "the url of a Socket.IO server is http://HOST:PORT or https://HOST:PORT, without a password"
            )
        return f"{schemes[parts.scheme]}://{parts.netloc}/{self.path.strip('/')}/?EIO=4&transport=websocket"


class _Lost(Exception):
    """The connection is gone."""


class _Connection:
    """One connection to one namespace, over a WebSocket."""

    def __init__(self, where: Where, deadline: Deadline) -> None:
        self.where = where
        self._binary: packet.Packet | None = None
        self._takes: int | None = None
        self._stack = ExitStack()
        self._socket = self._open(deadline.within(_CONNECT_SECONDS))
        try:
            self._silence = self._shake_hands(deadline)
        except BaseException:
            self.close()
            raise

    def send(self, made: packet.Packet) -> None:
        """Raises ConfigError for more than the server said that it takes: it would end the connection."""
        encoded = made.encode()
        parts = [
            engine_packet.Packet(engine_packet.MESSAGE, part).encode()
            for part in (encoded if isinstance(encoded, list) else [encoded])
        ]
        longest = max(len(part.encode() if isinstance(part, str) else part) for part in parts)
        if self._takes is not None and longest > self._takes:
            raise ConfigError(
                f"{self.where.name!r} takes messages of {self._takes:,} bytes at the most, this one has {longest:,}"
            )
        try:
            for part in parts:
                self._socket.send(part)
        except ConnectionClosed as error:
            raise _Lost from error

    def receive(self, seconds: float | None) -> packet.Packet | None:
        """The next packet of the namespace; None when `seconds` are over. Pings are answered."""
        deadline = Deadline(seconds)
        heard_by = Deadline(self._silence)
        while True:
            patience = min(deadline.remaining(), heard_by.remaining())
            try:
                text = self._socket.recv(timeout=max(patience, 0.0))
                heard_by = Deadline(self._silence)
                made = self._decoded(text)
            except TimeoutError:
                if heard_by.expired:
                    raise _Lost("no answer to a ping") from None
                return None
            except ConnectionClosed as error:
                raise _Lost from error
            except MALFORMED as error:
                raise Unavailable(self.where.name, "it sent an invalid Socket.IO packet") from error
            if made is not None:
                return made

    def close(self) -> None:
        self._stack.close()

    def _open(self, seconds: float | None) -> ClientConnection:
        name = self.where.name
        try:
            opening = connect(
                self.where.websocket_url,
                open_timeout=seconds,
                max_size=MAX_BYTES,
                ping_interval=None,
                close_timeout=1.0,
                compression=None,
                proxy=None,
            )
            return self._stack.enter_context(opening)
        except InvalidStatus as error:
            status = error.response.status_code
            if status >= 500:
                raise Unavailable(name, f"it answers {status}") from error
            raise ConfigError(
                f"{name!r} answers {status} at {self.where.path}: no Socket.IO there; name its path"
            ) from error
        except TimeoutError as error:
            raise DeadlineExceeded(name, doing="connecting", seconds=seconds or 0.0) from error
        except (OSError, ssl.SSLError, InvalidHandshake, ConnectionClosed, EOFError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Unavailable(name, reason) from error

    def _shake_hands(self, deadline: Deadline) -> float:
        """Performs the handshake; returns the seconds of silence after which the connection is dead."""
        self._silence = deadline.within(_CONNECT_SECONDS) or _CONNECT_SECONDS
        try:
            opened = engine_packet.Packet(encoded_packet=self._socket.recv(timeout=self._silence))
            hello = opened.data if isinstance(opened.data, dict) else StrictJson.loads(opened.data)
            token = self.where.token
            auth = None if token is None else {"token": token.reveal()}
            self.send(WirePacket(packet.CONNECT, data=auth, namespace=self.where.namespace))
            answer = self.receive(self._silence)
        except (ConnectionClosed, _Lost, TimeoutError, ValueError) as error:
            raise Unavailable(self.where.name, "it did not answer as Socket.IO does") from error
        if answer is None:
            raise DeadlineExceeded(self.where.name, doing="the handshake", seconds=self._silence)
        if answer.packet_type == packet.CONNECT_ERROR:
            raise TokenRefused(self.where.name, _reason(answer.data))
        takes = hello.get("maxPayload")
        self._takes = takes if isinstance(takes, int) else None
        return float(hello.get("pingInterval", 25000) + hello.get("pingTimeout", 20000)) / 1000

    def _decoded(self, text: str | bytes) -> packet.Packet | None:
        if isinstance(text, bytes):
            return self._attached(text)
        received = engine_packet.Packet(encoded_packet=text)
        if received.packet_type == engine_packet.PING:
            self._socket.send(engine_packet.Packet(engine_packet.PONG, received.data).encode())
        elif received.packet_type == engine_packet.CLOSE:
            raise _Lost
        elif received.packet_type == engine_packet.MESSAGE:
            made = LargePacket(encoded_packet=received.data)
            if made.attachment_count:
                self._binary = made
                return None
            return made if (made.namespace or "/") == self.where.namespace else None
        return None

    def _attached(self, data: bytes) -> packet.Packet | None:
        waiting = self._binary
        if waiting is None or not waiting.add_attachment(data):
            return None
        self._binary = None
        return waiting


class SocketClient:
    """One namespace of one server. Not for several threads; pings are answered while it is called.

    Connects when first used. `events` comes back after a loss: it calls `on_loss()`, makes exponential pauses of
    full jitter (see core.backoff) up to 5 s, authenticates, calls `greet(client)`, joins its rooms again, and
    calls `on_gap(seconds)`. Raises Unavailable when the first connect fails, TokenRefused, ConfigError.
    """

    def __init__(
        self,
        where: Where,
        *,
        greet: Callable[[SocketClient], object] = lambda _: None,
        on_loss: Callable[[], object] = lambda: None,
        on_gap: Callable[[float], object] = lambda _: None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.where = where
        self.gaps = 0
        self._greet, self._on_loss, self._on_gap, self._clock = greet, on_loss, on_gap, clock
        self._rooms: dict[str, None] = {}
        self._events: deque[Event] = deque()
        self._connection: _Connection | None = None
        self._acks = 0

    def connect(self, *, deadline: Deadline) -> None:
        """Connects now rather than at the first use."""
        self._connected(deadline)

    def emit(self, event: str, data: Any = None, *, deadline: Deadline) -> None:
        """Sends an event without an acknowledgement."""
        self._sent(event, data, None, deadline)

    def call(self, event: str, data: Any = None, *, deadline: Deadline) -> Any:
        """Sends an event and returns its acknowledgement. Raises DeadlineExceeded when none comes."""
        self._acks += 1
        self._sent(event, data, self._acks, deadline)
        while True:
            answer = self._next(deadline)
            if answer is None:
                raise DeadlineExceeded(
                    self.where.name,
                    doing=f"the acknowledgement of {event!r}",
                    seconds=deadline.seconds or 0.0,
                )
            if answer.packet_type in (packet.ACK, packet.BINARY_ACK) and answer.id == self._acks:
                return answer.data[0] if len(answer.data) == 1 else answer.data or None
            self._keep(answer)

    def join(self, room: str, *, deadline: Deadline) -> Any:
        """Joins a room by the event `join`, now and after every loss; returns the acknowledgement.

        Not again when that is `{"ok": false, …}`.
        """
        answer = self.call("join", room, deadline=deadline)
        if not (isinstance(answer, dict) and answer.get("ok") is False):
            self._rooms[room] = None
        return answer

    def events(self, deadline: Deadline) -> Iterator[Event]:
        """Events as they arrive, until the deadline."""
        while not deadline.expired:
            while self._events:
                yield self._events.popleft()
            try:
                received = self._connected(deadline).receive(deadline.within(None))
            except _Lost:
                self._come_back(deadline)
                continue
            if received is not None:
                self._keep(received)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connected(self, deadline: Deadline) -> _Connection:
        if self._connection is None:
            self._connection = _Connection(self.where, deadline)
            self._greet(self)
        return self._connection

    def _sent(self, event: str, data: Any, ack: int | None, deadline: Deadline) -> None:
        try:
            self._connected(deadline).send(
                WirePacket(packet.EVENT, namespace=self.where.namespace, data=_arguments(event, data), id=ack)
            )
        except _Lost as error:
            raise Unavailable(self.where.name, "the connection was lost") from error

    def _next(self, deadline: Deadline) -> packet.Packet | None:
        try:
            return self._connected(deadline).receive(deadline.within(None))
        except _Lost as error:
            raise Unavailable(self.where.name, "the connection was lost before the answer came") from error

    def _keep(self, received: packet.Packet) -> None:
        if received.packet_type == packet.DISCONNECT:
            raise Unavailable(self.where.name, "the server ended the connection")
        if received.packet_type not in (packet.EVENT, packet.BINARY_EVENT):
            return
        if not isinstance(received.data, list) or not received.data:
            raise Unavailable(self.where.name, "it sent an invalid Socket.IO packet")
        if len(self._events) >= MAX_KEPT:
            raise Unavailable(self.where.name, f"it sent {MAX_KEPT:,} events before its acknowledgement")
        name, *arguments = received.data
        data = arguments[0] if len(arguments) == 1 else arguments or None
        self._events.append(Event(name, data, received.id))

    def _come_back(self, deadline: Deadline) -> None:
        lost_at, attempt = self._clock.monotonic(), 0
        self._on_loss()
        while not deadline.expired:
            self.close()
            attempt += 1
            longest = backoff.ceiling(attempt, initial=FIRST_PAUSE, multiplier=2.0, max=LONGEST_PAUSE)
            pause = backoff.full_jitter(longest, self._clock.random)
            self._clock.sleep(min(pause, deadline.remaining()))
            try:
                self._connected(deadline)
                for room in self._rooms:
                    self.call("join", room, deadline=Deadline(_CONNECT_SECONDS))
            except Unavailable:
                continue
            self.gaps += 1
            self._on_gap(self._clock.monotonic() - lost_at)
            return


def _arguments(event: str, data: Any) -> list[Any]:
    return [event] if data is None else [event, data]


def _reason(data: Any) -> str:
    text = data.get("message") if isinstance(data, dict) else data
    return str(text or "it gives no reason")
