"""Reports of this process's Socket.IO servers to the state database."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.services.state.call_report import EventRate

if TYPE_CHECKING:
    from katax_cli.services.ws.server import Sockets


class SocketReport:
    """A row for each of `servers()`, of the clients and events of this process alone."""

    def __init__(self, servers: Callable[[], Iterable[Sockets]], *, clock: Clock = SYSTEM) -> None:
        self._servers = servers
        self._clock = clock
        self._received, self._emitted = EventRate(), EventRate()

    def __call__(self) -> list[dict[str, Any]]:
        now = self._clock.monotonic()
        return [self._row(server, now) for server in self._servers()]

    def _row(self, server: Sockets, now: float) -> dict[str, Any]:
        clients, counters = len(server.clients), server.counters
        return {
            "name": server.name,
            "clients": clients,
            "rooms": _rooms(server, clients),
            "received_per_second": self._received.of(server.name, counters.received, now),
            "emitted_per_second": self._emitted.of(server.name, counters.emitted, now),
            "refused": counters.refused,
            "trouble": trouble(server),
        }


def _rooms(server: Sockets, clients: int) -> int:
    """Each client is a room too, and all of them together are one."""
    rooms = server.io.manager.rooms.get("/", {})
    return max(0, len(rooms) - clients - (None in rooms))


def trouble(server: Sockets) -> str | None:
    """The reason why a server does not do all of its work; None when it does."""
    if server.closing:
        return "it is closing"
    return None if server.ready else "it does not hear the other servers of its name"
