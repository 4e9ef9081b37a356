"""The servers that reads of a connection may go to instead of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Lock
from typing import Generic, Protocol, TypeVar

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.resilience.retry import sole_owner
from katax_cli.core.settings import ConnectionSettings
from katax_cli.core.text.duration import Duration
from katax_cli.errors import Unavailable


class Connects(Protocol):
    """The methods of a replica that are called before it is handed out."""

    def connect(self, *, timeout: Duration | None = None) -> None: ...


D = TypeVar("D", bound=Connects)


class Replicas(Generic[D]):
    """The replicas of one connection, each with a pool and a breaker of its own, opened when they are used.

    A replica spares the primary, so the primary never replaces one.
    """

    def __init__(
        self,
        settings: Sequence[ConnectionSettings],
        make: Callable[[ConnectionSettings], D],
        *,
        clock: Clock = SYSTEM,
    ) -> None:
        self._settings = tuple(settings)
        self._make = make
        self._clock = clock
        self._lock = Lock()
        self._opened: dict[str, D] = {}

    def choose(self, timeout: Duration | None = None) -> D:
        """A replica that can be reached: a random one, and the next one for each that cannot.

        Raises the last one's Unavailable when none can be.
        """
        first = int(self._clock.random() * len(self._settings))
        *others, last = *self._settings[first:], *self._settings[:first]
        for other in others:
            with suppress(Unavailable):
                return self._connected(other, timeout)
        return self._connected(last, timeout)

    def opened(self) -> list[D]:
        """Those that were used."""
        return list(self._opened.values())

    def _connected(self, settings: ConnectionSettings, timeout: Duration | None) -> D:
        with self._lock:
            if settings.name not in self._opened:
                self._opened[settings.name] = self._make(settings)
            database = self._opened[settings.name]
        # One attempt each: the next replica is a better second one.
        with sole_owner():
            database.connect(timeout=timeout)
        return database
