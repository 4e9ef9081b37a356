"""Ids that sort by their moment."""

from __future__ import annotations

from uuid import RFC_4122

from katax_cli.core.uuid7 import uuid7
from tests.fake_clock import FakeClock


def test_the_layout_is_that_of_rfc_9562() -> None:
    clock = FakeClock(at=0.0005)
    id = uuid7(clock)
    assert (id.version, id.variant) == (7, RFC_4122)
    assert id.int >> 80 == 1_000_000_000
    assert id.int >> 64 & 0xFFF == 2048


def test_ids_differ_and_sort_by_their_moment() -> None:
    clock = FakeClock()
    ids = []
    for _ in range(1000):
        ids.append(str(uuid7(clock)))
        clock.at += 0.000_001
    assert ids == sorted(ids)
    assert len({uuid7(clock) for _ in range(1000)}) == 1000
