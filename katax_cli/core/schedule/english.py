"""A schedule in a sentence, for people: cronsim's words for a cron expression, our own for the others."""

from __future__ import annotations

from katax_cli.core.schedule.cronfields import ALIASES
from katax_cli.core.schedule.schedule import CronSchedule, IntervalSchedule, Schedule, own_zone
from katax_cli.core.text.duration import format_duration


def in_english(schedule: Schedule) -> str | None:
    """`Every fifth minute of every hour`; None for an expression that cronsim cannot read."""
    if isinstance(schedule, IntervalSchedule):
        return f"Every {format_duration(schedule.seconds)}, counted from 1970-01-01 00:00 UTC"
    if not isinstance(schedule, CronSchedule):
        return "Once, when a daemon starts"
    from datetime import datetime

    from cronsim import CronSim, CronSimError

    _, text = own_zone(schedule.text.strip())
    try:
        said: str = CronSim(ALIASES.get(text, text), datetime(2026, 1, 1)).explain()
    except CronSimError:
        return None
    return said
