"""Shutdown: once, in a fixed order, within one deadline; steps that did not finish are named.

    stage, stage, …, last stage      the steps of one stage run side by side, stages one after another

Nothing is waited for longer than the deadline allows: a step that hangs is left behind. A tenth of the time is
kept for the last stage, where connections are closed, so that a hook that hangs cannot leave them open.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.resilience.deadline import Deadline

KEPT_FOR_LAST = 0.1
_TO_SAY_WHAT_IS_LEFT, _SECONDS_TO_SAY = 0.05, 1.0
_LAST_MOMENT = 0.5


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to be ended: `call(seconds)` takes at most that long and returns what it had to leave open.

    Of one that did not finish, `left` says at once what that is.
    """

    name: str
    call: Callable[[float], Iterable[str]]
    left: Callable[[], Iterable[str]] = tuple


Stage = Callable[[], Sequence[Step]]
"""The steps of a stage, asked for when its turn comes."""


@dataclass(frozen=True, slots=True)
class ShutdownReport:
    """The outcome of each step: `done`, `failed` (name, error), `unfinished` when the deadline came.

    `left` is what was still in use when it was closed.
    """

    seconds: float
    done: tuple[str, ...] = ()
    failed: tuple[tuple[str, BaseException], ...] = ()
    unfinished: tuple[str, ...] = ()
    left: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """True when everything ended by itself and in time."""
        return not (self.failed or self.unfinished or self.left)

    def __str__(self) -> str:
        if self.clean:
            return f"shutdown complete after {self.seconds:.1f} s"
        troubles = [f"{name} failed: {type(error).__name__}: {error}" for name, error in self.failed]
        troubles += [f"{name} did not finish" for name in self.unfinished]
        troubles += [f"left open: {each}" for each in self.left]
        return f"shutdown incomplete after {self.seconds:.1f} s: {'; '.join(troubles)}"


class Call(Protocol):
    """A step under way in a thread of its own; `outcome` is its result, or its error as a value."""

    outcome: Any

    def ended(self, seconds: float | None) -> bool:
        """Waits up to `seconds`; True when it ended."""
        ...


Start = Callable[[str, Callable[[], Any]], Call]


class Shutdown:
    """One shutdown: `begin` is true for the first caller only, the others `wait` for its report."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._report: ShutdownReport | None = None
        self.begun = False
        self.running: tuple[str, ...] = ()

    def begin(self) -> bool:
        with self._lock:
            first, self.begun = not self.begun, True
        return first

    def wait(self, seconds: float | None = None) -> ShutdownReport | None:
        """The report, None when there is none within `seconds`."""
        self._ended.wait(seconds)
        return self._report

    def run(
        self, stages: Sequence[Stage], seconds: float, start: Start, *, clock: Clock = SYSTEM
    ) -> ShutdownReport:
        """Runs the stages in order; `running` names what is under way. Raises nothing that a step raises.

        Interrupted, it still has a report for the others, who would wait for ever.
        """
        began = clock.monotonic()
        deadline = Deadline(min(seconds, threading.TIMEOUT_MAX), clock=clock)
        tally = _Tally()
        try:
            for number, stage in enumerate(stages, start=1):
                last = number == len(stages)
                remaining = partial(_remaining, deadline, last=last)
                self._run_stage(stage(), tally, remaining, start)
        except BaseException:
            tally.unfinished += [*self.running, "what was to come after the interrupt"]
            raise
        finally:
            self._report = tally.report(clock.monotonic() - began)
            self._ended.set()
        return self._report

    def _run_stage(
        self, steps: Sequence[Step], tally: _Tally, remaining: Callable[[], float], start: Start
    ) -> None:
        if remaining() == 0.0:
            for step in steps:
                tally.leave(step)
            return
        self.running = tuple(step.name for step in steps)
        seconds = _for_the_step(remaining())
        calls = [(step, start(f"katax-end-{step.name}", partial(step.call, seconds))) for step in steps]
        for step, call in calls:
            if call.ended(remaining()):
                tally.add(step.name, call)
            else:
                tally.leave(step)
            self.running = tuple(each for each in self.running if each != step.name)


def _for_the_step(seconds: float) -> float:
    """Seconds for the step; the rest is for cutting off what is unfinished, on its server, and for naming it."""
    saying = max(seconds * _TO_SAY_WHAT_IS_LEFT, min(_SECONDS_TO_SAY, seconds / 2))
    return seconds - saying


def _remaining(deadline: Deadline, *, last: bool) -> float:
    """Seconds for a step; the last stage gets its moment even when a hook used up all the time."""
    if last:
        return max(deadline.remaining(), _LAST_MOMENT)
    return max(deadline.remaining() - KEPT_FOR_LAST * (deadline.seconds or 0.0), 0.0)


class _Tally:
    def __init__(self) -> None:
        self.done: list[str] = []
        self.failed: list[tuple[str, BaseException]] = []
        self.unfinished: list[str] = []
        self.left: list[str] = []

    def leave(self, step: Step) -> None:
        self.unfinished.append(step.name)
        self.left += step.left()

    def add(self, name: str, call: Call) -> None:
        if isinstance(call.outcome, BaseException):
            self.failed.append((name, call.outcome))
        else:
            self.done.append(name)
            self.left += call.outcome

    def report(self, seconds: float) -> ShutdownReport:
        return ShutdownReport(
            seconds=seconds,
            done=tuple(self.done),
            failed=tuple(self.failed),
            unfinished=tuple(self.unfinished),
            left=tuple(self.left),
        )
