"""Values as people read them on a terminal."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from katax_cli.cli.display.people import duration, label, local_time, readable, size


@pytest.fixture(autouse=True)
def in_madrid(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Madrid")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_durations() -> None:
    spans = {
        0: "0 s",
        0.00014: "0.14 ms",
        0.0023: "2.3 ms",
        0.25: "250 ms",
        0.9999: "1 s",
        6.123: "6.1 s",
        59.96: "1 min",
        303: "5 min 3 s",
        3600: "1 h",
        7500: "2 h 5 min",
        90000: "1 d 1 h",
        8640000: "100 d",
        -2.5: "-2.5 s",
    }
    assert {seconds: duration(seconds) for seconds in spans} == spans


def test_sizes() -> None:
    sizes = {
        0: "0 B",
        999: "999 B",
        1000: "1.0 kB",
        1_234_567: "1.2 MB",
        999_960: "1.0 MB",
        5e9: "5.0 GB",
        7e15: "7000.0 TB",
    }
    assert {count: size(count) for count in sizes} == sizes


def test_times_are_local_and_keep_a_zone_of_their_own() -> None:
    moment = datetime(2026, 11, 21, 8, 27, 37, 123456, tzinfo=UTC)

    assert local_time(moment) == "2026-11-21 09:27:37"
    assert local_time(moment.astimezone(timezone(timedelta(hours=1)))) == "2026-11-21 09:27:37"
    assert local_time(moment.replace(tzinfo=None)) == "2026-11-21 08:27:37"
    assert local_time(moment.astimezone(ZoneInfo("America/New_York"))) == "2026-11-21 03:27:37-05:00"


def test_cells_are_read_by_the_name_of_their_column() -> None:
    moment = datetime(2026, 11, 21, 8, 27, 37, tzinfo=UTC)

    assert readable("duration_ms", 6123) == "6.1 s"
    assert readable("ttl_seconds", 30) == "30 s"
    assert readable("size_bytes", 1_234_567) == "1.2 MB"
    assert readable("applied_at", "2026-11-21T08:27:37.5+00:00") == "2026-11-21 09:27:37"
    assert readable("created_at", moment, age_at=moment + timedelta(minutes=5)) == "5 min ago"
    assert [label(name) for name in ("duration_ms", "ttl_seconds", "rows")] == ["duration", "ttl", "rows"]
    for name, value in (
        ("rows", 6123),
        ("ok_ms", True),
        ("at_ms", None),
        ("version", "20260101"),
        ("at", "soon"),
    ):
        assert readable(name, value) is None
