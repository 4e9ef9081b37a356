"""Waiting for what happens elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable

LISTENS_AGAIN = 10.0
"""Seconds within which every server hears again, once its Redis is there."""


def until(condition: Callable[[], object], seconds: float = 25.0) -> None:
    """Returns when it holds; the test has failed when it does not in time."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"not within {seconds:g} s"
        time.sleep(0.02)
