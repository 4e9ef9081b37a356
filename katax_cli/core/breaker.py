"""The circuit breaker: a state machine over time that says whether a call may go out.

    closed ──too many failures──▶ open ──after `reset`──▶ half_open ──all probes answered──▶ closed
                                    ▲                         │
                                    └─a probe failed or hangs─┘

An operator can put it into `forced_open` (for a while: then half_open) or `disabled`. There is no timer: a
state expires when somebody asks. Every change starts a new generation; the result of a call that was let
out in an older one is ignored. The lock guards decisions only, never the call and never a callback.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.duration import Duration, in_seconds
from katax_cli.errors import (
    AuthenticationFailed,
    BreakerOpen,
    KataxError,
    OutcomeUnknown,
    PoolClosed,
    PoolTimeout,
    QueryError,
    Unavailable,
)

if TYPE_CHECKING:
    from katax_cli.snapshot import BreakerState, BreakerStats

T = TypeVar("T")
OnStateChange = Callable[["BreakerState", "BreakerState"], None]

_NEVER = float("inf")
_BUCKETS = 10


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens and how it closes again; times are seconds.

    Without `window` it opens after `failures` consecutive failures. With `window` and `rate` it opens when
    at least `min_calls` calls ended within the last `window` seconds and the share of failures reached
    `rate`. Open, it lets nothing through for `reset` seconds, then `half_open_calls` probes. All answered,
    it closes; one failed, or hanging `half_open_max` seconds after the first went out, it opens again.
    Raises ValueError when a value makes no sense.
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


_DEFAULT = BreakerPolicy()


class RateWindow:
    """Calls and failures of the last `seconds`, in tenths: the oldest tenth leaves as a whole."""

    __slots__ = ("_buckets", "_width", "calls", "failures")

    def __init__(self, seconds: float) -> None:
        self._width = seconds / _BUCKETS
        self.clear()

    def clear(self) -> None:
        self._buckets: deque[list[int]] = deque()
        self.calls = 0
        self.failures = 0

    def record(self, now: float, *, failed: bool) -> None:
        """Adds one call that ended `now` (seconds that never go back)."""
        tenth = int(now / self._width)
        self._forget(tenth - _BUCKETS)
        if not self._buckets or self._buckets[-1][0] != tenth:
            self._buckets.append([tenth, 0, 0])
        self._buckets[-1][1] += 1
        self._buckets[-1][2] += failed
        self.calls += 1
        self.failures += failed

    def _forget(self, last: int) -> None:
        while self._buckets and self._buckets[0][0] <= last:
            _, calls, failures = self._buckets.popleft()
            self.calls -= calls
            self.failures -= failures


class CircuitBreaker:
    """Stops calling what keeps failing, and finds out with few calls when it works again.

    `execute` runs a call under it; `before` and `after` are its two halves. Thread-safe; state is of this
    process. `on_state_change(new, old)` is called outside the lock, on the thread that caused or noticed the
    change; an exception in it is logged. Raises ValueError for values that make no sense (`BreakerPolicy`).
    """

    def __init__(
        self,
        failures: int = _DEFAULT.failures,
        reset: Duration = _DEFAULT.reset,
        *,
        on_state_change: OnStateChange | None = None,
        half_open_calls: int = _DEFAULT.half_open_calls,
        half_open_max: Duration = _DEFAULT.half_open_max,
        window: Duration | None = _DEFAULT.window,
        rate: float | None = _DEFAULT.rate,
        min_calls: int = _DEFAULT.min_calls,
        name: str = "calls",
        clock: Clock = SYSTEM,
    ) -> None:
        self.name = name
        self.policy = BreakerPolicy(
            failures,
            in_seconds(reset),
            half_open_calls,
            in_seconds(half_open_max),
            None if window is None else in_seconds(window),
            rate,
            min_calls,
        )
        self._on_state_change = on_state_change
        self._clock = clock
        self._lock = Lock()
        self._changes: deque[tuple[BreakerState, BreakerState]] = deque()
        seconds = self.policy.window
        self._window = RateWindow(seconds) if seconds is not None else None
        self._failures = 0
        self._last_failure_at: float | None = None
        self._probes_out = 0
        self._probes_answered = 0
        self._state: BreakerState = "closed"
        self._reason: str | None = None
        self._until = _NEVER
        self._generation = 0
        # The generation while every call may pass, else None: one read without the lock decides.
        self._pass: int | None = 0

    @classmethod
    def of(
        cls,
        policy: BreakerPolicy,
        *,
        name: str,
        on_state_change: OnStateChange | None = None,
        clock: Clock = SYSTEM,
    ) -> CircuitBreaker:
        """A breaker for one connection of a profile."""
        return cls(
            policy.failures,
            policy.reset,
            on_state_change=on_state_change,
            half_open_calls=policy.half_open_calls,
            half_open_max=policy.half_open_max,
            window=policy.window,
            rate=policy.rate,
            min_calls=policy.min_calls,
            name=name,
            clock=clock,
        )

    @property
    def generation(self) -> int:
        """The present one, to hand to `after` with what belongs to a call that was let out before."""
        return self._generation

    def execute(self, fn: Callable[[], T]) -> T:
        """Runs `fn` and counts how it ended; raises BreakerOpen without running it when not let through."""
        generation = self.before()
        try:
            value = fn()
        except BaseException as error:
            self.after(generation, self.verdict(error))
            raise
        self.after(generation, ok=True)
        return value

    def verdict(self, error: BaseException) -> bool | None:
        """What an error says about the callee: False ill, True well (it answered no), None nothing."""
        return verdict(error)

    def before(self) -> int:
        """Lets a call out and returns the generation to hand to `after`; raises BreakerOpen otherwise.

        Each `before` needs its `after`, or a probe counts as hanging.
        """
        generation = self._pass
        return self._admit() if generation is None else generation

    def after(self, generation: int, ok: bool | None) -> None:
        """Counts the end of a call; None when it says nothing (interrupted, never got there)."""
        if ok and generation == self._pass and not self._failures and self._window is None:
            return
        with self._lock:
            now = self._clock.monotonic()
            self._settle(now)
            if generation == self._generation:
                self._judge(ok, now)
        self._announce()

    def get_state(self) -> BreakerStats:
        """The state as of now; an open breaker whose time is over reads half_open."""
        from katax_cli.snapshot import BreakerStats

        with self._lock:
            now = self._clock.monotonic()
            self._settle(now)
            opens = self._state in ("open", "forced_open") and self._until != _NEVER
            stats = BreakerStats(
                self._state,
                self._failures,
                self._last_failure_at,
                self._clock.now() + self._until - now if opens else None,
                self._reason,
            )
        self._announce()
        return stats

    def is_open(self) -> bool:
        """True while no call is let through, by failures or by force."""
        return self.get_state().state in ("open", "forced_open")

    def is_closed(self) -> bool:
        """True while every call is let through and counted."""
        return self.get_state().state == "closed"

    def reset(self) -> None:
        """Closes and forgets all failures, whatever the state; calls still out no longer count."""
        self._command("closed")

    def force_open(self, for_: float | None = None, reason: str | None = None) -> None:
        """Lets nothing through for that many seconds (None: until `reset`), then probes."""
        if for_ is not None and not for_ > 0:
            raise ValueError(f"force_open for_ is {for_:g}, expected more than 0 seconds")
        until = _NEVER if for_ is None else self._clock.monotonic() + for_
        self._command("forced_open", until=until, reason=reason)

    def disable(self, reason: str | None = None) -> None:
        """Lets everything through and counts nothing, until `reset` or `force_open`."""
        self._command("disabled", reason=reason)

    def _command(self, state: BreakerState, *, until: float = _NEVER, reason: str | None = None) -> None:
        with self._lock:
            self._settle(self._clock.monotonic())
            self._enter(state, until=until, reason=reason)
        self._announce()

    def _admit(self) -> int:
        with self._lock:
            now = self._clock.monotonic()
            self._settle(now)
            refusal = self._refusal(now)
            if refusal is None and self._state == "half_open":
                self._send_probe(now)
            generation = self._generation
        self._announce()
        if refusal is not None:
            raise refusal
        return generation

    def _refusal(self, now: float) -> BreakerOpen | None:
        if self._state in ("open", "forced_open"):
            wait = self._until - now if self._until != _NEVER else None
            return BreakerOpen(self.name, retry_after=wait, reason=self._reason)
        if self._state == "half_open" and self._probes_out >= self.policy.half_open_calls:
            return BreakerOpen(self.name, reason="it is being probed")
        return None

    def _send_probe(self, now: float) -> None:
        # The stay is limited from the first probe on: without one, nothing hangs and the next call may go.
        if self._probes_out == 0:
            self._until = now + self.policy.half_open_max
        self._probes_out += 1

    def _settle(self, now: float) -> None:
        """Lets every state that ran out by `now` end, as if a timer had done it at its moment."""
        while now >= self._until:
            if self._state != "half_open":
                self._enter("half_open", reason=self._reason)
            elif self._probes_out > self._probes_answered:
                self._open(self._until, "a probe did not answer")
            else:
                self._enter("closed")

    def _judge(self, ok: bool | None, now: float) -> None:
        if ok is False and self._state in ("closed", "half_open"):
            self._last_failure_at = self._clock.now()
        if self._state == "half_open":
            self._judge_probe(ok, now)
        elif self._state == "closed" and ok is not None:
            self._judge_call(ok, now)

    def _judge_probe(self, ok: bool | None, now: float) -> None:
        if ok is None:
            self._probes_out -= 1
            if self._probes_out == 0:
                self._until = _NEVER
        elif ok:
            self._probes_answered += 1
            if self._probes_answered >= self.policy.half_open_calls:
                self._enter("closed")
        else:
            self._failures += 1
            self._open(now, "a probe failed")

    def _judge_call(self, ok: bool, now: float) -> None:
        if self._window is not None:
            self._window.record(now, failed=not ok)
            self._failures = self._window.failures
        else:
            self._failures = 0 if ok else self._failures + 1
        reason = self._too_much()
        if reason is not None:
            self._open(now, reason)

    def _too_much(self) -> str | None:
        if self._window is None:
            return f"{self._failures} failures in a row" if self._failures >= self.policy.failures else None
        calls, failures = self._window.calls, self._window.failures
        if calls < self.policy.min_calls or failures < (self.policy.rate or 1.0) * calls:
            return None
        return f"{failures} of {calls} calls failed within {self.policy.window:g} s"

    def _open(self, at: float, reason: str) -> None:
        self._enter("open", until=at + self.policy.reset, reason=reason)

    def _enter(self, state: BreakerState, *, until: float = _NEVER, reason: str | None = None) -> None:
        if state != self._state and self._on_state_change is not None:
            self._changes.append((state, self._state))
        self._generation += 1
        self._state, self._until, self._reason = state, until, reason
        self._probes_out = self._probes_answered = 0
        if state == "closed":
            self._failures = 0
            if self._window is not None:
                self._window.clear()
        self._pass = self._generation if state in ("closed", "disabled") else None

    def _announce(self) -> None:
        while self._changes and self._on_state_change is not None:
            try:
                new, old = self._changes.popleft()
            except IndexError:
                return
            try:
                self._on_state_change(new, old)
            except Exception:
                from logging import getLogger

                getLogger("katax").exception("on_state_change of breaker %r failed", self.name)


def verdict(error: BaseException) -> bool | None:
    """What an error says about the callee: False it is ill, True it is well and said no, None nothing."""
    if not isinstance(error, Exception) or isinstance(error, BreakerOpen | PoolTimeout | PoolClosed):
        return None
    if isinstance(error, Unavailable | OutcomeUnknown):
        return False
    if isinstance(error, QueryError | AuthenticationFailed):
        return True
    return None if isinstance(error, KataxError) else False
