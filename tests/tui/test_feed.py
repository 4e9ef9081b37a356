"""When the next Snapshot is asked for."""

from __future__ import annotations

from queue import SimpleQueue
from threading import Event

import pytest

from katax_cli.snapshot import Snapshot
from katax_cli.tui.feed import Feed
from tests.tui.canned import FULL
from tests.tui.driving import PATIENCE


class JustInTime(Event):
    """Somebody asks in the moment in which the time is over."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = False

    def wait(self, timeout: float | None = None) -> bool:
        heard = super().wait(timeout)
        if not heard and not self.asked:
            self.asked = True
            self.set()
        return heard


def feed(arrived: SimpleQueue[Snapshot], *, interval: float = 60.0) -> Feed:
    return Feed(lambda: FULL, interval=interval, arrived=arrived.put, failed=lambda _error: None)


def test_what_is_asked_for_as_the_time_is_over_is_not_forgotten() -> None:
    arrived: SimpleQueue[Snapshot] = SimpleQueue()
    one = feed(arrived, interval=0.001)
    one._wake = JustInTime()
    one.paused = True
    one.start()
    try:
        assert [arrived.get(timeout=PATIENCE) for _ in range(2)] == [FULL, FULL]
    finally:
        one.stop()


@pytest.mark.parametrize(
    ("interval", "by", "expected"),
    [(2.0, 1, 5.0), (2.0, -1, 1.0), (3.0, 1, 5.0), (3.0, -1, 2.0), (0.1, -1, 0.1), (3600.0, 1, 3600.0)],
)
def test_steps(interval: float, by: int, expected: float) -> None:
    one = feed(SimpleQueue(), interval=interval)
    one.step(by)

    assert one.interval == expected


def test_an_interval_longer_than_a_thread_can_wait() -> None:
    arrived: SimpleQueue[Snapshot] = SimpleQueue()
    failed: SimpleQueue[Exception] = SimpleQueue()
    one = Feed(lambda: FULL, interval=1e30, arrived=arrived.put, failed=failed.put)
    one.start()
    try:
        assert arrived.get(timeout=PATIENCE) is FULL
        one.soon()
        assert arrived.get(timeout=PATIENCE) is FULL
        assert failed.empty()
    finally:
        one.stop()
