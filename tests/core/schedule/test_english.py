"""Schedules in English."""

import pytest

from katax_cli.core.schedule.english import in_english
from katax_cli.core.schedule.schedule import parse_schedule


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ("*/5 * * * *", "Every fifth minute of every hour"),
        ("30 2 * * 1-5", "At 02:30 on Monday through Friday"),
        ("30 0 9 * * 1", "At 09:00:30 on Monday"),
        ("CRON_TZ=Europe/Madrid 0 9 1 * *", "At 09:00 on the first day of every month"),
        ("@daily", "At 00:00 every day"),
        ("@every 90s", "Every 90s, counted from 1970-01-01 00:00 UTC"),
        ("@every 1h", "Every 1h, counted from 1970-01-01 00:00 UTC"),
        ("@reboot", "Once, when a daemon starts"),
        ("0 0 ? * 1", None),
    ],
)
def test_in_english(schedule: str, said: str | None) -> None:
    assert in_english(parse_schedule(schedule)) == said
