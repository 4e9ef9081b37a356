"""The common end of backups: what runs is ended, also what began to run a moment later."""

from __future__ import annotations

from threading import Event

from katax_cli.services.backup.work import StoppableWork
from katax_cli.services.calls.left_behind import start
from tests.waiting import SECONDS


def test_what_began_a_moment_after_it_was_ended_is_ended_again() -> None:
    """A stop that meets a thread between two calls of a server ends neither; the second call may never return."""
    work, runs, ended = StoppableWork("main"), Event(), Event()
    stops: list[int] = []

    def stop() -> None:
        stops.append(1)
        if len(stops) > 1:
            ended.set()

    def call() -> bool:
        with work.active(), work.stopping(stop):
            runs.set()
            return ended.wait(SECONDS)

    running = start("call", call)
    assert runs.wait(SECONDS)
    work.stop()
    assert running.ended(SECONDS)
    assert (running.outcome, work.stopped) == (True, True)


def test_what_does_not_run_is_ended_once() -> None:
    work, stops = StoppableWork("main"), list[int]()
    with work.stopping(lambda: stops.append(1)):
        work.stop()
    assert stops == [1]
