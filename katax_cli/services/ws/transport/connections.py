"""uvicorn's connections with an end to what they keep: they wait for requests, pongs and fragments without one.

This borrows `cycle`, `frames`, `writable`, `handle_ping` and `handle_cont` of uvicorn. Without it 40 MB of pings whose
answers were not read cost a server 33 MB that it kept, now nothing;
`tests/services/ws/transport/test_connections.py` fails when uvicorn moves.
"""

from __future__ import annotations

import resource
from asyncio import BaseTransport, TimerHandle
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

MAX_CONNECTIONS = 10_000
RESERVED_FILES = 64
REQUEST_SECONDS = 15.0
MAX_HEADER_BYTES = 16_384
MAX_FRAGMENTS = 10_000
MAX_UNREAD_PONGS = 100
_LAST_LOOK = 0.05
"""Seconds in which a request that has arrived, and was not read yet, is read when the server ends."""


def most_connections() -> int:
    """As many as there may be files open, without some for databases and logs, and 10,000 at the most."""
    files, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(MAX_CONNECTIONS, max(1, files - RESERVED_FILES))


class HttpConnection(H11Protocol):
    """Ends a connection whose request has not come within 15 s, and those beyond `most_connections()`."""

    _request_by: TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        if len(self.connections) > most_connections():
            self.transport.abort()
            return
        self._expect_request()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        is_upgraded = self not in self.connections
        if is_upgraded or (self.cycle is not None and not self.cycle.response_complete):
            self._stop_expecting()
        elif self._request_by is None:
            self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_expecting()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Closes an idle connection a moment later: a request that the kernel holds is answered first."""
        self.loop.call_later(_LAST_LOOK, self._end)

    def _end(self) -> None:
        if self.transport.is_closing():
            return
        if self in self.connections:
            super().shutdown()
        else:
            self.transport.get_protocol().shutdown()  # type: ignore[attr-defined]

    def _expect_request(self) -> None:
        self._request_by = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _stop_expecting(self) -> None:
        if self._request_by is not None:
            self._request_by.cancel()
            self._request_by = None


class WebSocketConnection(WebSocketsSansIOProtocol):
    """Ends a connection that pings and does not read the answers, or sends a message in too many fragments."""

    _unread_pongs = 0

    def handle_ping(self) -> None:
        super().handle_ping()
        self._unread_pongs = 0 if self.writable.is_set() else self._unread_pongs + 1
        if self._unread_pongs > MAX_UNREAD_PONGS:
            self.transport.abort()

    def handle_cont(self, event: Any) -> None:
        super().handle_cont(event)
        if len(self.frames) > MAX_FRAGMENTS:
            self.frames = []
            self.transport.abort()
