"""Order, deadline and report of a shutdown, with steps whose end the test decides."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from katax_cli.core.resilience.shutdown import Shutdown, ShutdownReport, Stage, Step
from tests.fake_clock import FakeClock


class Call:
    """A step that needs `takes` seconds of the fake clock."""

    def __init__(self, clock: FakeClock, call: Callable[[], Any], takes: float) -> None:
        self._clock = clock
        self._takes = takes
        try:
            self.outcome = call()
        except ValueError as error:
            self.outcome = error

    def ended(self, seconds: float | None) -> bool:
        assert seconds is not None
        self._clock.sleep(min(seconds, self._takes))
        return self._takes <= seconds


class Scene:
    """Starts steps and writes down their names and the seconds that they got."""

    def __init__(self, **takes: float) -> None:
        self.clock = FakeClock()
        self.started: list[str] = []
        self.granted: dict[str, float] = {}
        self._takes = takes

    def start(self, name: str, call: Callable[[], Any]) -> Call:
        name = name.removeprefix("katax-end-")
        self.started.append(name)
        return Call(self.clock, call, self._takes.get(name, 0.0))

    def step(self, name: str, left: Iterable[str] = (), *, fails: bool = False) -> Step:
        def call(seconds: float) -> Iterable[str]:
            self.granted[name] = seconds
            if fails:
                raise ValueError(f"{name} broke")
            return left

        return Step(name, call)

    def run(self, *stages: Sequence[Step], seconds: float = 10.0) -> ShutdownReport:
        lazy: list[Stage] = [lambda steps=steps: steps for steps in stages]  # type: ignore[misc]
        return Shutdown().run(lazy, seconds, self.start, clock=self.clock)


def test_stages_follow_one_another_and_steps_start_together() -> None:
    scene = Scene(a=1.0)

    report = scene.run([scene.step("a")], [scene.step("b"), scene.step("c")])

    assert scene.started == ["a", "b", "c"]
    assert report == ShutdownReport(1.0, done=("a", "b", "c"))
    assert report.clean
    assert str(report) == "shutdown complete after 1.0 s"


def test_a_step_that_hangs_is_left_behind_and_the_last_stage_gets_its_tenth() -> None:
    scene = Scene(flush=600.0, pool=0.5)

    report = scene.run([scene.step("flush")], [scene.step("pool")])

    assert report == ShutdownReport(9.5, done=("pool",), unfinished=("flush",))
    assert scene.granted["flush"] == pytest.approx(9.0 - 1.0)
    assert scene.granted["pool"] == pytest.approx(1.0 - 0.5)
    assert not report.clean
    assert str(report) == "shutdown incomplete after 9.5 s: flush did not finish"


def test_hooks_that_find_no_time_left_are_not_started_but_the_last_stage_is() -> None:
    scene = Scene(flush=600.0)

    report = scene.run([scene.step("flush")], [scene.step("next")], [scene.step("pool")])

    assert scene.started == ["flush", "pool"]
    assert report.unfinished == ("flush", "next")
    assert report.done == ("pool",)


def test_no_time_at_all_still_closes() -> None:
    scene = Scene()

    report = scene.run([scene.step("hook")], [scene.step("pool")], seconds=0.0)

    assert report.done == ("pool",)
    assert report.unfinished == ("hook",)


def test_what_an_unfinished_step_leaves_open_is_named() -> None:
    scene = Scene(pool=600.0)
    step = Step("pool", lambda _seconds: (), lambda: ["a connection"])

    report = scene.run([step])

    assert str(report) == "shutdown incomplete after 10.0 s: pool did not finish; left open: a connection"


def test_the_deadline_holds_for_everything_together() -> None:
    scene = Scene(a=4.0, b=4.0, c=600.0, d=600.0)

    report = scene.run([scene.step("a")], [scene.step("b")], [scene.step("c"), scene.step("d")])

    assert report.seconds == pytest.approx(10.0, abs=0.51)
    assert report.unfinished == ("c", "d")


def test_no_limit_waits_for_everything() -> None:
    scene = Scene(a=1e6)

    report = scene.run([scene.step("a")], [scene.step("b")], seconds=float("inf"))

    assert report.done == ("a", "b")


def test_a_failure_stops_nothing_and_is_named() -> None:
    scene = Scene()

    report = scene.run([scene.step("hook", fails=True)], [scene.step("pool", left=["a connection"])])

    assert report.done == ("pool",)
    assert [name for name, _ in report.failed] == ["hook"]
    assert not report.clean
    assert str(report) == (
        "shutdown incomplete after 0.0 s: hook failed: ValueError: hook broke; left open: a connection"
    )


@pytest.mark.parametrize(
    "report",
    [
        ShutdownReport(1.0, failed=(("a", ValueError()),)),
        ShutdownReport(1.0, unfinished=("a",)),
        ShutdownReport(1.0, left=("a",)),
    ],
)
def test_each_trouble_alone_is_not_clean(report: ShutdownReport) -> None:
    assert not report.clean


def test_stages_are_asked_for_when_their_turn_comes() -> None:
    scene = Scene()
    opened: list[Step] = []

    def hook(_seconds: float) -> Iterable[str]:
        opened.append(scene.step("late"))
        return ()

    report = Shutdown().run(
        [lambda: [Step("hook", hook)], lambda: opened], 10.0, scene.start, clock=scene.clock
    )

    assert report.done == ("hook", "late")


def test_only_the_first_begins_and_the_others_get_its_report() -> None:
    shutdown, scene = Shutdown(), Scene()
    before = shutdown.begun
    assert [shutdown.begin(), shutdown.begin()] == [True, False]
    assert [before, shutdown.begun] == [False, True]
    assert shutdown.wait(0.0) is None
    got: list[ShutdownReport | None] = []
    waiter = threading.Thread(target=lambda: got.append(shutdown.wait()))
    waiter.start()

    report = shutdown.run([lambda: [scene.step("a")]], 10.0, scene.start, clock=scene.clock)
    waiter.join()

    assert got == [report]


def test_what_runs_can_be_asked_for_meanwhile() -> None:
    shutdown, scene = Shutdown(), Scene()
    seen: list[tuple[str, ...]] = []

    def look(_seconds: float) -> Iterable[str]:
        seen.append(shutdown.running)
        return ()

    shutdown.run([lambda: [Step("a", look), scene.step("b")]], 10.0, scene.start, clock=scene.clock)

    assert seen == [("a", "b")]
    assert shutdown.running == ()


def test_one_that_is_interrupted_keeps_nobody_waiting() -> None:
    """Ctrl-C in the middle, and then an exit handler that asks once more."""
    shutdown = Shutdown()

    def start(_name: str, _call: Callable[[], Any]) -> Call:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shutdown.run([lambda: [Step("hook", lambda _seconds: ())]], 10.0, start)

    report = shutdown.wait(0.0)
    assert report is not None
    assert report.unfinished == ("hook", "what was to come after the interrupt")
