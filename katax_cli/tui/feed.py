"""The source of Snapshots: one thread that asks for the next, so that a slow source does not block keys."""

from __future__ import annotations

from collections.abc import Callable
from threading import TIMEOUT_MAX, Event, Thread

from katax_cli.snapshot import Snapshot

STEPS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds between two Snapshots, as `+` and `-` change them."""


class Feed:
    """Calls `snapshot` every `interval` seconds, unless it is paused, and hands over what comes back.

    `failed` gets what `snapshot` raised, which ends the feed. The thread is a daemon and never joined.
    """

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        *,
        interval: float,
        arrived: Callable[[Snapshot], object],
        failed: Callable[[Exception], object],
    ) -> None:
        self.interval = interval
        self.paused = False
        self._snapshot = snapshot
        self._arrived = arrived
        self._failed = failed
        self._stopping = False
        self._wake = Event()

    def start(self) -> None:
        Thread(target=self._run, name="katax-dashboard", daemon=True).start()

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()

    def soon(self) -> None:
        """The next one at once, also while paused."""
        self._wake.set()

    def step(self, by: int) -> None:
        """The next longer (+1) or shorter (-1) interval."""
        others = [each for each in STEPS if (each - self.interval) * by > 0]
        if others:
            self.interval = min(others) if by > 0 else max(others)
            self._wake.set()

    def _run(self) -> None:
        asked = True
        while not self._stopping:
            if asked or not self.paused:
                try:
                    self._arrived(self._snapshot())
                except Exception as error:  # noqa: BLE001 - the thread's boundary: the application ends with it
                    self._failed(error)
                    return
            asked = self._wake.wait(min(self.interval, TIMEOUT_MAX))
            if asked:
                # Cleared in any case, it would lose what is asked for just as the time is over.
                self._wake.clear()
