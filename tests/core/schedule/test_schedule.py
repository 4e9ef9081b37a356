"""When jobs are due, against plain walks over the calendar."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from katax_cli.core.schedule.schedule import Schedule, clock_changes, latest, parse_schedule

ZONES = ("America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Kathmandu")
DAY = 86400


def instant(zone: str, text: str) -> int:
    """The first instant at which clocks in `zone` show `text`."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


def shown(schedule: Schedule, start: int, number: int) -> list[str]:
    """The next occurrences as local times with their offset."""
    found = []
    for _ in range(number):
        start = schedule.after(start) or 0
        found.append(datetime.fromtimestamp(start, schedule.zone).isoformat())
    return found


def walk(schedule: Schedule, start: int, end: int) -> list[int]:
    found = []
    while (due := schedule.after(start)) is not None and due <= end:
        found.append(due)
        start = due
    return found


def once_each(zone: str, times: list[str], first_year: int, years: int) -> Iterator[int]:
    """Every local time of every day, the first time round, or at the end of the gap that swallowed it."""
    where = ZoneInfo(zone)
    day = datetime(first_year, 1, 1)
    while day.year < first_year + years:
        for time in times:
            local = day.replace(hour=int(time[:2]), minute=int(time[3:]))
            due = local.replace(tzinfo=where).astimezone(UTC)
            while due.astimezone(where).replace(tzinfo=None) < local:
                due += timedelta(minutes=1)
            back = due - timedelta(minutes=1)
            while back.astimezone(where).replace(tzinfo=None) > local:
                due, back = back, back - timedelta(minutes=1)
            yield int(due.timestamp())
        day += timedelta(days=1)


@pytest.mark.parametrize(
    ("zone", "time"),
    [
        ("America/New_York", "01:30"),
        ("America/New_York", "02:15"),
        ("Australia/Lord_Howe", "01:45"),
        ("Australia/Lord_Howe", "02:15"),
        ("America/Santiago", "00:00"),
        ("America/Santiago", "23:30"),
        ("Asia/Kathmandu", "02:15"),
    ],
)
def test_ten_years_of_a_daily_job(zone: str, time: str) -> None:
    """None twice, none lost, though the clock of each of these zones is changed at another hour."""
    schedule = parse_schedule(f"{int(time[3:])} {int(time[:2])} * * *", zone)
    expected = list(once_each(zone, [time], 2024, 10))

    found = walk(schedule, expected[0] - 1, expected[-1])

    assert found == expected
    assert schedule.count(expected[0] - 1, expected[-1]) == len(expected) == 3653


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("text", ["*/15 * * * *", "*/15 1-3 * * *", "0 * * * *"])
def test_wildcards_follow_the_wall_clock(zone: str, text: str) -> None:
    """What runs is what a clock on the wall shows, minute for minute, around every change in ten years."""
    schedule = parse_schedule(text, zone)
    where = ZoneInfo(zone)
    minutes, hours = (0,) if text[0] == "0" else (0, 15, 30, 45), (1, 2, 3) if "1-3" in text else range(24)
    start = instant(zone, "2024-01-01")
    for change in clock_changes(schedule, start, start + 3653 * DAY):
        around = range(change.at - 5 * 3600, change.at + 5 * 3600, 900)
        on_the_wall = [(at, datetime.fromtimestamp(at, where)) for at in around]
        expected = [at for at, wall in on_the_wall if wall.minute in minutes and wall.hour in hours]
        assert walk(schedule, around[0] - 1, around[-1]) == expected
        assert schedule.count(around[0] - 1, around[-1]) == len(expected)


def test_a_time_that_does_not_exist_runs_at_the_end_of_the_gap() -> None:
    """New York, 8 March 2026: 02:30 is not shown."""
    start = instant("America/New_York", "2026-03-07T12:00")

    assert shown(parse_schedule("30 2 * * *", "America/New_York"), start, 2) == [
        "2026-03-08T03:00:00-04:00",
        "2026-03-09T02:30:00-04:00",
    ]
    assert shown(parse_schedule("0,30 2,3 * * *", "America/New_York"), start, 3) == [
        "2026-03-08T03:00:00-04:00",
        "2026-03-08T03:30:00-04:00",
        "2026-03-09T02:00:00-04:00",
    ]


def test_what_a_gap_moves_is_counted_once() -> None:
    """02:00, 02:30 and 03:00 are one occurrence on that day, and 03:30 is another."""
    zone = "America/New_York"
    schedule = parse_schedule("0,30 2,3 * * *", zone)

    assert schedule.count(instant(zone, "2026-03-08T00:00"), instant(zone, "2026-03-08T12:00")) == 2
    only_in_the_gap = parse_schedule("0,30 2 * * *", zone)
    assert only_in_the_gap.count(instant(zone, "2026-03-08T00:00"), instant(zone, "2026-03-08T12:00")) == 1


