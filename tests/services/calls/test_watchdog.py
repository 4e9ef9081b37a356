"""Limits fire once, only while their block runs, and cost no thread until somebody sets one."""

from __future__ import annotations

import logging
import os
import threading
from threading import Event, Thread

import pytest

from katax_cli.services.calls.watchdog import Watchdog
from tests.fake_clock import FakeClock


@pytest.fixture
def dog() -> Watchdog:
    return Watchdog()


def never() -> None:
    raise AssertionError("this limit must not fire")


def test_a_limit_that_runs_out_fires_once_while_the_block_waits(dog: Watchdog) -> None:
    fired, calls = Event(), []

    def stop() -> None:
        calls.append((threading.current_thread().name, threading.current_thread().daemon))
        fired.set()

    with dog.limit(0.01, stop) as limit:
        assert fired.wait(60)

    assert calls == [("katax-watchdog-stop", True)]
    assert limit.fired


def test_a_block_that_ends_in_time_is_left_alone() -> None:
    clock, later = FakeClock(), Event()
    dog = Watchdog(clock)
    with dog.limit(10.0, never) as limit:
        pass
    clock.at = 20.0
    with dog.limit(0.0, later.set):
        assert later.wait(60)

    assert not limit.fired


def test_a_limit_does_not_fire_before_its_time() -> None:
    dog, now = Watchdog(FakeClock()), Event()

    with dog.limit(10.0, never) as limit, dog.limit(0.0, now.set):
        assert now.wait(60)

    assert not limit.fired


def test_an_earlier_limit_set_later_fires_first(dog: Watchdog) -> None:
    fired = Event()

    with dog.limit(3600.0, never), dog.limit(0.01, fired.set):
        assert fired.wait(60)


def test_limits_after_all_have_ended_fire_too(dog: Watchdog) -> None:
    for _ in range(3):
        fired = Event()
        with dog.limit(0.005, fired.set):
            assert fired.wait(60)


def test_the_block_does_not_end_before_its_callback_did(dog: Watchdog) -> None:
    started, release, order = Event(), Event(), []

    def stop() -> None:
        started.set()
        release.wait()
        order.append("callback")

    def block() -> None:
        with dog.limit(0.01, stop):
            started.wait()
        order.append("after the block")

    thread = Thread(target=block)
    thread.start()
    started.wait()
    thread.join(0.05)
    release.set()
    thread.join()

    assert order == ["callback", "after the block"]


def test_a_callback_that_blocks_does_not_hold_up_the_others(dog: Watchdog) -> None:
    release, quick = Event(), Event()

    with dog.limit(0.02, quick.set), dog.limit(0.01, release.wait):
        assert quick.wait(60)
        release.set()


def test_an_error_in_a_callback_is_logged_and_the_next_limit_fires(
    dog: Watchdog, caplog: pytest.LogCaptureFixture
) -> None:
    fired = Event()

    def broken() -> None:
        fired.set()
        raise OSError("gone")

    with caplog.at_level(logging.ERROR), dog.limit(0.005, broken):
        assert fired.wait(60)
    again = Event()
    with dog.limit(0.005, again.set):
        assert again.wait(60)

    told = [record.getMessage() for record in caplog.records if record.threadName == "katax-watchdog-stop"]
    assert told == ["the watchdog's callback failed"]


def test_without_a_limit_there_is_no_thread(dog: Watchdog) -> None:
    seen = []
    for seconds in (None, 3600.0, 3600.0):
        with dog.limit(seconds, never):
            seen.append(dog._thread)

    before, first, second = seen
    assert before is None
    assert first is second
    assert first is not None
    assert (first.name, first.daemon) == ("katax-watchdog", True)


def test_ended_blocks_do_not_pile_up(dog: Watchdog) -> None:
    with dog.limit(3600.0, never):
        for _ in range(10_000):
            with dog.limit(3600.0, never):
                pass

        assert len(dog._under_way) == 1


def test_blocks_still_running_survive_the_clean_up(dog: Watchdog) -> None:
    fired = Event()
    with dog.limit(0.5, fired.set):
        for _ in range(2_000):
            with dog.limit(3600.0, never):
                pass
        assert fired.wait(60)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_a_watchdog_of_its_own(dog: Watchdog) -> None:
    with dog.limit(3600.0, never):
        child = os.fork()
        if child == 0:
            fired = Event()
            with dog.limit(0.01, fired.set):
                os._exit(0 if fired.wait(60) else 1)
        _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
