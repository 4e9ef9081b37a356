"""A value that is computed once however many ask for it, refreshed before it expires, and kept for bad times.

Early refresh: with Δ the seconds that computing took, a caller computes anew as soon as

    now − Δ · β · ln(u) ≥ expiry,    u random in (0, 1]

so that the more expensive the value and the nearer its end, the likelier it is, and no crowd meets an expired
key. Vattani, Chierichetti, Lowenstein: "Optimal Probabilistic Cache Stampede Prevention", PVLDB 8(8), 2015.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging import getLogger
from math import log
from typing import TYPE_CHECKING, Any

from katax_cli.core import backoff
from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.wire import parse
from katax_cli.errors import LockHeld, LockLost
from katax_cli.services.guard import Safety
from katax_cli.services.locks import Lock

if TYPE_CHECKING:
    from katax_cli.services.cache import Cache

STALE_SECONDS = 86400.0
"""How long after its end a value still stands in for one that cannot be computed."""
_LOCK_SECONDS = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.25


def note_key(key: str) -> str:
    """Beside each remembered value: how long it took, and the value itself where it may be served stale."""
    return f"remember:{key}"


def due(seconds_left: float, delta: float, beta: float, dice: float) -> bool:
    """True when a value with so many seconds to live should be computed anew; `dice` in [0, 1)."""
    return seconds_left + delta * beta * log(1.0 - dice) <= 0.0


@dataclass(frozen=True, slots=True)
class _Found:
    """What was read: the value or None, its seconds to live, and the note beside it."""

    data: bytes | None
    left: float
    delta: float
    stale: bytes | None


class Remembering:
    """One key and how it is remembered. The value is plain JSON at the key, for any reader.

    One caller computes, under a lock of 10 s that it renews; the others wait for the value, or take the old
    one while it lives. With `stale_if_error` a failing computation gives the last value, for up to a day
    after its end. Raises ValueError for a negative beta or a ttl that is not positive.
    """

    def __init__(
        self,
        cache: Cache,
        key: str,
        *,
        ttl: float,
        beta: float = 1.0,
        stale_if_error: bool = False,
        clock: Clock = SYSTEM,
    ) -> None:
        from katax_cli.services.cache import positive_ms

        if beta < 0:
            raise ValueError(f"beta is {beta:g}, expected 0 (no early refresh) or more")
        positive_ms(ttl)
        self._cache = cache
        self._key = key
        self._ttl = ttl
        self._beta = beta
        self._keep_stale = stale_if_error
        self._clock = clock

    def get(self, compute: Callable[[], bytes]) -> bytes:
        """The stored bytes of the value; what `compute` raises when there is nothing to give instead."""
        attempt = 0
        while True:
            found = self._read()
            if found.data is not None and not self._is_due(found):
                return found.data
            try:
                with self._alone():
                    return self._computed(compute, found)
            except LockHeld:
                if found.data is not None:
                    return found.data
            attempt += 1
            self._clock.sleep(self._pause(attempt))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        lock = Lock(self._cache.redis, note_key(self._key), ttl=_LOCK_SECONDS)
        lock.acquire()
        try:
            yield
        finally:
            try:
                lock.release()
            except LockLost as error:
                getLogger("katax").warning("%s; another may have computed %r too", error, self._key)

    def _is_due(self, found: _Found) -> bool:
        return due(found.left, found.delta, self._beta, self._clock.random())

    def _computed(self, compute: Callable[[], bytes], before: _Found) -> bytes:
        """Within the lock: what another computed while we waited for it, or a value of our own."""
        found = self._read()
        if found.data is not None and (before.data is None or found.left > before.left):
            return found.data
        started = self._clock.monotonic()
        try:
            data = compute()
        except Exception as error:
            stale = found.data or (found.stale if self._keep_stale else None)
            if stale is None:
                raise
            getLogger("katax").warning("%r was not computed, its last value stands in: %s", self._key, error)
            return stale
        self._store(data, self._clock.monotonic() - started)
        return data

    def _store(self, data: bytes, delta: float) -> None:
        note: dict[str, Any] = {"seconds": round(delta, 6)}
        if self._keep_stale:
            note["stale"] = data.decode("utf-8")
        life = self._ttl + (STALE_SECONDS if self._keep_stale else 0.0)
        self._cache.set(note_key(self._key), note, life)
        self._cache.set_raw(self._key, data, self._ttl)

    def _read(self) -> _Found:
        key, note = self._cache.full(self._key), self._cache.full(note_key(self._key))
        data, ttl_ms, about = self._cache.redis.pipeline(
            [("GET", key), ("PTTL", key), ("GET", note)], safety=Safety.READ
        )
        facts = parse(about.decode()) if about else {}
        stale = facts.get("stale")
        return _Found(
            data,
            left=float("inf") if ttl_ms < 0 else ttl_ms / 1000,
            delta=float(facts.get("seconds", 0.0)),
            stale=stale.encode() if isinstance(stale, str) else None,
        )

    def _pause(self, attempt: int) -> float:
        longest = backoff.ceiling(attempt, initial=_FIRST_PAUSE, multiplier=1.5, max=_LONGEST_PAUSE)
        return backoff.full_jitter(longest, self._clock.random)
