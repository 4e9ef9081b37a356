"""What a pool keeps for each connection and for each caller; used by `pool` alone but for `Leased`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from katax_cli.core.settings import PoolSettings

C = TypeVar("C")

CHECK_AFTER_IDLE = 1.0
JITTER = 0.1


@dataclass(frozen=True, slots=True)
class Leased:
    """A connection that is out: the thread that acquired it and when, in seconds since the epoch."""

    thread: str
    since: float


class Member(Generic[C]):
    """A connection with what the pool remembers about it. Times are of the monotonic clock.

    Until `fresh_until` it is handed out as it is; from then on it is looked at first. `returns` counts how
    often it came back.
    """

    __slots__ = (
        "connection",
        "expires_at",
        "fresh_for",
        "fresh_until",
        "idle_limit",
        "idle_until",
        "key",
        "leased_at",
        "returns",
        "thread",
    )

    def __init__(
        self, connection: C, now: float, settings: PoolSettings, random: Callable[[], float]
    ) -> None:
        self.connection = connection
        self.key = id(connection)
        self.expires_at = now + _jittered(settings.max_lifetime, random)
        self.idle_limit = _jittered(settings.idle_timeout, random)
        self.idle_until = now
        self.fresh_for = min(CHECK_AFTER_IDLE, self.idle_limit)
        self.fresh_until = now
        self.leased_at = now
        self.thread = threading.current_thread()
        self.returns = 0


def _jittered(seconds: float, random: Callable[[], float]) -> float:
    """Within ±10 %, so that connections opened together do not end together."""
    return seconds * (1.0 - JITTER + 2.0 * JITTER * random())


class Claim(Generic[C]):
    """What a caller has got so far: nothing, a slot or a connection; in the queue it waits at `gate`."""

    __slots__ = ("gate", "member", "slot")

    def __init__(self) -> None:
        self.gate: threading.Lock | None = None
        self.member: Member[C] | None = None
        self.slot = False

    @property
    def empty(self) -> bool:
        return self.member is None and not self.slot

    def wait_at_gate(self, timeout: float) -> bool:
        """True when somebody opened the gate, False after `timeout` seconds."""
        assert self.gate is not None
        return self.gate.acquire(timeout=timeout)

    def open_gate(self) -> None:
        assert self.gate is not None
        self.gate.release()


def shut_gate() -> threading.Lock:
    """A lock that is taken already: whoever acquires it waits until it is opened."""
    gate = threading.Lock()
    gate.acquire()
    return gate


def never(_connection: object) -> bool:
    """For drivers that cannot tell a broken connection without asking the server."""
    return False


class Lender(Protocol[C]):
    """The part of a pool that `Loan` needs."""

    is_broken: Callable[[C], bool]

    def acquire(self, timeout: float | None = None) -> C: ...

    def release(self, connection: C, *, broken: bool = False) -> None: ...


class Loan(Generic[C]):
    """`with pool.connection()`; a generator would cost as much as the pool itself."""

    __slots__ = ("_connection", "_pool", "_timeout")

    def __init__(self, pool: Lender[C], timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout

    def __enter__(self) -> C:
        self._connection = self._pool.acquire(self._timeout)
        return self._connection

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        connection = self._connection
        self._pool.release(connection, broken=kind is not None and self._pool.is_broken(connection))
