"""Names and limits that the parts of a Socket.IO server share; imports no Socket.IO."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any, NamedTuple

from katax_cli.core.text.text import printable

NAMESPACE = "/katax"
"""Reserved for katax's own commands."""
OBSERVERS = "observers"
SEEN = "seen"

CLIENT_ID = "sid."
"""So begins the id of every client; rooms of such names are closed to clients, whichever server an id is of."""

MAX_MESSAGE_BYTES = 1_000_000
"""A packet with all its attachments; a request of a client that polls."""
MAX_ATTACHMENTS = 1_000
MAX_DEPTH = 100
"""Lists and objects within each other in the data of a packet."""
RESERVED = frozenset(
    ("*", "connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener")
)
"""Events of Socket.IO itself; a client that is sent one ends its connection, and one that sends it loses its own."""
MAX_SESSIONS = 10_000
"""Clients of a server, those counted that have only begun to connect."""
MAX_HANDLING = 1_000
MAX_HANDLING_BYTES = 4_000_000
"""Events of one client that may wait for their handlers; until some are handled it is not read."""
MAX_QUEUED = 1_000
MAX_QUEUED_BYTES = 16_000_000
"""What may wait for one client; a client that does not read so much is cut off."""

AsgiScope = MutableMapping[str, Any]
"""A connection or request as ASGI describes it."""


class SeenEvent(NamedTuple):
    """An event that passed: from the client `sid`, or from the server (None), to `room` (None: all clients)."""

    event: str
    room: str | None
    data: Any
    sid: str | None


Observe = Callable[[SeenEvent], object]


def shown(text: object) -> str:
    """A word of a client, fit for a log line."""
    return printable(str(text))[:200]
