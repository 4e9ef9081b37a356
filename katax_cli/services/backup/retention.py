"""Which backups are kept, and why: a decision on values.

Backups are grouped by the identity of their server and the database; each group keeps its own. The rules count twice:
backups that passed a drill alone, so that as many proven ones are kept as were asked for, and all of them. While the
newest of a group is not drilled, or is from the future, nothing of it is removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from katax_cli.services.backup.manifest import Manifest

CLOCKS_APART = timedelta(minutes=5)
"""By so much the clocks of two machines may differ."""


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


def judge(manifests: Iterable[Manifest], retention: Retention, *, now: datetime) -> list[RetentionVerdict]:
    """A verdict for each backup, the newest first within its group."""
    groups: dict[tuple[str, str], list[Manifest]] = {}
    for manifest in sorted(manifests, key=started, reverse=True):
        groups.setdefault(group_of(manifest), []).append(manifest)
    return [verdict for group in groups.values() for verdict in _judge_group(group, retention, now)]


def group_of(manifest: Manifest) -> tuple[str, str]:
    """The server and the database whose backups are counted together."""
    return manifest.server_id, manifest.database


def started(manifest: Manifest) -> datetime:
    """The moment from which a backup is."""
    return datetime.fromisoformat(manifest.started_at).astimezone(UTC)


def is_of_the_future(manifest: Manifest, now: datetime) -> bool:
    """True when a clock was wrong, then or now: which backup is the newest cannot be told."""
    return started(manifest) > now + CLOCKS_APART


def _judge_group(group: Sequence[Manifest], retention: Retention, now: datetime) -> list[RetentionVerdict]:
    """Of one database, the newest first."""
    newest = group[0]
    if is_of_the_future(newest, now):
        return _all_kept(group, "from the future, a clock was wrong", f"{newest.name} is from the future")
    if not newest.is_drilled:
        return _all_kept(group, "newest, not drilled yet", f"{newest.name} is not drilled yet")
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


def _all_kept(group: Sequence[Manifest], why_first: str, why_others: str) -> list[RetentionVerdict]:
    return [
        RetentionVerdict(one, is_kept=True, reasons=(why_first if one is group[0] else why_others,))
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
