"""python-socketio as katax wants it: queues with an end, and a view of what passes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import cached_property
from logging import ERROR, LogRecord, getLogger
from typing import Any
from urllib.parse import parse_qs

import engineio
from engineio import packet as engine_packet
from socketio import AsyncManager, AsyncServer, packet

from katax_cli.core.clock import SYSTEM
from katax_cli.services.ws.transport.packets import MALFORMED, WirePacket
from katax_cli.services.ws.transport.queues import Inbox, Outbox
from katax_cli.services.ws.values import (
    CLIENT_ID,
    RESERVED,
    AsgiScope,
    Observe,
    SeenEvent,
    shown,
)

AWAY_SECONDS = 3.0
_SEND = "katax.send"

_log = getLogger("katax.ws")
_engine_log = getLogger("katax.ws.engine")
# Below, Socket.IO logs every packet with its data.
_engine_log.setLevel(ERROR)


def _one_line(record: LogRecord) -> bool:
    """Keeps errors caused by clients to one line, without a traceback."""
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        record.msg, record.args = f"{record.getMessage()}: {type(error).__name__}", ()
        record.exc_info = record.exc_text = None
    return True


_engine_log.addFilter(_one_line)


class EngineIoServer(engineio.AsyncServer):  # type: ignore[misc]
    """Engine.IO that knows the connection behind each client."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.scopes: dict[str, AsgiScope] = {}
        self.answered_at: dict[str, float] = {}
        self.drop: Callable[[str, str], Awaitable[object]]

    def generate_id(self) -> str:
        return CLIENT_ID + str(super().generate_id())

    def create_queue(self, *_args: Any, **_options: Any) -> Outbox:
        return Outbox()

    async def handle_request(self, scope: AsgiScope, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            scope[_SEND] = send
        sid = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("sid", [""])[0]
        if sid in self.sockets:
            if self.sockets[sid].closed:
                del self.sockets[sid]  # else Engine.IO answers 500 to who comes too late
            elif not self.sockets[sid].upgraded:
                self.scopes[sid] = scope
        try:
            await super().handle_request(scope, receive, send)
        except MALFORMED as error:
            # Engine.IO forgets to end the client of a WebSocket that sends no packet of its own.
            for eio_sid in [known for known, its_scope in self.scopes.items() if its_scope is scope]:
                await self.drop(eio_sid, f"it sent what is no Engine.IO packet ({type(error).__name__})")
        if sid in self.scopes:
            self.answered_at[sid] = SYSTEM.monotonic()

    def is_away(self, sid: str) -> bool:
        """True for a client that polls and has not come for what waits for it."""
        polls = sid in self.answered_at and not self.sockets[sid].upgraded
        return polls and SYSTEM.monotonic() - self.answered_at[sid] > AWAY_SECONDS

    def forget(self, sid: str) -> None:
        """Forgets the connection of a client that has gone."""
        self.scopes.pop(sid, None)
        self.answered_at.pop(sid, None)

    async def disconnect(self, sid: str | None = None) -> None:
        """Does not wait for the client to come for its end: some never do."""
        for one in [self.sockets.get(sid)] if sid is not None else list(self.sockets.values()):
            if one is not None:
                await one.close(wait=False, reason=self.reason.SERVER_DISCONNECT)


class WireServer(AsyncServer):  # type: ignore[misc]
    """Socket.IO that cuts off clients that do not read, or violate the protocol; `cut` ends a connection."""

    def __init__(
        self, *, observe: Observe, cut: Callable[[AsgiScope | None], object], **options: Any
    ) -> None:
        super().__init__(serializer=WirePacket, logger=_engine_log, engineio_logger=_engine_log, **options)
        self.observe = observe
        self.dropped = 0
        self._inboxes: dict[str, Inbox] = {}
        self._handling: set[asyncio.Task[None]] = set()
        self.eio.drop = self.drop
        self._cut = cut

    def _engineio_server_class(self) -> type[EngineIoServer]:
        return EngineIoServer

    async def _send_eio_packet(self, eio_sid: str, eio_pkt: engine_packet.Packet) -> None:
        socket = self.eio.sockets.get(eio_sid)
        if socket is not None and socket.queue.is_full:
            await self.drop(eio_sid, "it does not read its messages")
            return
        await super()._send_eio_packet(eio_sid, eio_pkt)

    def send_now(self, eio_sid: str, packets: Sequence[Encoded]) -> None:
        """The same without waiting, for the packets of one event."""
        socket = self.eio.sockets.get(eio_sid)
        if socket is None or socket.closed:
            return
        if socket.queue.is_idle and socket.upgraded:
            packets = self._taken(eio_sid, packets)
        if packets and socket.queue.is_full:
            self.start_background_task(self.drop, eio_sid, "it does not read its messages")
            return
        for each in packets:
            socket.queue.put_nowait(each)

    def _taken(self, eio_sid: str, packets: Sequence[Encoded]) -> Sequence[Encoded]:
        """Hands packets past the queue to a WebSocket while it takes them; returns the rest."""
        send = self.eio.scopes[eio_sid].get(_SEND)
        number = 0
        while send is not None and number < len(packets) and _takes(send(packets[number].message)):
            number += 1
        return packets[number:]

    def is_open(self, eio_sid: str | None) -> bool:
        """True for a connection that is not being ended."""
        socket = self.eio.sockets.get(eio_sid)
        return socket is not None and not socket.closing and not socket.closed

    async def drop(self, eio_sid: str, why: str) -> None:
        """Ends a connection at once, with nothing more sent."""
        socket = self.eio.sockets.get(eio_sid)
        if socket is None or socket.closed:
            return
        self.dropped += 1
        _log.warning("client %s is cut off: %s", eio_sid, why)
        scope = self.eio.scopes.get(eio_sid)
        socket.queue.discard()
        await socket.close(wait=False, abort=True)
        self._cut(scope)

    async def _handle_eio_connect(self, eio_sid: str, environ: Mapping[str, Any]) -> None:
        self.eio.scopes[eio_sid] = environ["asgi.scope"]
        self.eio.answered_at[eio_sid] = SYSTEM.monotonic()
        self._inboxes[eio_sid] = Inbox()
        await super()._handle_eio_connect(eio_sid, environ)

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        try:
            await super()._handle_eio_disconnect(eio_sid, reason)
        finally:
            self._binary_packet.pop(eio_sid, None)
            self._inboxes.pop(eio_sid, None)
            self.eio.forget(eio_sid)

    async def _handle_eio_message(self, eio_sid: str, data: Any) -> None:
        inbox = self._inboxes.get(eio_sid)
        while inbox is not None and inbox.is_full and self.is_open(eio_sid):
            await self._wait_for_handlers(eio_sid, inbox)
        if inbox is None or not self.is_open(eio_sid):
            return
        inbox.arriving += len(data)
        try:
            await super()._handle_eio_message(eio_sid, data)
        except MALFORMED as error:
            await self.drop(eio_sid, f"it sent an invalid Socket.IO packet ({type(error).__name__})")
        if eio_sid not in self._binary_packet:
            inbox.arriving = 0

    async def _wait_for_handlers(self, eio_sid: str, inbox: Inbox) -> None:
        await inbox.wait(1.0)
        socket = self.eio.sockets.get(eio_sid)
        if socket is not None and socket.last_ping:
            socket.last_ping = SYSTEM.now()  # its answer to the ping is among what is not read

    async def _handle_event(self, eio_sid: str, namespace: str | None, id: int | None, data: Any) -> None:
        namespace = namespace or "/"
        if not isinstance(data, list) or not data or not isinstance(data[0], str):
            raise ValueError("an event is a list that begins with its name")
        if data[0] in RESERVED:
            raise ValueError(f"{data[0]!r} is an event of Socket.IO itself")
        sid = self.manager.sid_from_eio_sid(eio_sid, namespace)
        if not self.manager.is_connected(sid, namespace):
            return
        if namespace == "/":
            self.observe(SeenEvent(data[0], None, _argument(data[1:]), sid))
        inbox = self._inboxes[eio_sid]
        size = inbox.hold()
        handling = self._answer(sid, eio_sid, data, namespace, id)
        task = asyncio.get_running_loop().create_task(handling)
        self._handling.add(task)
        task.add_done_callback(self._handling.discard)
        task.add_done_callback(lambda _task: inbox.release(size))

    async def _answer(self, sid: str, eio_sid: str, data: list[Any], namespace: str, id: int | None) -> None:
        try:
            await self._handle_event_internal(self, sid, eio_sid, data, namespace, id)
        except MALFORMED as error:
            _log.error("the answer to event %r could not be sent: %s", shown(data[0]), error)
            if id is not None:
                failed = [{"error": "the handler failed"}]
                await self._send_packet(eio_sid, WirePacket(packet.ACK, failed, namespace, id))


def _takes(sending: Coroutine[Any, Any, None]) -> bool:
    """True when a connection takes a message without waiting; uvicorn waits before it has taken anything of it."""
    try:
        sending.send(None)
    except StopIteration:
        return True
    except Exception:  # noqa: BLE001 - the writer of the queue meets it too, and ends the connection
        return False
    sending.close()
    return False


class Encoded(engine_packet.Packet):  # type: ignore[misc]
    """A packet that is the same for all its clients, and is encoded once for them."""

    def __init__(self, data: Any) -> None:
        super().__init__(engine_packet.MESSAGE, data)

    def encode(self, b64: bool = False) -> Any:
        return super().encode(b64=True) if b64 else self._encoded

    @cached_property
    def message(self) -> dict[str, Any]:
        """As ASGI sends it over a WebSocket."""
        kind = "bytes" if isinstance(self._encoded, bytes) else "text"
        return {"type": "websocket.send", kind: self._encoded}

    @cached_property
    def _encoded(self) -> Any:
        return super().encode()


class LocalManager(AsyncManager):  # type: ignore[misc]
    """The clients of one server; hands an event to all their queues at once, without a task for each.

    Knows the rooms of each client: Socket.IO searches all rooms for them.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._rooms_of: dict[tuple[str, str], set[str]] = {}

    def basic_enter_room(self, sid: str, namespace: str, room: Any, eio_sid: str | None = None) -> None:
        if eio_sid is None and sid not in self.rooms.get(namespace, {}).get(None, {}):
            raise ValueError(f"client {sid} has left")
        super().basic_enter_room(sid, namespace, room, eio_sid=eio_sid)
        if room is not None:
            self._rooms_of.setdefault((namespace, sid), set()).add(room)

    def basic_leave_room(self, sid: str, namespace: str, room: Any) -> None:
        super().basic_leave_room(sid, namespace, room)
        self._rooms_of.get((namespace, sid), set()).discard(room)

    def basic_disconnect(self, sid: str, namespace: str, **options: Any) -> None:
        super().basic_disconnect(sid, namespace, **options)
        self._rooms_of.pop((namespace, sid), None)

    def get_rooms(self, sid: str, namespace: str) -> list[str]:
        """May be called from any thread."""
        return list(self._rooms_of.get((namespace, sid), ()))

    async def emit(
        self,
        event: str,
        data: Any,
        namespace: str,
        room: Any = None,
        skip_sid: Any = None,
        callback: Any = None,
        to: Any = None,
        **more: Any,
    ) -> None:
        room = to or room
        if event in RESERVED:
            raise ValueError(f"{event!r} is an event of Socket.IO itself; choose another name")
        if namespace == "/":
            self.server.observe(SeenEvent(event, room, data, None))
        if callback or skip_sid:
            await super().emit(
                event, data, namespace, room=room, skip_sid=skip_sid, callback=callback, **more
            )
            return
        if namespace not in self.rooms:
            return
        arguments = list(data) if isinstance(data, tuple) else [] if data is None else [data]
        made = WirePacket(packet.EVENT, namespace=namespace, data=[event, *arguments]).encode()
        packets = [Encoded(part) for part in (made if isinstance(made, list) else [made])]
        for _sid, eio_sid in self.get_participants(namespace, room):
            self.server.send_now(eio_sid, packets)
        # Who waits for its queue has its turn before the next event.
        await asyncio.sleep(0)


def _argument(arguments: list[Any]) -> Any:
    """One argument bare, as `emit` takes it; several as a list."""
    return arguments[0] if len(arguments) == 1 else arguments or None
