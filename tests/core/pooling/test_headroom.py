"""What gets scarce."""

from __future__ import annotations

import pytest

from katax_cli.core.pooling.headroom import advice, paced
from katax_cli.snapshot import Headroom


def room(name: str = "connections", used: float = 50, limit: float | None = 100, **more: float) -> Headroom:
    return Headroom(name, used, limit, "connections", **more)


def test_the_time_until_the_limit() -> None:
    assert paced(room(used=60), room(used=50), 5.0).seconds_left == 20.0


@pytest.mark.parametrize(
    ("now", "earlier", "seconds"),
    [
        (room(used=60), None, 5.0),
        (room(used=60), room(used=60), 5.0),
        (room(used=60), room(used=70), 5.0),
        (room(used=60), room(used=50), 0.0),
        (room(used=60, limit=None), room(used=50, limit=None), 5.0),
    ],
)
def test_no_time_where_it_does_not_grow(now: Headroom, earlier: Headroom | None, seconds: float) -> None:
    assert paced(now, earlier, seconds).seconds_left is None


def test_what_is_over_its_limit_has_no_time_left() -> None:
    assert paced(room(used=110), room(used=50), 5.0).seconds_left == 0.0


@pytest.mark.parametrize(
    ("one", "engine", "says"),
    [
        (room(used=79), "postgresql", None),
        (room(used=80), "postgresql", "80% of 100 connections (connections) are used; make pools smaller"),
        (room(used=60, seconds_left=90.0), "mysql", "and in 90 s all at this pace"),
        (room(used=49, seconds_left=90.0), "mysql", None),
        (room(used=60, seconds_left=1e6), "mysql", None),
        (room("oldest_transaction", 3601, None), "postgresql", "open for 3601 s"),
        (room("oldest_transaction", 3600, None), "postgresql", None),
        (room("oplog_window", 7200, None), "mongodb", "reaches back 2.0 h"),
        (room("oplog_window", 86400, None), "mongodb", None),
        (room("wal", 65 * 2**20, None), "sqlite", "has 65 MiB"),
        (room("wal", 65 * 2**20, None), "postgresql", None),
    ],
)
def test_advice(one: Headroom, engine: str, says: str | None) -> None:
    found = advice([one], engine=engine)

    assert len(found) == (says is not None)
    assert says is None or says in found[0]
