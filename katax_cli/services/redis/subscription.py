"""One connection of a subscriber, which comes back by itself, subscribes again, and says what was missed.

Redis keeps no message for a subscriber that is away: messages published meanwhile are lost, and the gap is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from logging import getLogger
from threading import Event, Lock, Thread, current_thread
from typing import Any

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.forks import follow
from katax_cli.core.resilience import backoff
from katax_cli.core.resilience.deadline import NEVER, Deadline
from katax_cli.core.resilience.failure import FailureKind
from katax_cli.core.text.duration import Duration
from katax_cli.core.text.text import to_bytes, to_text
from katax_cli.engines.base import require
from katax_cli.engines.messages import Subscriber, SubscriberMessage, Subscribes
from katax_cli.errors import KataxError, PoolClosed, Unavailable
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.redis.keyspace import escape_glob
from katax_cli.services.redis.values import JSON, Codec

_PING_EVERY = 15.0
"""Seconds of silence after which the server is asked for a sign of life."""
_DEAD_AFTER = 10.0
"""Seconds that the sign may take."""
_LOOK_EVERY = 0.5
_FINAL = (FailureKind.AUTHENTICATION, FailureKind.CONFIGURATION, FailureKind.REJECTED)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 10.0


@dataclass(frozen=True)
class Message:
    """A received message; `channel` and `pattern` are without the connection's prefix."""

    channel: str
    pattern: str | None
    data: bytes
    received_at: datetime
    codec: Codec = field(default=JSON, repr=False, compare=False)

    @cached_property
    def value(self) -> Any:
        """JSON where it is JSON, else its text, unless a codec was given."""
        return self.codec.decode(self.data)

    def is_readable(self) -> bool:
        """False when the codec raises, which is logged: anybody may publish, and the next message may be readable."""
        try:
            _ = self.value
        except Exception:
            getLogger("katax").exception("a message of %r could not be decoded", self.channel)
            return False
        return True


