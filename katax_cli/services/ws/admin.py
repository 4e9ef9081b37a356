"""The namespace `/katax`: what `katax ws` asks of a server, behind a token of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from secrets import token_hex
from typing import Any, Protocol

from socketio import AsyncNamespace, exceptions

from katax_cli.core.settings import Secret
from katax_cli.errors import KataxError, Unavailable
from katax_cli.services.ws.cluster import Cluster, Poll
from katax_cli.services.ws.guesses import Guesses
from katax_cli.services.ws.loop import Lanes
from katax_cli.services.ws.metrics import Counters
from katax_cli.services.ws.tokens import address_of, sent_token
from katax_cli.services.ws.values import NAMESPACE, OBSERVERS, SEEN, SeenEvent


class Administered(Protocol):
    """The methods of a server that the administration calls."""

    name: str
    counters: Counters
    guesses: Guesses
    cluster: Cluster
    io: Any


class Admin(AsyncNamespace):  # type: ignore[misc]
    """Every request is acknowledged with its answer, or with `{"error": text}`.

    Observers get `seen` for every event that passes here, numbered without gaps as `seq` of this `worker`.
    """

    def __init__(self, server: Administered, token: Secret) -> None:
        super().__init__(NAMESPACE)
        self._sockets = server
        self._token = token
        self._lanes = Lanes(f"{server.name}-admin", lanes=4, waiting=100)
        self._id = token_hex(8)
        self._seq = 0

    async def trigger_event(self, event: str, *args: Any) -> Any:
        try:
            return await super().trigger_event(event, *args)
        except KataxError as error:
            return {"error": str(error), "unavailable": isinstance(error, Unavailable)}

    async def on_connect(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        server = self._sockets
        if not await server.guesses.allows(address_of(environ), sent_token(auth, environ), self._token):
            server.counters.refused += 1
            raise exceptions.ConnectionRefusedError("wrong or missing admin token")
        if not server.io.is_open(server.io.manager.eio_sid_from_sid(sid, NAMESPACE)):
            raise exceptions.ConnectionRefusedError("it left while its token waited to be compared")

    async def on_observe(self, sid: str, _request: Any = None) -> dict[str, Any]:
        await self.enter_room(sid, OBSERVERS)
        return {"worker": self._id, "seq": self._seq}

    async def on_emit(self, _sid: str, request: Any) -> dict[str, Any]:
        if not isinstance(request, Mapping) or not isinstance(request.get("event"), str):
            return {"error": "expected an event with its name"}
        room = request.get("room")
        poll = await self._ask("count", room)
        try:
            await self._sockets.io.emit(request["event"], request.get("data"), room=room)
        except ValueError as error:
            return {"error": str(error)}
        return {"clients": sum(answer.value for answer in poll.answers), "deaf": _names(poll)}

    async def on_clients(self, _sid: str, _request: Any = None) -> dict[str, Any]:
        poll = await self._ask("clients")
        workers = {worker.id: worker for worker in poll.workers}
        rows = [
            {**client, "worker": f"{workers[answer.worker].host}:{workers[answer.worker].pid}"}
            for answer in poll.answers
            if answer.worker in workers
            for client in answer.value
        ]
        return {"clients": rows, "deaf": _names(poll)}

    async def on_rooms(self, _sid: str, _request: Any = None) -> dict[str, Any]:
        poll = await self._ask("rooms")
        rooms: dict[str, int] = {}
        for answer in poll.answers:
            for room, count in answer.value.items():
                rooms[room] = rooms.get(room, 0) + count
        return {"rooms": dict(sorted(rooms.items())), "deaf": _names(poll)}

    async def on_kick(self, _sid: str, request: Any) -> dict[str, Any]:
        poll = await self._ask("clients")
        known = {client["sid"] for answer in poll.answers for client in answer.value}
        if request not in known:
            return {"kicked": False, "deaf": _names(poll)}
        await self._sockets.io.disconnect(request)
        return {"kicked": True, "deaf": []}

    async def on_doctor(self, _sid: str, _request: Any = None) -> dict[str, Any]:
        """A canary through the channel that events take, which every worker has to acknowledge."""
        poll = await self._ask("canary")
        acks = {answer.worker: round(answer.ack_ms, 1) for answer in poll.answers}
        workers = [
            {**asdict(worker), "listening": worker.id in acks, "ack_ms": acks.get(worker.id)}
            for worker in poll.workers
        ]
        return {"workers": workers, "subscribers": poll.subscribers}

    def observe(self, seen: SeenEvent) -> None:
        """Shows an event to the observers, if there are any; on the loop."""
        self._seq += 1
        rooms = self._sockets.io.manager.rooms.get(NAMESPACE, {})
        if OBSERVERS not in rooms:
            return
        row = {**seen._asdict(), "seq": self._seq}
        # Each worker's observers see what passes it, so this goes to nobody else.
        work = self._sockets.io.emit(SEEN, row, room=OBSERVERS, namespace=NAMESPACE, ignore_queue=True)
        self._sockets.io.start_background_task(lambda: work)

    def close(self) -> None:
        self._lanes.close()

    async def _ask(self, what: str, argument: Any = None) -> Poll:
        # Its own questions block, so they wait in threads.
        return await self._lanes.run(what, partial(self._sockets.cluster.ask, what, argument))


def _names(poll: Poll) -> list[str]:
    return [f"{worker.host}:{worker.pid}" for worker in poll.deaf]
