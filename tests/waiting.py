"""Waiting for what happens elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS = 60.0
"""After so long a test has failed: far beyond what the slowest machine needs."""


def until(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    """Returns when it holds; the test has failed when it does not in time."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"not within {seconds:g} s"
        time.sleep(0.01)
