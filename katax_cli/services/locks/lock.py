"""Locks that one holder has at a time, over machines: on Redis with a lifetime, or held by a session of SQL.

A lock on Redis keeps work from being done twice; it cannot keep a holder that was paused (a stopped process, a
long garbage collection) from acting after its time. What must not happen twice compares the fencing token:
it grows from holder to holder, so a resource that remembers the highest one refuses the late ones.
See docs/locks.md.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from logging import getLogger
from secrets import token_hex
from threading import Event, Thread
from threading import Lock as Guarding
from typing import Protocol, Self

from katax_cli.core.callables import plain
from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.forks import follow
from katax_cli.core.interrupts import doubt_of, settle_doubt
from katax_cli.core.resilience import backoff
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.text.duration import Duration, in_seconds
from katax_cli.core.text.js_json import parse, stringify
from katax_cli.core.text.text import to_bytes
from katax_cli.core.waiting import SharedEvent
from katax_cli.errors import KataxError, LockHeld, LockLost, OutcomeUnknown
from katax_cli.services.calls.guard import Safety
from katax_cli.services.calls.left_behind import start
from katax_cli.services.databases.clients import Commands, RedisDatabase
from katax_cli.services.redis.keyspace import Keyspace
from katax_cli.services.redis.lua import LOCK_ACQUIRE, LOCK_RELEASE, LOCK_RENEW

PREFIX = "lock:"
DEFAULT_TTL = 30.0
MAX_HOLD = 86400.0
"""Seconds after which a lock is not renewed any more, so that a holder that hangs does not keep it for ever."""

RENEWALS = 3
"""How often a lock is renewed within its ttl."""

_GIVE_BACK_SECONDS = 2.0
"""What it may take to release a lock whose acquisition or release was interrupted."""
_SETTLE_SECONDS = 0.5
"""How long that is waited for."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5
_TAG = re.compile(r"^[^{]*\{[^}]+\}")
"""What a cluster hashes instead of the whole key."""


@dataclass(frozen=True, slots=True)
class HeldLock:
    """The holder of a lock. `token` and the fields after it are None for a holder that is not katax.

    In SQL a session holds it, without a `ttl` or a token that the server would know.
    """

    name: str
    ttl: float | None
    token: int | None = None
    host: str | None = None
    pid: int | None = None
    acquired_at: datetime | None = None
    session: str | None = None

    def __str__(self) -> str:
        who = f"pid {self.pid} on {self.host}" if self.pid else "an unknown holder"
        since = f" since {self.acquired_at.isoformat(timespec='seconds')}" if self.acquired_at else ""
        return who + since


class Backend(Protocol):
    """The server side of a lock. A `timeout` is seconds for the whole call, None: as the connection says."""

    def acquire(self, name: str, ttl: float, timeout: float | None = None) -> int:
        """Takes the lock and returns its token. Raises LockHeld, naming the holder."""
        ...

    def renew(self, ttl: float, timeout: float) -> bool:
        """False when it is lost."""
        ...

    def release(self, timeout: float | None = None) -> bool:
        """False when it was lost."""
        ...

    def give_back(self, interrupt: BaseException) -> None:
        """Behind a release that was interrupted: lets go of what would outlive the holder."""
        ...


class RedisBackend:
    """One key with a lifetime: `lock:NAME`, and beside it the highest token, in the same slot of a cluster."""

    def __init__(self, redis: RedisDatabase) -> None:
        self._redis = redis
        self._key = b""
        self._value = b""

    def acquire(self, name: str, ttl: float, timeout: float | None = None) -> int:
        redis = self._redis.within(timeout)
        key, fence = lock_keys(redis, name)
        about = _about_us()
        try:
            taken, value = LOCK_ACQUIRE(redis, [key, fence], about, round(ttl * 1000))
        except OutcomeUnknown as error:
            taken, value = True, _value_after(error, redis, key)
            if not value.endswith(about.encode()):
                raise  # it was not taken: whoever holds it says another thing about himself
        except BaseException as error:
            if doubt_of(error) is not None:
                _give_back(error, partial(LOCK_RELEASE, self._redis.within(_GIVE_BACK_SECONDS), [key], about))
            raise
        if not taken:
            raise LockHeld(name, holder=str(_described(name, value, None)))
        self._key, self._value = key, value
        return int(parse(value.decode())["token"])

    def renew(self, ttl: float, timeout: float) -> bool:
        patience = self._redis.answer_seconds
        redis = self._redis.within(timeout if patience is None else min(timeout, patience))
        return bool(LOCK_RENEW(redis, [self._key], self._value, round(ttl * 1000), safety=Safety.IDEMPOTENT))

    def release(self, timeout: float | None = None) -> bool:
        return bool(LOCK_RELEASE(self._redis.within(timeout), [self._key], self._value))

    def give_back(self, interrupt: BaseException) -> None:
        redis = self._redis.within(_GIVE_BACK_SECONDS)
        _give_back(interrupt, partial(LOCK_RELEASE, redis, [self._key], self._value))


