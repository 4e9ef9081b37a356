"""Sources: one round at a time, in a thread with a name, and a failure is a value."""

from __future__ import annotations

import threading
import time

from katax_cli.errors import Unavailable
from katax_cli.services.watching import Answered, Source
from tests.fake_clock import FakeClock

ENOUGH = 20.0


def threads(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def ended(name: str) -> bool:
    end = time.monotonic() + ENOUGH
    while threads(name):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_a_round_runs_in_a_daemon_thread_with_a_name() -> None:
    seen: list[threading.Thread] = []
    source = Source("katax-t-1", lambda _: seen.append(threading.current_thread()), clock=FakeClock())
    assert (source.silence(0.0), source.answered) == (None, False)

    source.begin()

    assert source.silence(ENOUGH) is None
    assert (seen[0].name, seen[0].daemon, source.answered, source.trouble) == ("katax-t-1", True, True, None)


def test_who_hangs_is_left_alone_and_his_silence_is_known() -> None:
    gate, clock, rounds = threading.Event(), FakeClock(at=5.0), list[int]()

    def hang(_answered: Answered) -> None:
        rounds.append(1)
        gate.wait(ENOUGH)

    source = Source("katax-t-2", hang, clock=clock)
    for _ in range(3):
        source.begin()
        clock.at += 2.0

    assert source.silence(0.0) == 6.0
    assert (rounds, len(threads("katax-t-2"))) == ([1], 1)
    gate.set()
    assert source.silence(ENOUGH) is None
    source.begin()
    assert source.silence(ENOUGH) is None
    assert rounds == [1, 1]


def test_an_answer_is_heard_before_the_round_is_over() -> None:
    gate = threading.Event()

    def work(answered: Answered) -> None:
        answered()
        gate.wait(ENOUGH)

    source = Source("katax-t-3", work, clock=FakeClock())
    source.begin()

    assert source.silence(ENOUGH) is None
    assert len(threads("katax-t-3")) == 1
    gate.set()


def test_a_failure_is_said_until_it_is_over() -> None:
    failures: list[Exception | None] = [Unavailable("main", "gone"), KeyError("x"), None]

    def work(_answered: Answered) -> None:
        failure = failures.pop(0)
        if failure is not None:
            raise failure

    source = Source("katax-t-4", work, clock=FakeClock())
    said = []
    for _ in range(3):
        source.begin()
        assert source.silence(ENOUGH) is None
        said.append(source.trouble)

    assert said == ["'main' is not available: gone", "internal error: KeyError: 'x'", None]


class TestEnd:
    def test_an_idle_one_is_cleaned_up_at_once_and_once(self) -> None:
        cleaned: list[int] = []
        source = Source("katax-t-5", lambda _: None, clock=FakeClock(), cleanup=lambda: cleaned.append(1))
        source.begin()
        assert ended("katax-t-5")

        source.close()
        source.close()
        source.begin()

        assert cleaned == [1]
        assert threads("katax-t-5") == []

    def test_a_busy_one_cleans_up_when_it_comes_back(self) -> None:
        gate, cleaned = threading.Event(), list[int]()

        def hang(_answered: Answered) -> None:
            gate.wait(ENOUGH)

        source = Source("katax-t-6", hang, clock=FakeClock(), cleanup=lambda: cleaned.append(1))
        source.begin()
        source.close()
        assert cleaned == []

        gate.set()

        assert ended("katax-t-6")
        assert cleaned == [1]
