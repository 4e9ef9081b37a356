"""A value that is computed once however many ask for it, refreshed before it expires, and kept for bad times.

Early refresh: with Δ the seconds that computing took, a caller computes anew as soon as

    now − Δ · β · ln(u) ≥ expiry,    u random in (0, 1]

so that the more expensive the value and the nearer its end, the likelier it is, and no crowd meets an expired
key. Vattani, Chierichetti, Lowenstein: "Optimal Probabilistic Cache Stampede Prevention", PVLDB 8(8), 2015.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from logging import getLogger
from math import log
from typing import Any, Protocol

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.interrupts import was_interrupted
from katax_cli.core.resilience import backoff
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.text.duration import Duration, in_seconds
from katax_cli.core.text.js_json import parse, stringify
from katax_cli.core.text.text import to_bytes, to_text
from katax_cli.errors import LockHeld, OutcomeUnknown, Unavailable
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.clients import RedisDatabase, RoundTrips
from katax_cli.services.locks.lock import Lock
from katax_cli.services.redis.values import positive_ms

STALE_SECONDS = 86400.0
"""How long after its end a value still stands in for one that cannot be computed."""
_LOCK_SECONDS = 10.0
_OUTAGES = (Unavailable, OutcomeUnknown)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.25


def note_key(key: str) -> str:
    """Beside each remembered value: how long it took, and the value itself where it may be served stale."""
    return f"remember:{key}"


def due(seconds_left: float, delta: float, beta: float, dice: float) -> bool:
    """True when a value with so many seconds to live should be recomputed; `dice` in [0, 1)."""
    return seconds_left + delta * beta * log(1.0 - dice) <= 0.0


@dataclass(frozen=True, slots=True)
class _CacheEntry:
    """A read entry: the value or None, its seconds to live, and the note beside it."""

    data: bytes | None = None
    left: float = 0.0
    delta: float = 0.0
    stale: bytes | None = None


class Stores(Protocol):
    """The methods of a cache that remembering needs."""

    redis: RedisDatabase

    def full(self, key: str) -> bytes: ...
    def set_raw(
        self, key: str, data: bytes, ttl: Duration | None = None, *, timeout: Duration | None = None
    ) -> object: ...


class Remembering:
    """One key and how it is remembered. The value is as `Cache.set` stores it, for any reader.

    One caller computes, under a lock of 10 s that it renews; the others wait for the value, or take the old
    one while it lives. With `stale_if_error` a failing computation gives the last value, for up to a day
    after its end, and a Redis that is away or full is done without: the value is computed and not stored.
    `timeout` is seconds for what comes before computing, and again for storing. Raises ValueError for a
    negative beta or a ttl that is not positive.
    """

    def __init__(
        self,
        cache: Stores,
        key: str,
        *,
        ttl: Duration,
        beta: float = 1.0,
        stale_if_error: bool = False,
        timeout: Duration | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        if beta < 0:
            raise ValueError(f"beta is {beta:g}, expected 0 (no early refresh) or more")
        positive_ms(ttl)
        self._cache = cache
        self._key = key
        self._ttl = in_seconds(ttl)
        self._beta = beta
        self._keep_stale = stale_if_error
        self._timeout = timeout
        self._clock = clock

    def get(self, compute: Callable[[], bytes]) -> bytes:
        """The stored bytes of the value; what `compute` raises when there is nothing to give instead."""
        deadline = Deadline(self._timeout)
        redis = self._cache.redis.within(None if self._timeout is None else deadline)
        attempt, entry = 0, _CacheEntry()
        while True:
            try:
                entry = self._read(redis)
                dice = self._clock.random()
                if entry.data is not None and not due(entry.left, entry.delta, self._beta, dice):
                    return entry.data
                lock = self._locked(deadline)
            except LockHeld:
                if entry.data is not None:
                    return entry.data
            except _OUTAGES as error:
                return self._without_redis(error, compute, entry)
            else:
                try:
                    return self._computed(redis, compute, entry)
                finally:
                    lock.release_quietly()
            attempt += 1
            self._clock.sleep(min(self._pause(attempt), deadline.remaining()))

    def _locked(self, deadline: Deadline) -> Lock:
        lock = Lock(self._cache.redis, note_key(self._key), ttl=_LOCK_SECONDS)
        lock.acquire(timeout=deadline.within(None))
        return lock

    def _without_redis(
        self, error: Unavailable | OutcomeUnknown, compute: Callable[[], bytes], entry: _CacheEntry
    ) -> bytes:
        """The value that lives, however soon it ends; else, if that is wanted, one that is not stored."""
        if entry.data is not None:
            return entry.data
        if not self._keep_stale:
            raise error
        data, _ = self._fresh_or_last(compute, entry)
        getLogger("katax").warning("%r was computed and not stored: %s", self._key, error)
        return data

    def _computed(self, redis: RoundTrips, compute: Callable[[], bytes], before: _CacheEntry) -> bytes:
        """Within the lock: what another computed while we waited for it, or a value of our own."""
        try:
            entry = self._read(redis)
        except _OUTAGES as error:
            return self._without_redis(error, compute, before)
        if entry.data is not None and (before.data is None or entry.left > before.left):
            return entry.data
        data, seconds = self._fresh_or_last(compute, entry)
        if seconds is not None:
            self._store(data, seconds)
        return data

    def _fresh_or_last(self, compute: Callable[[], bytes], entry: _CacheEntry) -> tuple[bytes, float | None]:
        """Returns the computed value and the seconds it took; else the last value, and None."""
        started = self._clock.monotonic()
        try:
            return compute(), self._clock.monotonic() - started
        except Exception as error:  # the program's function; the last value is better than none
            last = entry.data if entry.data is not None else entry.stale if self._keep_stale else None
            if last is None or was_interrupted(error):
                raise
            getLogger("katax").warning(
                "%r could not be computed and keeps its last value: %s", self._key, error
            )
            return last, None

    def _store(self, data: bytes, seconds: float) -> None:
        note: dict[str, Any] = {"seconds": round(seconds, 6)}
        if self._keep_stale:
            note["stale"] = to_text(data)
        life = self._ttl + (STALE_SECONDS if self._keep_stale else 0.0)
        try:
            self._cache.set_raw(note_key(self._key), stringify(note).encode(), life, timeout=self._timeout)
            self._cache.set_raw(self._key, data, self._ttl, timeout=self._timeout)
        except _OUTAGES as error:
            if not self._keep_stale:
                raise
            getLogger("katax").warning("%r was computed and not stored: %s", self._key, error)

    def _read(self, redis: RoundTrips) -> _CacheEntry:
        key, note = self._cache.full(self._key), self._cache.full(note_key(self._key))
        data, ttl_ms, about = redis.pipeline([("GET", key), ("PTTL", key), ("GET", note)], safety=Safety.READ)
        facts = parse(about.decode()) if about else {}
        stale = facts.get("stale")
        return _CacheEntry(
            data,
            left=float("inf") if ttl_ms < 0 else ttl_ms / 1000,
            delta=float(facts.get("seconds", 0.0)),
            stale=to_bytes(stale) if isinstance(stale, str) else None,
        )

    def _pause(self, attempt: int) -> float:
        longest = backoff.ceiling(attempt, initial=_FIRST_PAUSE, multiplier=1.5, max=_LONGEST_PAUSE)
        return backoff.full_jitter(longest, self._clock.random)