def _give_back(interrupt: BaseException, release: Callable[[], object]) -> None:
    """Releases what an interrupted call may hold, in a thread that no further interrupt ends; waits for it a moment.

    Else the lock would stay until the end of its ttl. Once the server has answered nothing is in doubt any more.
    """
    releasing = start("katax-lock-release", release)
    with suppress(BaseException):
        # A coroutine that is closed may wait for nothing more.
        waited = not isinstance(interrupt, GeneratorExit) and releasing.ended(_SETTLE_SECONDS)
        if waited and not isinstance(releasing.outcome, BaseException):
            settle_doubt(interrupt)


def _value_after(error: OutcomeUnknown, redis: Commands, key: bytes) -> bytes:
    """The value of the lock's key after an unanswered acquisition; still unknown when that cannot be read."""
    try:
        return redis.redis("GET", key, safety=Safety.READ) or b""
    except KataxError as unread:
        raise error from unread


class Lock:
    """One lock, as a `with` block: taken at its start, renewed every third of `ttl`, released at its end.

    `wait` is how many seconds to try when another holds it, `max_hold` after how many it is not renewed any
    more. When the lock is lost, `on_lost` listeners hear of it and the end of the block raises LockLost.
    Raises LockHeld; ValueError for a ttl or name that cannot be.
    """

    def __init__(
        self,
        where: RedisDatabase | Backend,
        name: str,
        *,
        ttl: Duration = DEFAULT_TTL,
        wait: Duration = 0.0,
        max_hold: Duration = MAX_HOLD,
        clock: Clock = SYSTEM,
    ) -> None:
        self.name = name
        self.ttl = in_seconds(ttl)
        if not self.ttl >= 0.1:
            raise ValueError(
                f"ttl is {self.ttl:g} s, expected at least 0.1: it is renewed every third of that"
            )
        if not name:
            raise ValueError("the lock has no name; give it one")
        self.token = 0
        self._backend: Backend = RedisBackend(where) if isinstance(where, RedisDatabase) else where
        self._wait = in_seconds(wait)
        self._max_hold = in_seconds(max_hold)
        self._clock = clock
        self._stop = Event()
        self._renewed = SharedEvent()
        self._telling = Guarding()
        self._listeners: list[Callable[[LockLost], object]] = []
        self._renewer: Thread | None = None
        self._lost: LockLost | None = None
        follow(self)

    def after_fork(self) -> None:
        """The parent goes on to hold it; the child may neither renew nor release it."""
        self._telling = Guarding()
        if self._renewer is not None and not self._stop.is_set():
            self._renewer = None
            self._lost = LockLost(self.name, f"process {os.getppid()} holds it, and this one is its child")

    def acquire(self, *, timeout: Duration | None = None) -> int:
        """Takes the lock and starts to renew it; returns the fencing token, higher than any before.

        `timeout` is seconds for all of it, the waiting for another holder included.
        """
        started, attempt, deadline = self._clock.monotonic(), 0, Deadline(timeout, clock=self._clock)
        while True:
            asked = self._clock.monotonic()
            try:
                self.token = self._backend.acquire(self.name, self.ttl, deadline.within(None))
            except LockHeld:
                attempt += 1
                if self._clock.monotonic() - started >= self._wait or deadline.expired:
                    raise
                self._clock.sleep(min(self._pause(attempt, started), deadline.remaining()))
            else:
                self._start_renewing(asked)
                return self.token

    def release(self, *, timeout: Duration | None = None) -> None:
        """Stops renewing and gives the lock back. Raises LockLost when it was not ours any more."""
        deadline = Deadline(timeout)
        self._stop.set()
        try:
            if self._renewer is not None and self._renewed.wait(deadline.within(self.ttl)):
                self._renewer.join()
            if self._lost is None and not self._backend.release(deadline.within(None)):
                self._lost = LockLost(self.name, "it had expired before it was released")
        except BaseException as error:
            if not isinstance(error, Exception):
                self._backend.give_back(error)
            raise
        self.check()

    def release_quietly(self) -> None:
        """The same for a holder that has an error of its own to raise: what goes wrong here is logged."""
        try:
            self.release()
        except KataxError as error:
            getLogger("katax").warning("%s", error)

    def on_lost(self, listener: Callable[[LockLost], object]) -> None:
        """Calls `listener(error)` when the lock is lost, in the renewing thread; at once when it is lost already."""
        plain(listener, "on_lost()")
        with self._telling:
            lost = self._lost
            self._listeners.append(listener)
        if lost is not None:
            listener(lost)

    def check(self) -> None:
        """Raises LockLost once the lock is lost; no round trip."""
        if self._lost is not None:
            raise self._lost

    @property
    def lost(self) -> bool:
        return self._lost is not None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None:
            self.release()
        else:
            self.release_quietly()

    def _pause(self, attempt: int, started: float) -> float:
        longest = backoff.ceiling(attempt, initial=_FIRST_PAUSE, multiplier=1.5, max=_LONGEST_PAUSE)
        left = self._wait - (self._clock.monotonic() - started)
        return min(backoff.equal_jitter(longest, self._clock.random), max(left, 0.0))

    def _start_renewing(self, since: float) -> None:
        self._stop.clear()
        self._lost = None
        self._renewed = SharedEvent()
        self._renewer = Thread(
            target=self._renew, args=(since, self._renewed), name=f"katax-lock-{self.name}", daemon=True
        )
        self._renewer.start()

    def _renew(self, since: float, ended: SharedEvent) -> None:
        try:
            self._renew_until_stopped(since)
        finally:
            ended.set()

    def _renew_until_stopped(self, since: float) -> None:
        """Our lock ends a `ttl` after the last renewal was asked for: earlier than on the server, never later."""
        held_until = since + self.ttl
        while not self._stop.wait(self.ttl / RENEWALS):
            asked = self._clock.monotonic()
            if asked - since > self._max_hold:
                self._lose(f"it was held for its maximum of {self._max_hold:g} s")
                return
            try:
                renewed = self._backend.renew(self.ttl, max(min(self.ttl / 3, held_until - asked), 0.05))
            except KataxError as error:
                getLogger("katax").warning("lock %r could not be renewed: %s", self.name, error)
                if self._stop.wait(max(0.0, min(self.ttl / 10, held_until - self._clock.monotonic()))):
                    return
                if self._clock.monotonic() >= held_until:
                    self._lose(f"it could not be renewed within its ttl of {self.ttl:g} s")
                    return
            else:
                if not renewed:
                    if not self._stop.is_set():
                        self._lose("it expired, or it was released by force")
                    return
                held_until = asked + self.ttl

    def _lose(self, reason: str) -> None:
        with self._telling:
            self._lost = error = LockLost(self.name, reason)
            listeners = list(self._listeners)
        for listener in listeners:
            listener(error)


