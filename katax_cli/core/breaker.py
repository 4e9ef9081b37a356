"""The circuit breaker: a state machine over time that says whether a call may go out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens and how it closes again; times are seconds.

    Without `window` it opens after `failures` consecutive failures. With `window` and `rate` it opens when at
    least `min_calls` calls ended within the last `window` seconds and the share of failures reached `rate`.
    Open, it lets nothing through for `reset` seconds, then `half_open_calls` probes; when they have not
    answered after `half_open_max` seconds it opens again. Raises ValueError when values contradict each other.
    """

    failures: int = 5
    reset: float = 60.0
    half_open_calls: int = 1
    half_open_max: float = 30.0
    window: float | None = None
    rate: float | None = None
    min_calls: int = 10

    def __post_init__(self) -> None:
        for name in ("failures", "half_open_calls", "min_calls"):
            if getattr(self, name) < 1:
                raise ValueError(f"breaker {name} is {getattr(self, name)}, expected at least 1")
        for name in ("reset", "half_open_max"):
            if not getattr(self, name) > 0:
                raise ValueError(f"breaker {name} is {getattr(self, name):g}, expected more than 0 seconds")
        self._check_rate()

    def _check_rate(self) -> None:
        if (self.window is None) != (self.rate is None):
            missing = "rate" if self.rate is None else "window"
            raise ValueError(f"breaker {missing} is not set; window and rate go together")
        if self.window is not None and not self.window > 0:
            raise ValueError(f"breaker window is {self.window:g}, expected more than 0 seconds")
        if self.rate is not None and not 0 < self.rate <= 1:
            raise ValueError(f"breaker rate is {self.rate:g}, expected more than 0 and at most 1")
