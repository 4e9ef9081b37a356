"""Which backups are kept is a decision on values."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from katax_cli.services.backup.manifest import Manifest, RestoreDrill
from katax_cli.services.backup.retention import Retention, judge
from tests.services.backup.test_manifest import WHOLE

NOW = datetime(2026, 11, 22, tzinfo=UTC)
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
PASSED = RestoreDrill("2026-11-22T00:00:00+00:00", "scratch", "s", passed=True, restore_seconds=1.0)
FAILED = replace(PASSED, passed=False)


def backup(days: float, *drills: RestoreDrill, server: str = "a", database: str = "app") -> Manifest:
    """One that was made so many days ago; its name says when."""
    moment = NOON - timedelta(days=days)
    return replace(
        WHOLE,
        name=f"{server}-{days:g}",
        server_id=server,
        database=database,
        started_at=moment.isoformat(),
        drills=drills,
    )


def removed(backups: list[Manifest], **rules: int) -> list[str]:
    return [
        verdict.manifest.name
        for verdict in judge(backups, Retention(**rules), now=NOW)
        if not verdict.is_kept
    ]


def test_rules_keep_the_last_one_of_each_period() -> None:
    backups = [backup(days / 2, PASSED) for days in range(120)]

    assert len(removed(backups, last=5)) == 115
    assert removed(backups, last=119) == ["a-59.5"]
    kept = [v for v in judge(backups, Retention(daily=3, weekly=3, monthly=2), now=NOW) if v.is_kept]
    # The newest is of noon, and midnight belongs to the day that it begins.
    assert [v.manifest.name for v in kept] == ["a-0", "a-1", "a-2", "a-6", "a-13", "a-21"]
    assert kept[0].reasons == (
        "daily 3 drilled", "weekly 3 drilled", "monthly 2 drilled", "daily 3", "weekly 3", "monthly 2",
    )  # fmt: skip


def test_nothing_is_removed_while_the_newest_is_not_drilled() -> None:
    """The bad twin: the same backups, the newest drilled."""
    old = [backup(days, PASSED) for days in (1, 2, 3)]

    assert removed([backup(0), *old], last=1) == []
    assert removed([backup(0, FAILED), *old], last=1) == []
    assert removed([backup(0, PASSED, FAILED), *old], last=1) == [], "the last drill counts"
    assert removed([backup(0, FAILED, PASSED), *old], last=1) == ["a-1", "a-2", "a-3"]


def test_as_many_drilled_ones_are_kept_as_were_asked_for() -> None:
    backups = [backup(0, PASSED), backup(1), backup(2), backup(3, PASSED), backup(4), backup(5, PASSED)]

    assert removed(backups, last=2) == ["a-2", "a-4", "a-5"]
    assert removed(backups, daily=4) == ["a-4"]


def test_servers_and_databases_have_their_own_backups() -> None:
    backups = [
        backup(0, PASSED),
        backup(1, PASSED),
        backup(2, PASSED, server="b"),
        backup(3, PASSED, server="b", database="other"),
        replace(backup(4, PASSED), connection="renamed"),
    ]

    assert removed(backups, last=1) == ["a-1", "a-4"]
    assert removed([backup(5, server="c"), *backups], last=1) == ["a-1", "a-4"]


def test_time_zones_do_not_matter() -> None:
    late = replace(backup(0, PASSED), name="late", started_at="2026-11-22T01:00:00+05:00")

    assert removed([late, backup(0, PASSED)], last=1) == ["a-0"]


def test_a_rule_is_needed() -> None:
    for rules in ({}, {"last": 0, "daily": 0}, {"last": -1}):
        with pytest.raises(ValueError, match="nothing is said to be kept"):
            Retention(**rules)


def test_nothing_is_removed_while_the_newest_is_from_the_future() -> None:
    """A clock was wrong, then or now: the one that seems to be the newest may be the oldest."""
    backups = [backup(days, PASSED) for days in (-30, 1, 2, 3)] + [backup(1, PASSED, server="b")]
    assert removed(backups, last=1) == []
    [ahead, other, *_] = judge(backups, Retention(last=1), now=NOW)
    assert ahead.reasons == ("from the future, a clock was wrong",)
    assert other.reasons == ("a--30 is from the future",)

    assert removed([backup(days, PASSED) for days in (0.4999, 1, 2)], last=1) == ["a-1", "a-2"]
    soon = NOW - NOON + timedelta(minutes=4)
    near = replace(backup(0, PASSED), started_at=(NOON + soon).isoformat())
    assert removed([near, backup(1, PASSED)], last=1) == ["a-1"], "clocks of two machines are never the same"
