"""Notifications of PostgreSQL: a connection that comes back by itself, and says what may have been missed.

The server keeps no notification for a listener that is away.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from logging import getLogger
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from katax_cli.core.clock import SYSTEM
from katax_cli.core.forks import follow
from katax_cli.core.resilience import backoff
from katax_cli.core.resilience.deadline import NEVER, Deadline
from katax_cli.core.resilience.failure import FailureKind
from katax_cli.core.text.duration import Duration, in_seconds
from katax_cli.core.waiting import SharedEvent
from katax_cli.engines.base import SqlEngine
from katax_cli.engines.registry import part
from katax_cli.errors import ConfigError, KataxError, WrongEngine
from katax_cli.services.calls.guard import Guard, Safety, Sent
from katax_cli.services.calls.watchdog import watchdog
from katax_cli.services.databases.database import open_bounded

if TYPE_CHECKING:
    from katax_cli.engines.messages import ListensToNotifications

_LOOK_EVERY = 0.5
_PING_EVERY = 15.0
"""Seconds of silence after which the server is asked for a sign of life."""
_DEAD_AFTER = 10.0
"""Seconds that the sign may take."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 10.0
_FINAL = (FailureKind.AUTHENTICATION, FailureKind.CONFIGURATION, FailureKind.REJECTED, FailureKind.READ_ONLY)
_MOST_BYTES = 63
"""PostgreSQL silently cuts a longer name, and two channels would be one."""


class Notification(NamedTuple):
    """A notification: its channel, its payload (empty without one), and the server's process that sent it."""

    channel: str
    payload: str
    pid: int


class NotificationGap(NamedTuple):
    """The connection was away for so many seconds: notifications of that time are lost."""

    seconds: float