def test_midnight_that_does_not_exist() -> None:
    """Santiago, 6 September 2026: clocks go from 24:00 to 01:00."""
    start = instant("America/Santiago", "2026-09-05T12:00")

    assert shown(parse_schedule("@daily", "America/Santiago"), start, 2) == [
        "2026-09-06T01:00:00-03:00",
        "2026-09-07T00:00:00-03:00",
    ]


def test_a_time_that_repeats_runs_once() -> None:
    """New York, 1 November 2026: 01:30 is shown twice."""
    start = instant("America/New_York", "2026-10-31T12:00")

    assert shown(parse_schedule("30 1 * * *", "America/New_York"), start, 2) == [
        "2026-11-01T01:30:00-04:00",
        "2026-11-02T01:30:00-05:00",
    ]


def test_half_an_hour_repeats_on_lord_howe() -> None:
    """5 April 2026: 01:30 to 02:00 is shown twice; seconds count too."""
    start = instant("Australia/Lord_Howe", "2026-04-05T01:29")

    assert shown(parse_schedule("45 1 * * *", "Australia/Lord_Howe"), start, 2) == [
        "2026-04-05T01:45:00+11:00",
        "2026-04-06T01:45:00+10:30",
    ]
    assert shown(parse_schedule("*/15 1 * * *", "Australia/Lord_Howe"), start, 5) == [
        "2026-04-05T01:30:00+11:00",
        "2026-04-05T01:45:00+11:00",
        "2026-04-05T01:30:00+10:30",
        "2026-04-05T01:45:00+10:30",
        "2026-04-06T01:00:00+10:30",
    ]


def test_the_changes_of_a_year() -> None:
    """`explain` says of each what it does to this schedule."""
    zone = "America/New_York"
    start = instant(zone, "2026-01-01")
    spring, autumn = clock_changes(parse_schedule("30 1,2 * * *", zone), start, start + 365 * DAY)

    assert (spring.at, spring.before, spring.offset) == (instant(zone, "2026-03-08T03:00"), -18000, -14400)
    assert [time % DAY for time in spring.times] == [2 * 3600 + 1800]
    assert spring.effect == "run once, when the gap ends"
    assert [time % DAY for time in autumn.times] == [3600 + 1800]
    assert autumn.effect == "run once, the first time"
    wild = clock_changes(parse_schedule("30 * * * *", zone), start, start + 365 * DAY)
    assert [change.effect for change in wild] == ["skipped", "run in both"]
    assert clock_changes(parse_schedule("@every 60s", zone), start, start + 365 * DAY)[0].effect == (
        "nothing changes"
    )
    assert clock_changes(parse_schedule("@daily", "Asia/Kathmandu"), start, start + 365 * DAY) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 0 29 2 *", ["2028-02-29", "2032-02-29"]),
        ("0 0 13 * 5", ["2026-11-20", "2026-11-27", "2026-12-04", "2026-12-11", "2026-12-13"]),
        ("0 0 13 * */5", ["2026-12-13", "2027-06-13"]),
        ("0 0 L * *", ["2026-11-30", "2026-12-31", "2027-01-31", "2027-02-28"]),
        ("0 0 1,L * *", ["2026-11-30", "2026-12-01", "2026-12-31"]),
        ("0 0 * * mon#2", ["2026-12-14", "2027-01-11"]),
        ("0 0 * * L5", ["2026-11-27", "2026-12-25", "2027-01-29"]),
        ("0 0 * * 7", ["2026-11-22", "2026-11-29"]),
        ("0 0 * jan-feb sat", ["2027-01-02", "2027-01-09"]),
        ("0 0 ? * sun", ["2026-11-22"]),
        ("@yearly", ["2027-01-01", "2028-01-01"]),
        ("@weekly", ["2026-11-22"]),
        ("@monthly", ["2026-12-01"]),
    ],
)
def test_days(text: str, expected: list[str]) -> None:
    """As crontab(5) reads them; `13 * */5` is a Friday or Sunday that is the 13th."""
    found = shown(parse_schedule(text), instant("UTC", "2026-11-19T12:00"), len(expected))

    assert [each[:10] for each in found] == expected


def test_six_fields_have_seconds_first() -> None:
    found = shown(parse_schedule("5,10 */20 3 * * *"), instant("UTC", "2026-01-01T03:20:05"), 4)

    assert [each[11:19] for each in found] == ["03:20:10", "03:40:05", "03:40:10", "03:00:05"]


def test_every_is_anchored_to_the_epoch() -> None:
    """Daemons that start at different moments agree."""
    schedule = parse_schedule("@every 1h30m", "Asia/Kathmandu")

    assert [schedule.after(at) for at in (0, 5399.9, 5400, 5400.5)] == [5400, 5400, 10800, 10800]
    assert schedule.count(0, 54000) == 10


