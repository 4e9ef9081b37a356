"""Waiting for what happens elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SECONDS = 60.0
"""After so long a test has failed: far beyond what the slowest machine needs."""

CONNECTING = 30.0
"""Seconds to connect in the profiles of tests: a busy machine takes more than the usual 2."""


def connecting(url: str) -> float:
    """Seconds to connect to it: fewer for MongoDB, whose driver looks so long for a server that refuses."""
    return 5.0 if url.startswith("mongodb") else CONNECTING


def patiently(reached: Callable[[float], bool], *, shortest: float = 0.1) -> None:
    """Calls `reached(seconds)` with longer and longer limits, until the machine was quick enough for its scene.

    It returns False when its limit ended before there was anything to see; what there is to see it asserts itself.
    """
    seconds = shortest
    while not reached(seconds):
        assert seconds < SECONDS, f"not within {seconds:g} s either"
        seconds *= 5


def until(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    """Returns when it holds; the test has failed when it does not in time."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"not within {seconds:g} s"
        time.sleep(0.01)


def at_last(call: Callable[[], T], seconds: float = SECONDS) -> T:
    """What it returns as soon as it does not fail: a machine that stands still exceeds any short limit now and then."""
    give_up = time.monotonic() + seconds
    while True:
        try:
            return call()
        except Exception:
            if time.monotonic() >= give_up:
                raise