class Notifications:
    """The notifications of some channels: a `with` block that listens, and an iterator of what comes.

    It gives a `Notification` for each, and a `NotificationGap` whenever the connection was lost and is back. The loop
    ends when `close` is called, by any thread, when its database is closed, and after `timeout` seconds of silence.
    Raises Unavailable when the first connection fails, and later only what no waiting mends (AuthenticationFailed,
    QueryError, ConfigError). One thread, or task, reads at a time.
    """

    def __init__(
        self,
        engine: SqlEngine,
        guard: Guard,
        channels: Sequence[str],
        *,
        deadline: Deadline,
        timeout: Duration | None,
    ) -> None:
        self.channels = tuple(channels)
        self._engine = past_pooler(engine)
        self._listens: ListensToNotifications = part(engine, "streams.notifications")
        self._guard = guard
        self._deadline = deadline
        self._timeout = None if timeout is None else in_seconds(timeout)
        self._waiting: deque[Notification | NotificationGap] = deque()
        self._connection: Any = None
        self._lost_at: float | None = None
        self._heard_at = 0.0
        self._closed = SharedEvent()
        self._reading = Lock()
        follow(self)

    def after_fork(self) -> None:
        """The connection is the parent's; the child's own comes with a gap."""
        self._reading = Lock()
        if self._connection is not None:
            self._connection = None
            self._lost_at = SYSTEM.monotonic()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def __enter__(self) -> Self:
        def attempt(_sent: Sent) -> None:
            self._open(self._deadline)

        self._guard.call(attempt, deadline=self._deadline, safety=Safety.READ, doing="listening")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends it; a reader in another thread returns within a second."""
        self._closed.set()
        self._drop_unread()

    def _drop_unread(self) -> None:
        """Closes the connection unless somebody reads, who does so afterwards."""
        if self._reading.acquire(blocking=False):
            try:
                self._drop()
            finally:
                self._reading.release()

    def __iter__(self) -> Iterator[Notification | NotificationGap]:
        while (event := self.receive(self._timeout)) is not None:
            yield event

    def receive(self, timeout: Duration | None = None) -> Notification | NotificationGap | None:
        """The next one; None when `timeout` seconds pass without any, and after `close`."""
        if not self._reading.acquire(blocking=False):
            raise KataxError(
                "another thread or task reads these notifications; give each a listen() of its own"
            )
        try:
            return self._next(Deadline(timeout))
        finally:
            self._reading.release()
            # A `close` from now on finds no reader, and drops the connection itself.
            if self.closed:
                self._drop_unread()

    def _next(self, deadline: Deadline) -> Notification | NotificationGap | None:
        while not self._waiting and not self.closed:
            try:
                if self._connection is None:
                    self._come_back(deadline)
                elif not self._look(min(_LOOK_EVERY, deadline.remaining())):
                    self._ask_for_life()
            except Exception as error:  # noqa: BLE001 - final ones are raised, the others are a loss
                self._lose(error)
            if deadline.expired and not self._waiting:
                return None
        return self._waiting.popleft() if self._waiting and not self.closed else None

    def _look(self, seconds: float) -> bool:
        heard = self._listens.heard(self._connection, seconds)
        if not heard:
            return False
        self._heard_at = SYSTEM.monotonic()
        self._waiting.extend(Notification(*each) for each in heard)
        return True

    def _ask_for_life(self) -> None:
        """Silence may be that of a dead wire."""
        if SYSTEM.monotonic() - self._heard_at <= _PING_EVERY:
            return
        connection = self._connection
        with watchdog.limit(_DEAD_AFTER, lambda: self._engine.interrupt(connection)):
            self._engine.ping(connection, _DEAD_AFTER)
        self._heard_at = SYSTEM.monotonic()

    def _open(self, deadline: Deadline) -> None:
        settings = self._engine.settings
        seconds = min(settings.connect_timeout, deadline.remaining())
        connection = open_bounded(self._engine, seconds)
        try:
            with watchdog.limit(seconds, lambda: self._engine.interrupt(connection)):
                self._listens.listen(connection, self.channels, seconds)
        except BaseException:
            self._engine.close(connection)
            raise
        self._connection = connection
        self._heard_at = SYSTEM.monotonic()

    def _come_back(self, deadline: Deadline) -> None:
        """Connects again, with longer and longer pauses between the attempts, and reports the gap."""
        lost_at = SYSTEM.monotonic() if self._lost_at is None else self._lost_at
        attempt = 0
        while not self.closed:
            try:
                self._open(NEVER)
            except Exception as error:  # noqa: BLE001 - final ones are raised
                self._lose(error)
                attempt += 1
                longest = backoff.ceiling(attempt, initial=_FIRST_PAUSE, multiplier=2.0, max=_LONGEST_PAUSE)
                pause = backoff.full_jitter(longest, SYSTEM.random)
                self._closed.wait(min(pause, deadline.remaining()))
                if deadline.expired:
                    return
            else:
                gap = NotificationGap(SYSTEM.monotonic() - lost_at)
                getLogger("katax").debug(
                    "listening on %r was away for %.1f s", self._guard.connection, gap.seconds
                )
                self._lost_at = None
                self._waiting.append(gap)
                return

    def _lose(self, error: Exception) -> None:
        """Raises what waiting does not mend."""
        failure = self._engine.classify(error)
        self._drop()
        if isinstance(error, OSError) or failure.kind not in (FailureKind.UNKNOWN, *_FINAL):
            self._lost_at = SYSTEM.monotonic() if self._lost_at is None else self._lost_at
            return
        self._closed.set()
        with self._guard.translating(deadline=NEVER, safety=Safety.READ, doing="listening"):
            raise error

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._engine.close(connection)


def check_engine(engine: SqlEngine, wanted_by: str) -> None:
    """Raises WrongEngine for an engine without notifications."""
    if engine.dialect != "postgresql":
        raise WrongEngine(engine.name, "notifications", wanted_by=wanted_by, works_on=("postgresql",))


def past_pooler(engine: SqlEngine) -> SqlEngine:
    """The engine of a session of its own. Raises ConfigError behind a transaction pooler."""
    settings = engine.settings
    check_engine(engine, "listen()")
    if settings.pooler is None:
        return engine
    if settings.direct is None:
        raise ConfigError(
            f"{settings.name!r} is behind a transaction pooler, where LISTEN has no session to live in; "
            "set its direct_url"
        )
    make: Callable[[Any], SqlEngine] = type(engine)
    return make(settings.direct)


def check_channels(channels: Sequence[str]) -> None:
    """Raises ValueError for what is no name of a channel."""
    if not channels:
        raise ValueError("listen() has no channel; name at least one")
    for channel in channels:
        if not channel or "\0" in channel or len(channel.encode()) > _MOST_BYTES:
            raise ValueError(
                f"channel {channel!r}: a name has 1 to {_MOST_BYTES} bytes, and no NUL character"
            )
