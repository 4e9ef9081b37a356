"""Rate limits: three algorithms, each one atomic step on Redis, on the server's clock.

fixed     counts from the first of a window to its end. Around that moment twice the maximum may pass.
sliding   counts in sixty buckets and lets no window of any position hold more than the maximum; what was taken
          is free again up to a sixtieth of the window late.
gcra      spreads: after a burst of the maximum, one each window / maximum seconds.

All three take constant memory for each key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from logging import getLogger
from math import ceil
from typing import Any, Literal, get_args

from katax_cli.core.clock import SYSTEM
from katax_cli.core.text.duration import Duration, in_seconds
from katax_cli.core.text.text import to_bytes
from katax_cli.errors import OutcomeUnknown, RateLimitExceeded, Unavailable, unknown_name
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.clients import Commands, RedisDatabase
from katax_cli.services.redis.lua import LIMIT_FIXED, LIMIT_GCRA, LIMIT_SLIDING, LuaScript

Algorithm = Literal["fixed", "sliding", "gcra"]
OnError = Literal["open", "closed"]
ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)
ON_ERROR: tuple[OnError, ...] = get_args(OnError)
DEFAULT_MAX, DEFAULT_WINDOW = 100, 60.0
BUCKETS = 60

_SCRIPTS: dict[Algorithm, LuaScript] = {"fixed": LIMIT_FIXED, "sliding": LIMIT_SLIDING, "gcra": LIMIT_GCRA}


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer of a limit. `reset_at` is when everything is free again, in seconds since the epoch on the server's
    clock; `retry_after` is seconds until what was refused would fit, 0 when it was allowed."""

    allowed: bool
    limit: int
    remaining: int
    reset_at: float
    retry_after: float

    @property
    def reset_time(self) -> datetime:
        return datetime.fromtimestamp(self.reset_at, UTC)


