"""A Snapshot as JSON: times in words, ages in seconds, nothing that JSON cannot hold."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

from katax_cli.core.text.text import to_json
from katax_cli.services.dashboard.snapshot_json import PARTS, as_dict, moment, row_dict
from katax_cli.snapshot import (
    ConnectionHealth,
    Happening,
    HealthReport,
    JobStatus,
    Part,
    PoolStats,
    PoolTrail,
    Snapshot,
    Traffic,
    Watched,
)

NOW = 1_600_000_000.0
BERLIN = timezone(timedelta(hours=2))


def snapshot(pools: Part[PoolTrail]) -> Snapshot:
    nobody: Part[object] = Part((), "nobody", None, "nobody was asked")
    parts = {**dict.fromkeys(PARTS, nobody), "pools": pools}
    health = HealthReport(
        "degraded",
        datetime.fromtimestamp(NOW, UTC),
        "test",
        {"main": ConnectionHealth("degraded", 200.0, 1.0)},
    )
    watched = {
        "main": Watched(NOW - 2.5, (1.5, None), None),
        "other": Watched(None, (), "no answer for 1.0 s"),
    }
    return Snapshot(taken_at=NOW, role="dev", health=health, watched=watched, **parts)  # type: ignore[arg-type]


def test_the_whole() -> None:
    trail = PoolTrail("main", "app host:7", (PoolStats(5, 2, 1, 1, 0),), NOW - 1)

    seen = json.loads(to_json(as_dict(snapshot(Part((trail,), "state database", NOW - 4.25)))))

    assert seen["taken_at"] == moment(NOW)
    assert seen["health"]["connections"]["main"]["status"] == "degraded"
    assert seen["watched"] == {
        "main": {
            "checked_at": moment(NOW - 2.5),
            "age_seconds": 2.5,
            "latencies_ms": [1.5, None],
            "late": None,
        },
        "other": {"checked_at": None, "age_seconds": None, "latencies_ms": [], "late": "no answer for 1.0 s"},
    }
    assert seen["pools"] == {
        "source": "state database",
        "seen_at": moment(NOW - 4.25),
        "age_seconds": 4.25,
        "missing": None,
        "rows": [
            {
                "connection": "main",
                "process": "app host:7",
                "samples": [{"max": 5, "total": 2, "active": 1, "idle": 1, "waiting": 0}],
                "seen_at": moment(NOW - 1),
            }
        ],
    }
    assert (seen["log"]["missing"], seen["log"]["age_seconds"]) == ("nobody was asked", None)


def test_what_another_clock_says_of_the_future_is_of_now() -> None:
    seen = json.loads(to_json(as_dict(snapshot(Part((), "state database", NOW + 5)))))

    assert seen["pools"]["age_seconds"] == 0.0


def test_rows() -> None:
    at = datetime(2026, 1, 2, 3, tzinfo=BERLIN)
    job = JobStatus(
        "tick",
        "@daily",
        "Europe/Berlin",
        enabled=True,
        running=0,
        next_at=at,
        last_state="ran",
        last_reason=None,
        last_finished_at=None,
    )

    assert row_dict(job)["next_at"] == "2026-01-02T03:00:00.000+02:00"
    assert row_dict(job)["last_finished_at"] is None
    assert row_dict(Traffic("main", "server", 1.5, None, None, None, (1.0, 1.5), NOW)) == {
        "connection": "main",
        "source": "server",
        "per_second": 1.5,
        "p95_ms": None,
        "slow": None,
        "failed": None,
        "trail": [1.0, 1.5],
        "seen_at": moment(NOW),
    }
    assert row_dict(Happening(NOW, "info", "main", "x"))["happened_at"] == moment(NOW)


def test_a_moment_has_its_offset() -> None:
    text = moment(NOW + 0.0625)

    assert text is not None
    assert datetime.fromisoformat(text).timestamp() == NOW + 0.062
    assert moment(None) is None
