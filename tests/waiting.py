"""Waiting for what happens elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SECONDS = 60.0
"""After so long a test has failed: far beyond what the slowest machine needs."""


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
