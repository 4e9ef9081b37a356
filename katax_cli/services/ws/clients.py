"""A server's clients as its program sees them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from katax_cli.services.ws.server import Sockets

Handler = Callable[[Any], object]


class Client:
    """One client that is connected. Its methods are for handlers and other threads, as those of `Sockets` are."""

    def __init__(self, server: Sockets, sid: str, *, address: str, transport: str) -> None:
        self.id = sid
        self.address = address
        self.transport = transport
        self.connected_at = datetime.now(UTC)
        self.handlers: dict[str, Handler] = {}
        self._server = server

    def on(self, event: str, handler: Handler) -> Handler:
        """Calls `handler(data)` for this client's events; what it returns is the acknowledgement."""
        self.handlers[event] = handler
        return handler

    def emit(self, event: str, data: Any = None) -> None:
        """Sends an event to this client alone."""
        self._server.emit_to_room(self.id, event, data)

    def join(self, room: str) -> None:
        """Puts it into a room, whatever the policy says."""
        self._server.move(self.id, room, joining=True)

    def leave(self, room: str) -> None:
        """Takes it out of a room."""
        self._server.move(self.id, room, joining=False)

    @property
    def rooms(self) -> list[str]:
        """The rooms that it is in, sorted."""
        return self._server.rooms_of(self.id)

    def disconnect(self) -> None:
        """Ends its connection; Socket.IO's clients do not come back by themselves after that."""
        self._server.kick(self.id)

    def __repr__(self) -> str:
        return f"<Client {self.id} from {self.address}>"
