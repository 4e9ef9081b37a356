"""Ids that sort by the moment at which they were made: version 7 of RFC 9562."""

from __future__ import annotations

import os
from uuid import UUID

from katax_cli.core.clock import SYSTEM, Clock

_VERSION_AND_VARIANT = 0x7 << 76 | 0b10 << 62


def uuid7(clock: Clock = SYSTEM) -> UUID:
    """A new id: 48 bits of milliseconds since the epoch, 12 of their fraction, and 62 random ones.

    Nothing is shared between two calls, so threads, forks and machines need not agree. Two of the same quarter of a
    microsecond, and those of clocks that differ, sort in any order.
    """
    milliseconds, fraction = divmod(int(clock.now() * 1000 * 4096), 4096)
    random = int.from_bytes(os.urandom(8)) >> 2
    return UUID(int=(milliseconds & (1 << 48) - 1) << 80 | fraction << 64 | random | _VERSION_AND_VARIANT)
