"""The conditions under which a circuit breaker opens, and under which it closes again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from katax_cli.core.resilience.backoff import equal_jitter

STEADY_SECONDS = 30.0
"""Seconds of an outage during which background probes keep their interval; then it doubles up to `probe_max`."""
_FIRST_PROBE = 0.1
_RESET = 60.0


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """The conditions for opening and closing a breaker; times are seconds.

    It opens when at least `min_calls` calls ended within the last `window` seconds and the share of failures
    reached `rate`, or the share of calls that took longer than `slow_ms` reached `slow_rate`. A breaker that judges by
    events opens too when so many failed and none was answered for 0.3 of the window. With `failures` it opens after so
    many in a row instead. Open, a background probe goes out after a tenth of `probe`, then at
    intervals that double up to `probe`, and after half a minute up to `probe_max`, with jitter. After one that is
    answered, calls are admitted in steps: `half_open_calls`, twice and four times as many, all.

    With `reset` (60 s when `failures` is set) there are no background probes: after so many seconds
    `half_open_calls` calls are let through, and when all were answered it closes. Calls admitted half-open that
    hang for `half_open_max` seconds count as failed. Raises ValueError when a value makes no sense.
    """

    failures: int | None = None
    reset: float | None = None
    half_open_calls: int = 1
    half_open_max: float = 30.0
    window: float | None = 10.0
    rate: float | None = 0.5
    min_calls: int | None = 10
    slow_rate: float | None = None
    slow_ms: float | None = None
    probe: float | None = 0.5
    probe_max: float | None = 5.0

    def __post_init__(self) -> None:
        if self.failures is not None:
            self._leave_out("window", "rate", "min_calls", "slow_rate", "slow_ms")
            if self.reset is None:
                object.__setattr__(self, "reset", _RESET)
        if self.reset is not None:
            self._leave_out("probe", "probe_max")
        self._check_numbers()
        if (self.slow_rate is None) != (self.slow_ms is None):
            missing = "slow_rate" if self.slow_rate is None else "slow_ms"
            raise ValueError(f"breaker {missing} is not set; slow_rate and slow_ms go together")

    def exceeded(self, calls: int, failures: int, merged: int, slow: int, *, fewest: int) -> str | None:
        """The share that opens a breaker, of `calls` within the window; None while there is no such share.

        `merged` calls failed in the same event as one of the `failures`, of which it takes the `fewest`.
        """
        if calls < (self.min_calls or 1):
            return None
        if failures >= fewest and failures >= (self.rate or 1.0) * (calls - merged):
            return f"{failures + merged} of {calls} calls failed within {self.window:g} s"
        if self.slow_rate is not None and slow >= self.slow_rate * calls:
            return f"{slow} of {calls} calls took longer than {self.slow_ms:g} ms within {self.window:g} s"
        return None

    def _leave_out(self, *names: str) -> None:
        for name in names:
            object.__setattr__(self, name, None)

    def _check_numbers(self) -> None:
        for name in ("failures", "half_open_calls", "min_calls"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ValueError(f"breaker {name} is {count}, expected at least 1")
        for name in ("reset", "half_open_max", "window", "probe", "probe_max"):
            seconds = getattr(self, name)
            if seconds is not None and not seconds > 0:
                raise ValueError(f"breaker {name} is {seconds:g}, expected more than 0 seconds")
        for name in ("rate", "slow_rate"):
            share = getattr(self, name)
            if share is not None and not 0 < share <= 1:
                raise ValueError(f"breaker {name} is {share:g}, expected more than 0 and at most 1")
        if self.slow_ms is not None and not self.slow_ms > 0:
            raise ValueError(f"breaker slow_ms is {self.slow_ms:g}, expected more than 0 milliseconds")


class ProbePace:
    """The pauses between the background probes of one outage."""

    __slots__ = ("_longest", "_policy", "_random", "_since")

    def __init__(self, policy: BreakerPolicy, random: Callable[[], float]) -> None:
        self._policy = policy
        self._random = random
        self.rest()

    def rest(self) -> None:
        """The outage is over; the next one begins with a short pause again."""
        self._since: float | None = None
        self._longest = 0.0

    def pause(self, now: float) -> float:
        """Seconds from `now` until the next probe; infinite for a policy without background probes."""
        steady, most = self._policy.probe, self._policy.probe_max
        if steady is None:
            return float("inf")
        if self._since is None:
            self._since = now
        if now - self._since < STEADY_SECONDS:
            self._longest = min(steady, 2.0 * self._longest or _FIRST_PROBE * steady)
            return self._longest
        self._longest = max(steady, min(most or steady, 2.0 * self._longest))
        return equal_jitter(self._longest, self._random)
