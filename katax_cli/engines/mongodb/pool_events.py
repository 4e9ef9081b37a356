"""Reads pymongo's events: the use of the pool, and whether a failed command had been sent."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any, TypeVar

from pymongo import monitoring

from katax_cli.snapshot import PoolStats


class PoolWatch(monitoring.ConnectionPoolListener):
    """Counts a client's connections; pymongo's monitor has some of its own that belong to no pool."""

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._lock = threading.Lock()
        self._seen: Counter[str] = Counter()

    def stats(self) -> PoolStats:
        """Over all servers; `max` is the limit of each server's pool times the servers there are."""
        with self._lock:
            seen = self._seen.copy()
        active = seen["out"] - seen["in"]
        total = seen["opened"] - seen["closed"]
        return PoolStats(
            max=self._max_size * max(1, seen["pools"] - seen["pools closed"]),
            total=total,
            active=active,
            idle=max(0, total - active),
            waiting=seen["asked"] - seen["out"] - seen["failed"],
        )

    def opened(self) -> int:
        """Connections opened so far."""
        with self._lock:
            return self._seen["opened"]

    def _note(self, what: str) -> None:
        with self._lock:
            self._seen[what] += 1

    def pool_created(self, event: monitoring.PoolCreatedEvent) -> None:
        self._note("pools")

    def pool_closed(self, event: monitoring.PoolClosedEvent) -> None:
        self._note("pools closed")

    def pool_ready(self, event: monitoring.PoolReadyEvent) -> None: ...

    def pool_cleared(self, event: monitoring.PoolClearedEvent) -> None: ...

    def connection_created(self, event: monitoring.ConnectionCreatedEvent) -> None:
        self._note("opened")

    def connection_ready(self, event: monitoring.ConnectionReadyEvent) -> None: ...

    def connection_closed(self, event: monitoring.ConnectionClosedEvent) -> None:
        self._note("closed")

    def connection_check_out_started(self, event: monitoring.ConnectionCheckOutStartedEvent) -> None:
        self._note("asked")

    def connection_check_out_failed(self, event: monitoring.ConnectionCheckOutFailedEvent) -> None:
        self._note("failed")

    def connection_checked_out(self, event: monitoring.ConnectionCheckedOutEvent) -> None:
        self._note("out")

    def connection_checked_in(self, event: monitoring.ConnectionCheckedInEvent) -> None:
        self._note("in")


class _Thread(threading.local):
    sent = False
    answered = False


class SendWatch(monitoring.CommandListener):
    """Knows whether a command of the current thread was sent, and one answered, since `forget`.

    pymongo raises the same error for a connection that could not be opened and for an answer that did not
    come; it announces a command on the caller's thread right before sending it, and logins not at all.
    """

    _thread = _Thread()

    @classmethod
    def forget(cls) -> None:
        cls._thread.sent = cls._thread.answered = False

    @classmethod
    def sent(cls) -> bool:
        return cls._thread.sent

    @classmethod
    def answered(cls) -> bool:
        return cls._thread.answered

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self._thread.sent = True

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        self._thread.answered = True

    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...


class RunningWatch(monitoring.CommandListener):
    """Knows the sessions of the commands that are under way; one that was interrupted stays among them."""

    def __init__(self) -> None:
        self._sessions: dict[int, Any] = {}

    def sessions(self) -> list[Any]:
        """As killSessions takes them."""
        return list(self._sessions.copy().values())

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        session = event.command.get("lsid")
        if session is not None:
            self._sessions[event.request_id] = session

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        self._sessions.pop(event.request_id, None)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        self._sessions.pop(event.request_id, None)


L = TypeVar("L")


def listener_of(client: Any, kind: type[L]) -> L:
    """The listener of this class that `connect` gave to the client."""
    return next(listener for listener in client.options.event_listeners if isinstance(listener, kind))
