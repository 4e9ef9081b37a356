"""Socket.IO servers for synchronous programs: one thread owns the event loop, handlers run in others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from logging import getLogger
from typing import TYPE_CHECKING, Any, TypeVar

from katax_cli.core.callables import completed, plain
from katax_cli.core.clock import SYSTEM
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.settings import LOOPBACK
from katax_cli.errors import Refused
from katax_cli.profiles.model.model import WsSettings
from katax_cli.services.ws.clients import Client, KnowingHandler, takes_client
from katax_cli.services.ws.cluster import Cluster, SingleServer
from katax_cli.services.ws.guesses import Guesses
from katax_cli.services.ws.loop import EventLoop, Lanes
from katax_cli.services.ws.metrics import Counters
from katax_cli.services.ws.tokens import address_of, headers_of, made_admin_token, sent_token, without_token
from katax_cli.services.ws.values import CLIENT_ID, MAX_MESSAGE_BYTES, SeenEvent, shown

if TYPE_CHECKING:
    from katax_cli.services.databases.clients import RedisDatabase
    from katax_cli.services.ws.transport.socketio_server import WireServer

CALL_SECONDS = 10.0
"""Longest time of a call from another thread."""
_DRAIN_GRACE = 5.0
"""Seconds that draining, which keeps its time itself, may need on top on a busy machine."""
MAX_ROOM = 200
MAX_ROOMS = 1_000
SILENT_SECONDS = 15.0
"""A connection that has not said within so long what it wants is ended."""

_log = getLogger("katax.ws")
H = TypeVar("H", bound=Callable[..., object])
MayJoin = Callable[[Client, str], bool]


class Sockets:
    """One Socket.IO server, listening until `close`; its methods may be called from any thread but the loop's.

    Clients send `auth: {token}` when there is an `auth_token`, and go into rooms with the events `join` and
    `leave`, acknowledged with `{"ok": …}`, when `may_join(client, room)` lets them. With `redis` several servers
    of one name act as one. Raises Refused for a host beyond loopback without a token unless `insecure`,
    ConfigError when the port is taken.
    """

    def __init__(
        self,
        settings: WsSettings,
        *,
        home: str,
        redis: RedisDatabase | None = None,
        may_join: MayJoin | None = None,
        insecure: bool = False,
        acknowledge: bool = False,
    ) -> None:
        if settings.host not in LOOPBACK and settings.auth_token is None and not insecure:
            raise Refused(
                f"ws {settings.name!r} would listen on {settings.host} without a token; "
                "set auth_token, or repeat with --insecure"
            )
        self.settings = settings
        self.name = settings.name
        self.counters = Counters()
        self.clients: dict[str, Client] = {}
        self.closing = False
        self.guesses = Guesses()
        self._may_join = may_join and plain(may_join, "may_join")
        self._acknowledge = acknowledge
        self._handlers: dict[str, KnowingHandler] = {}
        self._greeters: list[Callable[[Client], object]] = []
        self._lanes = Lanes(settings.name)
        self._token = settings.auth_token
        if self._token is not None:
            self._token.reveal()
        admin = made_admin_token(settings, home)
        # Imported now: Socket.IO takes longer to import than the rest of katax together.
        from katax_cli.services.ws.listener import Listener

        self._loop = EventLoop(settings.name)
        try:
            self.cluster = self._make_cluster(redis)
            self.io = self._make_server()
            self._listener = Listener(self)
            self.cluster.start(self.port)
            self._loop.call(self._start(admin), CALL_SECONDS)
        except BaseException:
            self._give_up()
            raise

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._listener.port

    @property
    def url(self) -> str:
        """The URL of its clients, without the path."""
        host = self.settings.host
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def ready(self) -> bool:
        """True while it serves, and hears the others."""
        return not self.closing and self.cluster.hears

    def emit(self, event: str, data: Any = None) -> None:
        """Sends an event to every client. Raises ValueError for data that JSON cannot hold."""
        self._call(self.io.emit(event, data))

    def emit_to_room(self, room: str, event: str, data: Any = None) -> None:
        """Sends an event to the clients in a room; a client's id is a room of its own."""
        self._call(self.io.emit(event, data, room=room))

    def emit_soon(self, event: str, data: Any = None, *, room: str | None = None) -> None:
        """Sends without waiting, from any thread, the loop's too; what goes wrong is logged."""
        self._loop.start(self._emit_quietly(event, data, room))

    def on(self, event: str, handler: H) -> H:
        """Calls `handler(data)` for an event of any client, in a worker thread; it returns the acknowledgement.

        A handler that needs two arguments is called as `handler(data, client)`.
        Events of one client keep their order. Raises TypeError for a coroutine function.
        """
        called = plain(handler, f"on({event!r})")
        self._handlers[event] = called if takes_client(called) else lambda data, _client: called(data)
        return handler

    def on_connection(self, greeter: Callable[[Client], object]) -> Callable[[Client], object]:
        """Calls `greeter(client)` for each client that has connected, before its first event is handled."""
        self._greeters.append(plain(greeter, "on_connection()"))
        return greeter

    def has_room_listeners(self, room: str) -> bool:
        """True when a client is in the room, on any server of this name."""
        return self.room_clients_count(room) > 0

    def room_clients_count(self, room: str) -> int:
        """The number of clients in a room, on all servers of this name."""
        return sum(each.value for each in self.cluster.ask("count", room).answers)

    def clients_count(self) -> int:
        """The number of connected clients, on all servers of this name."""
        return sum(each.value for each in self.cluster.ask("count", None).answers)

    def move(self, sid: str, room: str, *, joining: bool) -> None:
        """Puts a client into a room, or takes it out."""
        move = self.io.enter_room if joining else self.io.leave_room
        self._call(move(sid, room))

    def rooms_of(self, sid: str) -> list[str]:
        """The rooms of a client of this server."""
        return sorted(room for room in self.io.manager.get_rooms(sid, "/") or () if room not in (None, sid))

    def kick(self, sid: str) -> None:
        """Ends a client's connection, on whichever server it is."""
        self._call(self.io.disconnect(sid))

    def close(self, timeout: float = 10.0) -> int:
        """Tells the clients (event `server_closing`), drains, and ends; returns how many had to be cut off.

        Its clients see a lost connection, so that they come back, to another server if there is one. Handlers
        that run and messages that wait have `timeout` seconds.
        """
        if self.closing:
            return 0
        self.closing = True
        deadline = Deadline(timeout)
        try:
            return self._loop.call(self._drain(deadline), timeout + _DRAIN_GRACE)
        finally:
            self.cluster.close(max(0.1, deadline.remaining() - 0.2))
            self.admin.close()
            self._lanes.close()
            self._loop.stop(max(0.2, deadline.remaining()))

    def answer(self, what: str, argument: Any) -> Any:
        """This server's answer to the others of its name; on the loop."""
        if what == "clients":
            return [self._described(client) for client in list(self.clients.values())]
        if what == "count":
            return len(self.io.manager.rooms.get("/", {}).get(argument, ()))
        if what == "rooms":
            rooms = self.io.manager.rooms.get("/", {})
            return {
                room: len(members)
                for room, members in rooms.items()
                if room is not None and room not in self.clients
            }
        return True

    def __repr__(self) -> str:
        return f"<Sockets {self.name!r} at {self.url}{self.settings.path}>"

    def _give_up(self) -> None:
        """Ends what there is of a server that could not start."""
        if "_listener" in self.__dict__:
            self._listener.close()
        if "cluster" in self.__dict__:
            self.cluster.close(CALL_SECONDS)
        self._loop.stop(CALL_SECONDS)

    async def _answered(self, what: str, argument: Any) -> Any:
        return self.answer(what, argument)

    def _call(self, work: Any) -> None:
        self._loop.call(work, CALL_SECONDS)

    def _make_cluster(self, redis: RedisDatabase | None) -> Cluster:
        if redis is None:
            return SingleServer(
                lambda what, argument: self._loop.call(self._answered(what, argument), CALL_SECONDS)
            )
        from katax_cli.services.ws.shared import ClusterMember

        return ClusterMember(redis, self.name, answer=self.answer, soon=self._loop.soon)

    def _make_server(self) -> WireServer:
        from katax_cli.services.ws.transport.socketio_server import LocalManager, WireServer

        cors = self.settings.cors
        return WireServer(
            observe=self._observe,
            cut=lambda scope: self._listener.cut(scope),
            client_manager=self.cluster.manager() or LocalManager(),
            async_mode="asgi",
            cors_allowed_origins="*" if "*" in cors else list(cors) or None,
            max_http_buffer_size=MAX_MESSAGE_BYTES,
            namespaces=["/"],
        )

    async def _start(self, admin_token: Any) -> None:
        from katax_cli.services.ws.admin import Admin

        self.io.on("connect", self._connect)
        self.io.on("disconnect", self._disconnect)
        self.io.on("*", self._dispatch)
        self.admin = Admin(self, admin_token)
        self.io.register_namespace(self.admin)
        self.io.manager_initialized = True
        self.io.manager.initialize()
        await self._listener.start()

    async def _connect(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        from socketio import exceptions

        address = address_of(environ)
        if self._token is not None:
            if not await self.guesses.allows(address, sent_token(auth, environ), self._token):
                self.counters.refused += 1
                raise exceptions.ConnectionRefusedError("wrong or missing token; send it as auth.token")
            auth = without_token(auth)
        eio_sid = self.io.manager.eio_sid_from_sid(sid, "/")
        if not self.io.is_open(eio_sid):
            raise exceptions.ConnectionRefusedError("it left while its token waited to be compared")
        client = Client(
            self,
            sid,
            address=address,
            transport=self.io.eio.transport(eio_sid),
            auth=auth,
            headers=headers_of(environ),
        )
        self.clients[sid] = client
        self.counters.connected += 1
        for greeter in self._greeters:
            asyncio.get_running_loop().create_task(self._run("connection", sid, partial(greeter, client)))

    async def _disconnect(self, sid: str, reason: str) -> None:
        client = self.clients.pop(sid, None)
        handler = None if client is None else client.handlers.get("disconnect")
        if handler is not None:
            await self._run("disconnect", sid, partial(handler, reason))

    async def _dispatch(self, event: str, sid: str, *arguments: Any) -> Any:
        self.counters.received += 1
        client = self.clients.get(sid)
        if client is None:
            return None
        data = arguments[0] if len(arguments) == 1 else list(arguments) or None
        return await self._run(event, sid, partial(self._handled, client, event, data))

    def _handled(self, client: Client, event: str, data: Any) -> Any:
        """Runs the handler; looked up in the lane of the greeter and after it, because that may register it."""
        own, common = client.handlers.get(event), self._handlers.get(event)
        if own is not None:
            return own(data)
        if common is not None:
            return common(data, client)
        if event in ("join", "leave"):
            return self._moved(client, data, joining=event == "join")
        return {"received": True} if self._acknowledge else self.io.not_handled

    async def _run(self, event: str, sid: str, call: Callable[[], Any]) -> Any:
        try:
            return await self._lanes.run(sid, call)
        except Exception:  # noqa: BLE001 - the program's function; its failure is its own
            self.counters.failed += 1
            _log.exception("the handler of event %r failed", shown(event))
            return {"error": "the handler failed"}

    def _moved(self, client: Client, data: Any, *, joining: bool) -> dict[str, Any]:
        """The answer to `join` and `leave`: a room's name, or `{"room": name}`."""
        room = data.get("room") if isinstance(data, Mapping) else data
        problem = self._problem(client, room, joining=joining)
        if problem or not isinstance(room, str):
            return {"ok": False, "error": problem}
        try:
            self.move(client.id, room, joining=joining)
        except ValueError as error:
            return {"ok": False, "error": str(error)}
        return {"ok": True, "room": room}

    def _problem(self, client: Client, room: Any, *, joining: bool) -> str | None:
        if not isinstance(room, str) or not 0 < len(room) <= MAX_ROOM:
            return f"a room is a name of 1 to {MAX_ROOM} characters"
        # Every client's id is a room too: whoever could join it would read along.
        if room.startswith(CLIENT_ID):
            return "this room is not open to you"
        if not joining:
            return None
        if self._may_join and not completed(self._may_join(client, room), self._may_join, "may_join"):
            return "this room is not open to you"
        return f"{MAX_ROOMS} rooms are the limit" if len(client.rooms) >= MAX_ROOMS else None

    def _observe(self, seen: SeenEvent) -> None:
        if seen.sid is None:
            self.counters.emitted += 1
        self.admin.observe(seen)

    def _described(self, client: Client) -> dict[str, Any]:
        return {
            "sid": client.id,
            "address": client.address,
            "transport": self._transport(client),
            "connected_at": client.connected_at.isoformat(timespec="milliseconds"),
            "rooms": self.rooms_of(client.id),
        }

    def _transport(self, client: Client) -> str:
        """As it is now: most clients begin with polling and go on with a WebSocket."""
        eio_sid = self.io.manager.eio_sid_from_sid(client.id, "/")
        return self.io.eio.transport(eio_sid) if eio_sid in self.io.eio.sockets else client.transport

    async def _emit_quietly(
        self, event: str, data: Any, room: str | None, *, ignore_queue: bool = False
    ) -> None:
        try:
            await self.io.emit(event, data, room=room, ignore_queue=ignore_queue)
        except Exception:  # noqa: BLE001 - nobody waits for it
            _log.exception("event %r could not be sent", event)

    async def _drain(self, deadline: Deadline) -> int:
        # Only its own clients: the servers that share its Redis go on.
        await self._emit_quietly("server_closing", {"reason": "shutdown"}, None, ignore_queue=True)
        away = self.io.eio.is_away
        # What is left of the time is for clients that do not read, and for the servers that are told.
        reserve = min(1.0, (deadline.seconds or 0.0) / 4)
        while deadline.remaining() > reserve and (
            self._lanes.pending or not all(away(sid) for sid in self._waiting())
        ):
            await asyncio.sleep(0.02)
        waiting = self._waiting()
        self._listener.cut(*(self.io.eio.scopes.get(sid) for sid in waiting))
        ending = asyncio.ensure_future(self._end())
        # A handler that blocks may keep it from ending; what runs then is cancelled with the loop.
        await asyncio.wait([ending], timeout=max(0.05, deadline.remaining() - reserve / 2))
        if ending.done():
            ending.result()
        return len(waiting)

    async def _end(self) -> None:
        await self._listener.stop()
        await self.io.shutdown()

    def _waiting(self) -> list[str]:
        """Connections to which something was not sent yet."""
        sockets = self.io.eio.sockets.items()
        return [sid for sid, socket in sockets if not socket.closed and not socket.queue.empty()]

    def sweep(self) -> list[str]:
        """Connections that have not asked for any namespace in time; on the loop."""
        known = {eio for rooms in self.io.manager.rooms.values() for eio in rooms.get(None, {}).values()}
        now = SYSTEM.monotonic()
        return [
            sid
            for sid, scope in list(self.io.eio.scopes.items())
            if sid not in known and now - scope.setdefault("katax.since", now) > SILENT_SECONDS
        ]
