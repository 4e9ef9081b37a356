"""A Snapshot as tables. Pure: snapshot in, titles and rows out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from katax_cli.cli.health.views import COLUMNS, row
from katax_cli.services.dashboard.snapshot_json import PARTS, row_dict
from katax_cli.snapshot import Part, Snapshot

PrintedTable = tuple[str, Sequence[str], list[tuple[object, ...]]]


def tables(snapshot: Snapshot) -> Iterator[PrintedTable]:
    """One for the connections, then one for each part."""
    late = {name: one.late for name, one in snapshot.watched.items() if one.late}
    rows = [row(name, one) for name, one in snapshot.health.connections.items()]
    unknown = [
        (name, None, None, None, None, None, why)
        for name, why in late.items()
        if name not in snapshot.health.connections
    ]
    yield f"connections of {snapshot.health.profile!r}: {snapshot.health.status}", COLUMNS, [*rows, *unknown]
    for name in PARTS:
        yield _table(name, getattr(snapshot, name), snapshot.taken_at)


def _table(name: str, part: Part[Any], now: float) -> PrintedTable:
    age = "" if part.seen_at is None else f", {max(0.0, now - part.seen_at):.1f} s ago"
    why = f": {part.missing}" if part.missing else ""
    shown = [row_dict(each) for each in part.rows]
    columns = [key for key in shown[0] if key not in _LONG] if shown else []
    return (
        f"{name} ({part.source}{age}){why}",
        columns,
        [tuple(each[key] for key in columns) for each in shown],
    )


_LONG = ("samples", "trail", "run_id", "id")
"""Columns that only -f json has."""