class Subscription:
    """One connection and its thread, which hands every message to `on_message`.

    It is opened by `start`, which raises what a first connect meets (Unavailable, AuthenticationFailed); later
    losses are repaired: exponential pauses with full jitter (see core.backoff) up to 10 s, subscribing again,
    then `on_gap(seconds)`. A silent wire is noticed after 25 s. `on_end(error)` is called when it cannot go
    on: the login or the subscription is refused, or `on_message` failed. `prefix` is what names of channels and
    patterns begin with on the server, unless it is the connection's.
    """

    def __init__(
        self,
        redis: RedisDatabase,
        *,
        on_message: Callable[[Message], object],
        on_gap: Callable[[float], object] = lambda _: None,
        on_end: Callable[[BaseException], object] = lambda _: None,
        prefix: str | None = None,
        codec: Codec = JSON,
        ping_every: float = _PING_EVERY,
        dead_after: float = _DEAD_AFTER,
        clock: Clock = SYSTEM,
    ) -> None:
        self._redis = redis
        self._engine = require(
            redis.engine, Subscribes, lacks="channels", wanted_by="subscribe", works_on=("redis",)
        )
        start = redis.settings.prefix if prefix is None else prefix
        full = to_bytes(start)
        self._prefixes = {"SUBSCRIBE": full, "PSUBSCRIBE": escape_glob(full)}
        self._on_message, self._on_gap, self._on_end = on_message, on_gap, on_end
        self._codec = codec
        self._ping_every, self._dead_after = ping_every, dead_after
        self._clock = clock
        self._names: dict[str, set[bytes]] = {"SUBSCRIBE": set(), "PSUBSCRIBE": set()}
        self._changing = Lock()
        self._subscriber: Subscriber | None = None
        self._closed = Event()
        self._confirmed = Event()
        self._ended_by: Exception | None = None
        self._lost_at: float | None = None
        self._unconfirmed = 0
        self._thread: Thread | None = None
        follow(self)

    def after_fork(self) -> None:
        """Lets go of the parent's connection and subscribes on one of its own, as after a gap."""
        ran = self._thread is not None and not self._closed.is_set()
        subscriber, self._subscriber = self._subscriber, None
        self._changing = Lock()
        self._thread = None
        if subscriber is not None:
            subscriber.abandon()
        if ran:
            self._closed, self._confirmed = Event(), Event()
            self._lost_at = self._clock.monotonic()
            self._start_thread()

    def start(
        self,
        *,
        channels: Sequence[str] = (),
        patterns: Sequence[str] = (),
        timeout: Duration | None = None,
    ) -> None:
        """Connects, subscribes, and returns once the server has confirmed it, within `timeout` seconds.

        Raises KataxError, or what ended it for good, once it has ended; PoolClosed when the database is closed.
        """
        self._raise_its_end()
        if self._redis.closed:
            raise PoolClosed(self._redis.name)
        self._names["SUBSCRIBE"] |= {self._full("SUBSCRIBE", name) for name in channels}
        self._names["PSUBSCRIBE"] |= {self._full("PSUBSCRIBE", name) for name in patterns}
        deadline = Deadline(timeout)
        with self._redis.guard.translating(deadline=deadline, safety=Safety.READ, doing="subscribing"):
            self._open(deadline)
        self._start_thread()
        patience = self._redis.patience or self._dead_after
        confirmed = self._confirmed.wait(deadline.within(patience if timeout is None else None))
        self._raise_its_end()
        if not confirmed:
            self.close()
            waited = patience if deadline.seconds is None else deadline.seconds
            raise Unavailable(self._redis.name, f"no answer to the subscription in {waited:g} s")

    def _raise_its_end(self) -> None:
        if self._closed.is_set():
            raise self._ended_by or KataxError("this subscription has ended; make another one")

    def _start_thread(self) -> None:
        name = f"katax-pubsub-{self._redis.name}"
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def add(self, command: str, name: str) -> None:
        """SUBSCRIBE or PSUBSCRIBE to one more."""
        self._change(command, name, known=command, adding=True)

    def remove(self, command: str, name: str) -> None:
        """UNSUBSCRIBE or PUNSUBSCRIBE from one."""
        self._change(command, name, known=command.replace("UN", "", 1), adding=False)

    def close(self) -> None:
        """Ends the connection and the thread."""
        self._closed.set()
        self._confirmed.set()
        with self._changing:
            subscriber = self._subscriber
        if subscriber is not None:
            subscriber.close()
        if self._thread is not None and self._thread is not current_thread():
            self._thread.join(self._dead_after)

    def wait(self, seconds: float | None = None) -> bool:
        """Waits until it is closed; True when it is."""
        return self._closed.wait(seconds)

    def _full(self, command: str, name: str) -> bytes:
        if not name:
            raise ValueError("the channel is empty; give it a name")
        return self._prefixes[command] + to_bytes(name)

    def _short(self, command: str, full: bytes) -> str:
        return to_text(full[len(self._prefixes[command]) :])

    def _change(self, command: str, name: str, *, known: str, adding: bool) -> None:
        full = self._full(known, name)
        with self._changing:
            (self._names[known].add if adding else self._names[known].discard)(full)
            if self._subscriber is not None:
                self._said(lambda subscriber: subscriber.send(command, [full]))

    def _said(self, say: Callable[[Subscriber], object]) -> None:
        """Sends a command; if the connection is dead, the receiver finds out and subscribes again."""
        try:
            assert self._subscriber is not None
            say(self._subscriber)
        except Exception as error:  # noqa: BLE001 - the receiver meets it too, and repairs it
            getLogger("katax").debug("pub/sub connection of %r: %s", self._redis.name, type(error).__name__)

    def _open(self, deadline: Deadline = NEVER) -> None:
        subscriber = self._engine.subscriber(deadline.within(self._redis.settings.connect_timeout))
        with self._changing:
            self._unconfirmed = sum(map(len, self._names.values()))
            for command, names in self._names.items():
                if names:
                    subscriber.send(command, sorted(names))
            self._subscriber = subscriber

    def _run(self) -> None:
        attempt = 0
        while not self._closed.is_set():
            try:
                if self._lost_at is not None:
                    attempt += 1
                    self._clock.sleep(self._pause(attempt))
                    self._open()
                    self._tell_gap()
                self._receive()
            except Exception as error:  # noqa: BLE001 - the boundary of this thread
                if self._closed.is_set() or self._is_final(error):
                    return
                if self._lost_at is None:
                    self._lost_at, attempt = self._clock.monotonic(), 0
                self._drop()

    def _pause(self, attempt: int) -> float:
        longest = backoff.ceiling(attempt, initial=_FIRST_PAUSE, multiplier=2.0, max=_LONGEST_PAUSE)
        return backoff.full_jitter(longest, self._clock.random)

    def _tell_gap(self) -> None:
        """Tells of a loss once the server has confirmed all subscriptions: what comes from then on is heard."""
        if self._lost_at is None or self._unconfirmed > 0:
            return
        seconds = self._clock.monotonic() - self._lost_at
        getLogger("katax").debug("pub/sub on %r was away for %.1f s", self._redis.name, seconds)
        self._on_gap(seconds)
        self._lost_at = None

    def _is_final(self, error: Exception) -> bool:
        """Ends the subscription and returns True for errors that retrying cannot cure: ours, or a refusal for good."""
        kind = self._redis.engine.classify(error).kind
        broken = isinstance(error, OSError) or kind not in (FailureKind.UNKNOWN, *_FINAL)
        if broken:
            return False
        self._ended_by = self._meaning(error)
        self._closed.set()
        self._drop()
        getLogger("katax").error("pub/sub on %r ended: %s", self._redis.name, self._ended_by)
        self._on_end(self._ended_by)
        self._confirmed.set()
        return True

    def _meaning(self, error: Exception) -> Exception:
        try:
            with self._redis.guard.translating(deadline=NEVER, safety=Safety.READ, doing="subscribing"):
                raise error
        except Exception as translated:  # noqa: BLE001 - it is handed on as a value
            return translated

    def _drop(self) -> None:
        with self._changing:
            subscriber, self._subscriber = self._subscriber, None
        if subscriber is not None:
            subscriber.close()

    def _receive(self) -> None:
        """Hands messages on until the wire breaks, or stays silent after a ping.

        Silence ends before the last look: this process may have been stopped after it.
        """
        heard_at, asked_at = self._clock.monotonic(), None
        while not self._closed.is_set():
            subscriber = self._subscriber
            assert subscriber is not None
            looked_at = self._clock.monotonic()
            heard = subscriber.receive(_LOOK_EVERY)
            if heard is not None:
                heard_at, asked_at = self._clock.monotonic(), None
                self._hand_on(heard)
            elif asked_at is not None:
                if looked_at - asked_at > self._dead_after:
                    raise ConnectionError("no answer to a ping")
            elif looked_at - heard_at > self._ping_every:
                subscriber.send("PING")
                asked_at = self._clock.monotonic()

    def _hand_on(self, heard: SubscriberMessage) -> None:
        if heard.kind != "message":
            self._unconfirmed -= 1
            self._confirmed.set()
            self._tell_gap()
            return
        pattern = None if heard.pattern is None else self._short("PSUBSCRIBE", heard.pattern)
        channel = self._short("SUBSCRIBE", heard.channel)
        self._on_message(Message(channel, pattern, heard.message, datetime.now(UTC), self._codec))
