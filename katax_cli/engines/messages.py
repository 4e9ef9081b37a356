"""Messages between programs: what an engine with channels does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable


class SubscriberMessage(NamedTuple):
    """An event of a subscriber: a `message` (of the `pattern`, if it was one), or an answer to a command."""

    kind: str
    pattern: bytes | None
    channel: bytes
    message: bytes


class Subscriber(Protocol):
    """Listens to channels on a connection of its own; one thread receives, any thread may send."""

    def send(self, command: str, names: Sequence[bytes] = ()) -> None:
        """SUBSCRIBE, PSUBSCRIBE, UNSUBSCRIBE, PUNSUBSCRIBE with names, or PING."""
        ...

    def receive(self, timeout: float) -> SubscriberMessage | None:
        """Returns the next event within `timeout` seconds, None without one."""
        ...

    def close(self) -> None: ...

    def abandon(self) -> None:
        """In a forked child: closes its copy of the parent's socket and sends nothing."""
        ...


@runtime_checkable
class Subscribes(Protocol):
    """Delivers messages as they are published."""

    def subscriber(self, timeout: float | None) -> Subscriber:
        """Connects within `timeout`; messages are waited for without limit."""
        ...


class Notified(NamedTuple):
    """A notification of a SQL server: channel, payload, and the process that sent it."""

    channel: str
    payload: str
    pid: int


class ListensToNotifications(Protocol):
    """Notifications on a connection that does nothing else; the engine's module `streams.notifications`."""

    def listen(self, connection: Any, channels: Sequence[str], timeout: float | None) -> None:
        """From now on the connection receives their notifications."""
        ...

    def heard(self, connection: Any, seconds: float) -> list[Notified]:
        """Those that have arrived, as soon as there are any; none after so many seconds."""
        ...
