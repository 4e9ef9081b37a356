"""A Snapshot as JSON has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Any

from katax_cli.services.health.probe import as_dict as health_dict
from katax_cli.snapshot import Part, Snapshot, Watched

PARTS = ("processes", "pools", "circuits", "traffic", "slow", "jobs", "runs", "sockets", "activity", "log")
"""The parts of a Snapshot that have rows, in the order in which they are shown."""


def as_dict(snapshot: Snapshot) -> dict[str, object]:
    """The keys of `katax dashboard --once -f json`; `health` is the JSON of `katax health`."""
    now = snapshot.taken_at
    return {
        "taken_at": moment(now),
        "profile": snapshot.health.profile,
        "role": snapshot.role,
        "health": health_dict(snapshot.health),
        "watched": {name: _watched(one, now) for name, one in snapshot.watched.items()},
        **{name: _part(getattr(snapshot, name), now) for name in PARTS},
    }


def row_dict(row: Any) -> dict[str, object]:
    """A row of a part; its times are ISO 8601."""
    facts: Mapping[str, object] = asdict(row) if is_dataclass(row) else row._asdict()  # type: ignore[arg-type]
    return {name: _plain(name, value) for name, value in facts.items()}


def moment(seconds: float | None) -> str | None:
    """Seconds since the epoch as a local time with its offset."""
    return None if seconds is None else _iso(datetime.fromtimestamp(seconds).astimezone())


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds")


def _age(at: float | None, now: float) -> float | None:
    return None if at is None else round(max(0.0, now - at), 3)


def _watched(one: Watched, now: float) -> dict[str, object]:
    return {
        "checked_at": moment(one.checked_at),
        "age_seconds": _age(one.checked_at, now),
        "latencies_ms": list(one.latencies_ms),
        "late": one.late,
    }


def _part(part: Part[object], now: float) -> dict[str, object]:
    return {
        "source": part.source,
        "seen_at": moment(part.seen_at),
        "age_seconds": _age(part.seen_at, now),
        "missing": part.missing,
        "rows": [row_dict(row) for row in part.rows],
    }


def _plain(name: str, value: object) -> object:
    if isinstance(value, datetime):
        return _iso(value)
    if name.endswith("_at") and isinstance(value, int | float):
        return moment(value)
    if name == "samples" and isinstance(value, tuple):
        return [sample._asdict() for sample in value]
    return list(value) if isinstance(value, tuple) else value
