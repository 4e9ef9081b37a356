"""The circuit breaker: a state machine over time that says whether a call may go out.

    closed ──too many failures──▶ open ──`reset`, or a probe answered──▶ half_open ──calls answered──▶ closed
                                    ▲                                        │
                                    └─────an admitted call failed or hangs───┘

An operator can put it into `forced_open` (for a while: then half_open) or `disabled`. There is no timer: a
state expires when somebody asks. Each call takes a ticket along; the result of a call that was let out before
the present state began is ignored. The lock guards decisions only, never the call and never a callback; what a
callback raises is logged.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.forks import follow
from katax_cli.core.resilience.breaker_events import BreakerEvents, OnCallNotPermitted, OnStateChange
from katax_cli.core.resilience.breaker_policy import BreakerPolicy, ProbePace
from katax_cli.core.resilience.call_window import CallWindow
from katax_cli.core.resilience.verdict import verdict
from katax_cli.errors import BreakerOpen

if TYPE_CHECKING:
    from katax_cli.snapshot import BreakerState, BreakerStats

T = TypeVar("T")
_NEVER = float("inf")
_FEWEST_EVENTS = 3
"""Failures that are no accident: one cut, and one failed reconnect, do not open a breaker that judges by rate."""
_IDLE_STEP = 0.1
"""A half-open step without calls lasts this part of `probe`."""
_LAST_STEP = 4
"""The last step admits so many times the calls of the first; the next one admits all."""


class CallBreaker:
    """Stops calling what keeps failing, and finds out with few calls when it works again.

    `execute` runs a call under it; `before` and `after` are its two halves. With `by_event` the failures of calls
    that were under way when another one failed count as that one. Background probes are made by whoever says so
    with `attended`, and asks `probe_in`, `take_probe` and tells `probed`; unattended, a caller is the probe.
    Thread-safe; state is of this process. Raises ValueError for values that make no sense (`BreakerPolicy`).
    """

    def __init__(
        self,
        policy: BreakerPolicy = BreakerPolicy(),  # noqa: B008 - frozen, and the real default
        *,
        on_state_change: OnStateChange | None = None,
        by_event: bool = True,
        name: str = "calls",
        clock: Clock = SYSTEM,
    ) -> None:
        self.name = name
        self.policy = policy
        self._by_event = by_event
        self._slow_seconds = None if policy.slow_ms is None else policy.slow_ms / 1000
        # True if `after` wants to know how long calls took.
        self.times_calls = policy.slow_ms is not None
        self._events = BreakerEvents(name, on_state_change)
        self._clock = clock
        self._monotonic = clock.monotonic
        self._lock = Lock()
        self._window = CallWindow(policy.window) if policy.window is not None else None
        self._pace = ProbePace(policy, clock.random)
        self._failures = 0
        self._last_failure_at: float | None = None
        self._admitted = 0
        self._answered = 0
        self._step = policy.half_open_calls
        self._state: BreakerState = "closed"
        self._reason: str | None = None
        self._until = _NEVER
        self._probe_at = _NEVER
        self._attended = self._quiet = False
        # Tickets are numbers that grow with each change of state and each counted failure.
        self._ticket = 0
        self._since = 0
        # The ticket while every call may pass, else None: one read without the lock decides.
        self._pass: int | None = 0
        follow(self)

    @property
    def ticket(self) -> int:
        """The present one, to hand to `after` with what belongs to a call that was let out before."""
        return self._ticket

    @property
    def admits_in_steps(self) -> bool:
        """True while some calls are let out and others are not."""
        return self._state == "half_open"

    @property
    def attended(self) -> bool:
        """True while background probes are made."""
        return self._attended

    @attended.setter
    def attended(self, attended: bool) -> None:
        with self._lock:
            self._attended = attended
            if self._state == "open" and self.policy.probe is not None:
                out = self._probe_at == _NEVER
                due = self._monotonic() + self.policy.probe if out else self._probe_at
                self._until = due + self._patience()

    def on_state_change(self, listener: OnStateChange) -> Callable[[], None]:
        """Calls `listener(new, old)` at every change, on the thread that caused or saw it; returns what removes it."""
        return self._events.listen(listener)

    def on_call_not_permitted(self, listener: OnCallNotPermitted) -> Callable[[], None]:
        """Calls `listener(error)` for every call that is refused, on its thread; returns what removes it."""
        return self._events.listen_to_refusals(listener)

    def execute(self, fn: Callable[[], T]) -> T:
        """Runs `fn` and counts how it ended; raises BreakerOpen without running it when not let through."""
        ticket = self.before()
        started = self._monotonic()
        try:
            value = fn()
        except BaseException as error:
            self.after(ticket, self.verdict(error), seconds=self._monotonic() - started)
            raise
        self.after(ticket, ok=True, seconds=self._monotonic() - started)
        return value

    def verdict(self, error: BaseException) -> bool | None:
        """The callee's health by an error: False failed, True healthy (it answered with a refusal), None neither."""
        return verdict(error)

    def before(self) -> int:
        """Lets a call out and returns the ticket to hand to `after`; raises BreakerOpen otherwise.

        Each `before` needs its `after`, or an admitted call counts as hanging.
        """
        return self._admit() if (ticket := self._pass) is None else ticket

    def after(self, ticket: int, ok: bool | None, *, seconds: float = 0.0) -> None:
        """Counts the end of a call; None when it says nothing (interrupted, never got there)."""
        window = self._window
        if ok and ticket == self._pass and self._slow_seconds is None:
            if window is None:
                if not self._failures:
                    return
            elif self._monotonic() < window.ends:
                window.present.calls += 1
                window.answered = True
                return
        with self._lock:
            now = self._monotonic()
            self._settle(now)
            if ticket >= self._since:
                self._judge(ticket, ok, seconds, now)
        self._events.tell()

    def probe_in(self) -> float | None:
        """Seconds until a background probe is due; None while none is wanted."""
        with self._lock:
            now = self._monotonic()
            self._settle(now)
            due = self._probe_at
        self._events.tell()
        return None if due == _NEVER else max(0.0, due - now)

    def take_probe(self) -> int | None:
        """The ticket of the background probe that is due now, None when none is; the next is due after `probed`."""
        with self._lock:
            now = self._monotonic()
            self._settle(now)
            ticket = None
            if now >= self._probe_at:
                self._probe_at = _NEVER
                ticket = self._ticket
                if self._state == "open":
                    self._until = now + self.policy.half_open_max
        self._events.tell()
        return ticket

    def probed(self, ticket: int, ok: bool | None, *, last: bool = False) -> None:
        """Records the result of a background probe; `last`: no further one until it opens again."""
        with self._lock:
            now = self._monotonic()
            self._settle(now)
            if ticket >= self._since and self._state in ("open", "half_open"):
                self._quiet = last
                self._judge_background(ok, now)
        self._events.tell()

    def get_state(self) -> BreakerStats:
        """The state as of now; an open breaker whose time is over reads half_open."""
        from katax_cli.snapshot import BreakerStats

        with self._lock:
            now = self._monotonic()
            self._settle(now)
            if self._window is not None and self._state == "closed":
                self._failures = self._window.counts(now).failures
            stats = BreakerStats(
                self._state, self._failures, self._last_failure_at, self._next_probe_at(now), self._reason
            )
        self._events.tell()
        return stats

    def _next_probe_at(self, now: float) -> float | None:
        if self._state not in ("open", "forced_open"):
            return None
        at = min(self._until, self._probe_at)
        return None if at == _NEVER else self._clock.now() + at - now

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
        until = _NEVER if for_ is None else self._monotonic() + for_
        self._command("forced_open", until=until, reason=reason)

    def disable(self, reason: str | None = None) -> None:
        """Lets everything through and counts nothing, until `reset` or `force_open`."""
        self._command("disabled", reason=reason)

    def _command(self, state: BreakerState, *, until: float = _NEVER, reason: str | None = None) -> None:
        with self._lock:
            self._settle(self._monotonic())
            self._enter(state, until=until, reason=reason)
        self._events.tell()

    def _admit(self) -> int:
        with self._lock:
            now = self._monotonic()
            self._settle(now)
            refusal = self._refusal(now)
            if refusal is None and self._state == "half_open":
                self._count_admitted(now)
            ticket = self._ticket
        self._events.tell()
        if refusal is not None:
            self._events.refused(refusal)
            raise refusal
        return ticket

    def _refusal(self, now: float) -> BreakerOpen | None:
        if self._state in ("open", "forced_open"):
            at = min(self._until, self._probe_at)
            wait = max(0.0, at - now) if at != _NEVER else None
            return BreakerOpen(self.name, retry_after=wait, reason=self._reason)
        if self._state == "half_open" and self._admitted >= self._step:
            return BreakerOpen(self.name, reason="it is being probed")
        return None

    def _count_admitted(self, now: float) -> None:
        # The stay is limited from the first call on: without one, nothing hangs and the next call may go.
        if self._admitted == 0:
            self._until = now + self.policy.half_open_max
        self._admitted += 1

    def _settle(self, now: float) -> None:
        """Lets every state that ran out by `now` end, as if a timer had done it at its moment."""
        while now >= self._until:
            if self._state != "half_open":
                self._half_open(self._until)
            elif self._admitted > self._answered:
                self._open(self._until, "a probe did not answer")
            else:
                self._advance(self._until)

    def _judge(self, ticket: int, ok: bool | None, seconds: float, now: float) -> None:
        if ok is False and self._state in ("closed", "half_open"):
            self._last_failure_at = self._clock.now()
        if self._state == "half_open":
            self._judge_admitted(ok, now)
        elif self._state == "closed" and ok is not None:
            self._judge_call(ticket, ok, seconds, now)

    def _judge_admitted(self, ok: bool | None, now: float) -> None:
        if ok is None:
            self._admitted = max(0, self._admitted - 1)
            if self._admitted == 0:
                self._until = self._idle_until(now)
        elif ok:
            self._answered += 1
            if self._answered >= self._step:
                self._advance(now)
        else:
            self._failures += 1
            self._open(now, "a probe failed")

    def _judge_background(self, ok: bool | None, now: float) -> None:
        if ok is False:
            self._last_failure_at = self._clock.now()
            self._failures += 1
        if self._state == "open":
            if ok:
                self._half_open(now)
            else:
                self._open(now, self._reason)
        elif ok is False:
            self._open(now, "a probe failed")
        elif ok:
            self._advance(now)
        else:
            self._probe_at = self._background_at(now)

    def _judge_call(self, ticket: int, ok: bool, seconds: float, now: float) -> None:
        merged = not ok and self._by_event and ticket < self._ticket
        if self._window is not None:
            slow = self._slow_seconds is not None and seconds > self._slow_seconds
            self._window.record(now, failed=not ok and not merged, merged=merged, slow=slow)
        elif not merged:
            self._failures = 0 if ok else self._failures + 1
        if not ok and not merged:
            self._ticket += 1
            self._pass = self._ticket
        reason = self._too_much(now)
        if reason is not None:
            self._open(now, reason)

    def _too_much(self, now: float) -> str | None:
        policy = self.policy
        if self._window is None:
            too_many = policy.failures is not None and self._failures >= policy.failures
            return f"{self._failures} failures in a row" if too_many else None
        fewest = _FEWEST_EVENTS if self._by_event else 1
        silence = self._window.silence(now, events=fewest, calls=policy.min_calls or 1)
        if self._by_event and silence is not None:
            return silence
        calls, self._failures, merged, slow = self._window.counts(now)
        return policy.exceeded(calls, self._failures, merged, slow, fewest=fewest)

    def _open(self, at: float, reason: str | None) -> None:
        pause = self._pace.pause(at)
        self._enter("open", until=at + (self.policy.reset or pause), reason=reason)
        if self.policy.reset is None:
            self._probe_at = at + pause
            self._until = self._probe_at + self._patience()

    def _patience(self) -> float:
        """Seconds that background probes are waited for before a caller is let through: their thread may hang."""
        return self.policy.half_open_max if self._attended else 0.0

    def _half_open(self, at: float) -> None:
        self._enter("half_open", reason=self._reason)
        self._step = self.policy.half_open_calls
        self._until = self._idle_until(at)
        self._probe_at = self._background_at(at)

    def _idle_until(self, at: float) -> float:
        """The end of a step without calls: a server that answered need not be doubted for long."""
        return _NEVER if self.policy.probe is None else at + _IDLE_STEP * self.policy.probe

    def _background_at(self, at: float) -> float:
        """The time to probe a half-open breaker in the background, in case its admitted calls take long."""
        wanted = self._attended and not self._quiet and self.policy.probe is not None
        return at + (self.policy.probe or 0.0) if wanted else _NEVER

    def _advance(self, at: float) -> None:
        """The present step was answered: the next admits twice as many, the one after the last all."""
        if self.policy.probe is None or self._step >= _LAST_STEP * self.policy.half_open_calls:
            self._enter("closed")
            return
        self._step *= 2
        self._admitted = self._answered = 0
        self._until = self._idle_until(at)
        self._probe_at = self._background_at(at)

    def _enter(self, state: BreakerState, *, until: float = _NEVER, reason: str | None = None) -> None:
        if state != self._state:
            self._events.note(state, self._state)
        self._ticket += 1
        self._since = self._ticket
        self._state, self._until, self._reason = state, until, reason
        self._probe_at = _NEVER
        self._admitted = self._answered = 0
        if state == "closed":
            self._failures = 0
            self._quiet = False
            self._pace.rest()
            if self._window is not None:
                self._window.clear()
        self._pass = self._ticket if state in ("closed", "disabled") else None

    def after_fork(self) -> None:
        """In the child: the lock may be held for ever, and the thread that makes the probes is the parent's."""
        self._lock = Lock()
        self.attended = False
