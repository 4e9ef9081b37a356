"""The counters of a server, in OpenMetrics; no token, name of a room or client in it."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from dataclasses import dataclass
from typing import Any, Protocol

from katax_cli.core.measure import openmetrics
from katax_cli.core.measure.openmetrics import Family, Sample


@dataclass(slots=True)
class Counters:
    """Since the server was started."""

    connected: int = 0
    refused: int = 0
    received: int = 0
    emitted: int = 0
    failed: int = 0


class Measured(Protocol):
    """The measured properties of a server."""

    name: str
    counters: Counters
    io: Any

    @property
    def clients(self) -> Sized: ...
    @property
    def ready(self) -> bool: ...
    def answer(self, what: str, argument: Any) -> Any: ...


def exposition(server: Measured) -> str:
    """All of it, as /metrics shows it."""
    return openmetrics.exposition(_families(server))


def _families(server: Measured) -> Iterator[Family]:
    counters, labels = server.counters, {"server": server.name}
    for name, text, value in (
        ("connections", "Clients that connected.", counters.connected),
        ("refused", "Clients with a wrong or missing token.", counters.refused),
        ("received", "Events of clients.", counters.received),
        ("emitted", "Events sent, each counted once however many clients it has.", counters.emitted),
        ("handler_failures", "Events whose handler raised.", counters.failed),
        ("cut_off", "Clients that read too slowly or spoke no Socket.IO.", server.io.dropped),
    ):
        yield Family(f"katax_ws_{name}", "counter", text, [Sample(value, labels)])
    for name, text, value in (
        ("clients", "Clients that are connected here.", len(server.clients)),
        ("rooms", "Rooms with members here.", len(server.answer("rooms", None))),
        ("ready", "1 when it serves and hears the other servers of its name.", int(server.ready)),
    ):
        yield Family(f"katax_ws_{name}", "gauge", text, [Sample(value, labels)])
