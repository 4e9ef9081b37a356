"""The times of a seed that is applied, in the same form from every store."""

from __future__ import annotations

from datetime import UTC, datetime

from katax_cli.core.clock import Clock
from katax_cli.services.seeds.values import Counts, Done, SeedFile, SeedOutcome


def finished(file: SeedFile, state: Done, counts: Counts, began: float, clock: Clock) -> SeedOutcome:
    """`began` is a reading of the clock's `monotonic()`."""
    return SeedOutcome(file.name, state, counts, round((clock.monotonic() - began) * 1000, 3))


def timestamp(clock: Clock) -> str:
    """Now, as RFC 3339 in UTC."""
    return datetime.fromtimestamp(clock.now(), UTC).isoformat(timespec="milliseconds")