def held_locks(
    database: RedisDatabase, wanted: Sequence[str] = (), *, timeout: Duration | None = None
) -> list[HeldLock]:
    """The locks that are held now, by name; of `wanted` only, if there are any."""
    redis = database.within(timeout)
    prefix = redis.settings.prefix + PREFIX
    names = sorted({to_bytes(name) for name in wanted}) or sorted(
        key for batch in Keyspace(redis, prefix).distinct() for key in batch
    )
    full = [prefix.encode() + name for name in names]
    values = redis.pipeline([("GET", key) for key in full], safety=Safety.READ, tolerant=True)
    ttls = redis.pipeline([("PTTL", key) for key in full], safety=Safety.READ)
    return [
        _described(name.decode("utf-8", "replace"), value, ttl / 1000 if ttl >= 0 else None)
        for name, value, ttl in zip(names, values, ttls, strict=True)
        if isinstance(value, bytes)
    ]


def release_by_force(database: RedisDatabase, name: str, *, timeout: Duration | None = None) -> bool:
    """Releases the lock by force; False when it is free. Its holder notices when it renews."""
    return bool(database.within(timeout).redis("UNLINK", lock_keys(database, name)[0]))


def lock_keys(redis: Commands, name: str) -> tuple[bytes, bytes]:
    """The key of a lock, and of its highest token; both in one slot of a cluster."""
    prefix = redis.settings.prefix
    key = f"{prefix}{PREFIX}{name}"
    if _TAG.search(key):
        fence = f"{prefix}fence:{PREFIX}{name}"
    elif "}" in key:
        raise ValueError(f"the lock's name {name!r} has an unmatched brace; remove it")
    else:
        fence = f"{prefix}fence:{{{key}}}"
    return to_bytes(key), to_bytes(fence)


def _about_us() -> str:
    facts = {
        "id": token_hex(8),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    return stringify(facts)[1:]


def _described(name: str, value: bytes, ttl: float | None) -> HeldLock:
    try:
        facts = parse(value.decode())
        since = datetime.fromisoformat(facts["since"])
        return HeldLock(name, ttl, int(facts["token"]), str(facts["host"]), int(facts["pid"]), since)
    except (ValueError, KeyError, TypeError):
        return HeldLock(name, ttl)  # another program's lock: SET lock:NAME 1 NX EX 30
