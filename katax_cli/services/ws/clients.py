"""A server's clients as its program sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from inspect import signature
from types import MappingProxyType
from typing import Any, Protocol

EventHandler = Callable[[Any], object]
KnowingHandler = Callable[[Any, "Client"], object]
"""A handler that gets the client of its event."""


def takes_client(handler: Callable[..., object]) -> bool:
    """True for a function that needs two arguments."""
    try:
        signature(handler).bind(None)
    except TypeError:
        with suppress(TypeError):
            signature(handler).bind(None, None)
            return True
    except ValueError:  # some functions of C do not tell
        return False
    return False


class Reaches(Protocol):
    """Reaches a client by its id, on whichever server of the name it is."""

    def emit_to_room(self, room: str, event: str, data: Any = None) -> None: ...
    def move(self, sid: str, room: str, *, joining: bool) -> None: ...
    def rooms_of(self, sid: str) -> list[str]: ...
    def kick(self, sid: str) -> None: ...


class Client:
    """One client that is connected. Its methods are for handlers and other threads, as those of `Sockets` are.

    `auth` is what it sent when it connected, without the server's own token, and `headers` are those of its request,
    with small letters; both are its own words. `user` is the program's: None until `on_connection` sets it.
    """

    user: Any = None

    def __init__(
        self,
        server: Reaches,
        sid: str,
        *,
        address: str,
        transport: str,
        auth: Any = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.id = sid
        self.auth = auth
        self.headers = headers
        self.address = address
        self.transport = transport
        self.connected_at = datetime.now(UTC)
        self.handlers: dict[str, EventHandler] = {}
        self._server = server

    def on(self, event: str, handler: EventHandler) -> EventHandler:
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