def test_a_month_of_seconds_is_counted_at_once() -> None:
    """A daemon that was down for a month does not walk through 2.6 million occurrences."""
    month = 30 * DAY
    for text in ("@every 1s", "* * * * * *"):
        assert parse_schedule(text, "Asia/Kathmandu").count(1_800_000_000, 1_800_000_000 + month) == month


def test_reboot_is_never_due() -> None:
    schedule = parse_schedule("@reboot")

    assert (schedule.after(0), schedule.count(0, 1e10), latest(schedule, 0, 1e10)) == (None, 0, None)


def test_the_latest() -> None:
    daily = parse_schedule("0 3 * * *")
    start = instant("UTC", "2026-01-01")

    assert latest(daily, start, start + 40 * DAY) == start + 39 * DAY + 3 * 3600
    assert latest(daily, start, start + 3 * 3600) == start + 3 * 3600
    assert latest(daily, start, start + 3 * 3600 - 1) is None
    assert latest(daily, start + 3 * 3600, start + 4 * 3600) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 0 31 2 *", "'0 0 31 2 *' is no schedule: Day(s) [31] can never occur in month(s) [2]"),
        ("61 * * * *", "'61 * * * *' is no schedule: out of range"),
        ("x * * * *", "'x * * * *' is no schedule: a field cannot be read"),
        (
            "* * * *",
            "'* * * *' is no schedule; write five fields, six with seconds first, @daily or @every 30s",
        ),
        ("@fortnightly", "'@fortnightly' is no schedule; write five fields"),
        ("", "'' is no schedule; write five fields"),
        ("@every 0s", "'@every 0s' is no schedule; write whole seconds, 1 at least, as in @every 90s"),
        ("@every 1.5s", "'@every 1.5s' is no schedule; write whole seconds"),
        ("@every", "'@every' is no schedule; write whole seconds"),
        ("R * * * *", "'R * * * *' is no schedule: R, H and W are not supported"),
        ("0 0 1W * *", "'0 0 1W * *' is no schedule: R, H and W are not supported"),
        (
            "CRON_TZ=Mars/Base 0 0 * * *",
            "no time zone named 'Mars/Base' here; write one as Europe/Madrid, or UTC",
        ),
    ],
)
def test_what_is_no_schedule(text: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        parse_schedule(text)

    assert str(error.value).startswith(message)


def test_an_unknown_zone() -> None:
    with pytest.raises(ValueError) as error:
        parse_schedule("@daily", "../etc/passwd")

    assert str(error.value) == "no time zone named '../etc/passwd' here; write one as Europe/Madrid, or UTC"


def test_cron_tz_beats_the_zone_of_the_job() -> None:
    schedule = parse_schedule("CRON_TZ=Asia/Kathmandu 0 0 * * *", "America/New_York")

    assert shown(schedule, instant("UTC", "2026-01-01"), 1) == ["2026-01-02T00:00:00+05:45"]


def test_the_canonical_form_says_what_a_text_means() -> None:
    """Equal for equal meanings; what a library reads otherwise shows."""
    assert parse_schedule("*/30 9-11 * jan mon-wed").canonical == "0 0,30 9-11 1-31 1 1-3 wild"
    assert parse_schedule("0 0 1,L * 5#2").canonical == "0 0 0 1 1-12 5 L 5#2 or"
    assert parse_schedule("0 0 * * 7").canonical == parse_schedule("@weekly").canonical
    assert parse_schedule("@every 120s").canonical == parse_schedule("@every 2m").canonical


FIELDS = st.tuples(
    st.sampled_from(["0", "*/7", "30", "0,59", "5-20/5"]),
    st.sampled_from(["*", "1", "2,3", "*/6", "23", "0-2"]),
    st.sampled_from(["*", "1", "*/2", "31", "8-14"]),
    st.sampled_from(["*", "3", "3,11", "4,10"]),
    st.sampled_from(["*", "0", "1-5", "7"]),
)


@settings(max_examples=60)
@given(fields=FIELDS, zone=st.sampled_from([*ZONES, "Africa/Casablanca"]), at=st.integers(0, 3650 * DAY))
def test_counting_is_walking(fields: tuple[str, ...], zone: str, at: int) -> None:
    """`count` is arithmetic, `after` a step; both see the same occurrences, in ascending order."""
    start = instant("UTC", "2024-01-01") + at
    schedule = parse_schedule(" ".join(fields), zone)
    found = walk(schedule, start, start + 45 * DAY)

    assert schedule.count(start, start + 45 * DAY) == len(found)
    assert all(earlier < later for earlier, later in pairwise(found))
    assert latest(schedule, start, start + 45 * DAY) == (found[-1] if found else None)
