"""Which backups are kept, and why: a decision on values.

Backups are grouped by the identity of their server and the database; each group keeps its own. The rules count twice:
backups that passed a drill alone, so that as many proven ones are kept as were asked for, and all of them. While the
newest of a group is not drilled, nothing of it is removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from katax_cli.services.backup.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Retention:
    """How many backups are kept: the last ones, and the last one of so many days, weeks and months (UTC)."""

    last: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0

    def __post_init__(self) -> None:
        counts = (self.last, self.daily, self.weekly, self.monthly)
        if min(counts) < 0 or not any(counts):
            raise ValueError(
                "nothing is said to be kept; give --keep-last, --keep-daily, --keep-weekly or --keep-monthly"
            )


class RetentionVerdict(NamedTuple):
    """The verdict on one backup, and its reasons."""

    manifest: Manifest
    is_kept: bool
    reasons: tuple[str, ...]


def judge(manifests: Iterable[Manifest], retention: Retention) -> list[RetentionVerdict]:
    """A verdict for each backup, the newest first within its group."""
    groups: dict[tuple[str, str], list[Manifest]] = {}
    for manifest in sorted(manifests, key=started, reverse=True):
        groups.setdefault((manifest.server_id, manifest.database), []).append(manifest)
    return [verdict for group in groups.values() for verdict in _judge_group(group, retention)]


def started(manifest: Manifest) -> datetime:
    """The moment from which a backup is."""
    return datetime.fromisoformat(manifest.started_at).astimezone(UTC)


def _judge_group(group: Sequence[Manifest], retention: Retention) -> list[RetentionVerdict]:
    """Of one database, the newest first."""
    if not group[0].is_drilled:
        why = "newest, not drilled yet"
        return [
            RetentionVerdict(
                one,
                is_kept=True,
                reasons=(why if one is group[0] else f"{group[0].name} is not drilled yet",),
            )
            for one in group
        ]
    reasons: dict[str, list[str]] = {one.name: [] for one in group}
    drilled = [one for one in group if one.is_drilled]
    for kept, why in (*_kept(drilled, retention, " drilled"), *_kept(group, retention)):
        reasons[kept.name].append(why)
    return [
        RetentionVerdict(
            one, is_kept=bool(reasons[one.name]), reasons=tuple(reasons[one.name]) or (_gone(one),)
        )
        for one in group
    ]


def _gone(manifest: Manifest) -> str:
    return "no rule keeps it" if manifest.is_drilled else "no rule keeps it; never drilled"


def _kept(
    backups: Sequence[Manifest], retention: Retention, which: str = ""
) -> Iterable[tuple[Manifest, str]]:
    yield from ((one, f"last {retention.last}{which}") for one in backups[: retention.last])
    rules: tuple[tuple[str, int, Callable[[datetime], object]], ...] = (
        ("daily", retention.daily, lambda moment: moment.date()),
        ("weekly", retention.weekly, lambda moment: moment.isocalendar()[:2]),
        ("monthly", retention.monthly, lambda moment: (moment.year, moment.month)),
    )
    for name, count, period in rules:
        newest: dict[object, Manifest] = {}
        for one in backups:
            newest.setdefault(period(started(one)), one)
        yield from ((one, f"{name} {count}{which}") for one in list(newest.values())[:count])