class RateLimiter:
    """At most `max` in `window` seconds for each key.

    `on_error` says what counts when Redis cannot be asked: "open" allows, "closed" refuses (each time with a
    warning in the log, counted in `undecided`); without it the error is raised. `timeout` is seconds for a
    whole call; without it each answer is waited for 2 s at most. Raises ValueError for a maximum, window or
    algorithm that cannot be.
    """

    def __init__(
        self,
        redis: RedisDatabase,
        max: int = DEFAULT_MAX,
        window: Duration = DEFAULT_WINDOW,
        *,
        algorithm: Algorithm = "fixed",
        prefix: str = "rate:",
        on_error: OnError | None = None,
    ) -> None:
        if max < 1:
            raise ValueError(f"max is {max}, expected at least 1")
        seconds = in_seconds(window)
        if not seconds >= 0.001:
            raise ValueError(f"window is {seconds:g} s, expected at least 0.001")
        if algorithm not in ALGORITHMS:
            raise ValueError(unknown_name("algorithm", algorithm, ALGORITHMS, "algorithms"))
        self.max = max
        self.window = seconds
        self.algorithm: Algorithm = algorithm
        self.undecided = 0
        self._redis = redis
        self._prefix = redis.settings.prefix + prefix
        self._on_error = on_error

    def check(self, key: str, *, timeout: Duration | None = None) -> Decision:
        """Takes one if it fits."""
        return self.take(key, timeout=timeout)

    def consume(self, key: str, n: int = 1, *, timeout: Duration | None = None) -> Decision:
        """Takes `n`, all or none. Raises RateLimitExceeded when they do not fit."""
        decision = self.take(key, n, timeout=timeout)
        if not decision.allowed:
            raise RateLimitExceeded(
                key,
                limit=self.max,
                window=self.window,
                reset_at=decision.reset_at,
                retry_after=decision.retry_after,
            )
        return decision

    def take(self, key: str, n: int = 1, *, timeout: Duration | None = None) -> Decision:
        """Takes `n`, all or none, and says whether. Raises ValueError for an `n` that never fits."""
        if not 1 <= n <= self.max:
            raise ValueError(f"n is {n}, expected 1 to the maximum of {self.max}")
        size = [ceil(self._window_us / BUCKETS)] if self.algorithm == "sliding" else []
        script, full = _SCRIPTS[self.algorithm], self._key(self.algorithm, key)
        redis = self._redis.within(timeout)
        return self._decided(
            lambda: self._decision(*script(redis, [full], self.max, self._window_us, n, *size))
        )

    def peek(self, key: str, *, timeout: Duration | None = None) -> Decision:
        """The answer that `check` would give now; takes nothing, and works on a read-only connection."""
        redis = self._redis.within(timeout)
        return self._decided(lambda: self._peeked(redis, key))

    def reset(self, key: str, *, timeout: Duration | None = None) -> bool:
        """Forgets what was taken, by any algorithm; False when nothing was."""
        commands = [("UNLINK", self._key(algorithm, key)) for algorithm in ALGORITHMS]
        return any(self._redis.within(timeout).pipeline(commands, safety=Safety.IDEMPOTENT))

    @property
    def _window_us(self) -> int:
        return round(self.window * 1e6)

    def _key(self, algorithm: Algorithm, key: str) -> bytes:
        return to_bytes(f"{self._prefix}{algorithm}:{key}")

    def _decided(self, ask: Callable[[], Decision]) -> Decision:
        try:
            return ask()
        except (Unavailable, OutcomeUnknown) as error:
            if self._on_error is None:
                raise
            self.undecided += 1
            allowed = self._on_error == "open"
            getLogger("katax").warning(
                "limit %s without an answer of Redis: %s", "allowed" if allowed else "refused", error
            )
            retry = 0.0 if allowed else self.window
            return Decision(allowed, self.max, 0, SYSTEM.now() + self.window, retry)

    def _decision(self, allowed: int, left: int, retry_us: int, free_us: int, now_us: int) -> Decision:
        return Decision(
            bool(allowed),
            self.max,
            max(left, 0),
            reset_at=(now_us + free_us) / 1e6,
            retry_after=retry_us / 1e6,
        )

    def _peeked(self, redis: Commands, key: str) -> Decision:
        full = self._key(self.algorithm, key)
        seconds, microseconds = redis.redis("TIME", safety=Safety.READ)
        now_us = int(seconds) * 1_000_000 + int(microseconds)
        used, retry_us, free_us = _READERS[self.algorithm](self, redis, full, now_us)
        allowed = used < self.max
        return self._decision(allowed, self.max - used, 0 if allowed else retry_us, free_us, now_us)

    def _read_fixed(self, redis: Commands, full: bytes, _now_us: int) -> tuple[int, int, int]:
        used, left_ms = redis.pipeline([("GET", full), ("PTTL", full)], safety=Safety.READ)
        left_us = max(left_ms, 0) * 1000
        return int(used or 0), left_us, left_us

    def _read_sliding(self, redis: Commands, full: bytes, now_us: int) -> tuple[int, int, int]:
        flat: list[bytes] = redis.redis("HGETALL", full, safety=Safety.READ)
        size = ceil(self._window_us / BUCKETS)
        pairs = zip(map(int, flat[0::2]), map(int, flat[1::2]), strict=True)
        ends = sorted(((bucket + 1) * size + self._window_us - now_us, taken) for bucket, taken in pairs)
        counted = [(end, taken) for end, taken in ends if end > 0]
        if not counted:
            return 0, 0, 0
        return sum(taken for _, taken in counted), counted[0][0], counted[-1][0]

    def _read_gcra(self, redis: Commands, full: bytes, now_us: int) -> tuple[int, int, int]:
        arrival = int(redis.redis("GET", full, safety=Safety.READ) or 0)
        cost, ahead = ceil(self._window_us / self.max), max(arrival - now_us, 0)
        return ceil(ahead / cost), max(ahead + cost - cost * self.max, 0), ahead


_READERS: dict[Algorithm, Callable[[Any, Commands, bytes, int], tuple[int, int, int]]] = {
    "fixed": RateLimiter._read_fixed,
    "sliding": RateLimiter._read_sliding,
    "gcra": RateLimiter._read_gcra,
}
