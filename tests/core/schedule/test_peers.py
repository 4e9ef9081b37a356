"""Generated schedules beside `cronsim`, a second implementation of the rules of Debian's cron."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from random import Random
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim

from katax_cli.core.schedule.schedule import Schedule, clock_changes, parse_schedule

ZONES = (
    *("UTC", "America/New_York", "Europe/Madrid", "Asia/Kathmandu", "Africa/Casablanca"),
    *("Australia/Lord_Howe", "America/Santiago"),
)
LIMITS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
NAMES = {
    3: ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    4: ["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
}
START = 1_790_000_000
YEAR = 366 * 86400


def number(random: Random, place: int, value: int) -> str:
    names = NAMES.get(place, [])
    index = value - LIMITS[place][0]
    return names[index] if index < len(names) and random.random() < 0.3 else str(value)


def item(random: Random, place: int) -> str:
    low, high = LIMITS[place]
    first, last = sorted((random.randint(low, high), random.randint(low, high)))
    step = f"/{random.randint(1, 9)}" if first < last else ""
    kinds = (
        *(number(random, place, first), f"{first}-{first}", f"{first}-{last}", f"{first}-{last}{step}"),
        *(f"*/{random.randint(1, high)}", "*"),
    )
    return random.choices(kinds, (35, 10, 20, 10, 15, 10))[0]


def expression(random: Random) -> str:
    return " ".join(
        "*"
        if random.random() < (0.25 if place < 2 else 0.5)
        else ",".join(item(random, place) for _ in range(random.choice((1, 1, 1, 2, 3))))
        for place in range(5)
    )


def ours(schedule: Schedule, start: int, many: int) -> list[int]:
    due: list[int] = []
    following = schedule.after(start)
    while len(due) < many and following is not None:
        due.append(following)
        following = schedule.after(following)
    return due


def on_the_wall(text: str, zone: ZoneInfo, start: int, end: int) -> list[int]:
    """Every minute in (start, end] at which clocks in the zone show what the fields, as cronsim reads them, ask for."""
    read = CronSim(text, datetime.fromtimestamp(start, zone))
    shown = ((at, datetime.fromtimestamp(at, zone)) for at in range(start // 60 * 60 + 60, end + 1, 60))
    return [
        at
        for at, wall in shown
        if wall.minute in read.minutes
        and wall.hour in read.hours
        and wall.month in read.months
        and read.match_day(wall.date())
    ]


def test_five_hundred_schedules_in_seven_zones() -> None:
    """Twelve occurrences of each, from within 30 hours before a change of the clock.

    cronsim is wrong in two places, both with a `*` in the time of day, where occurrences are what clocks show: it
    goes on in steps of whole hours from a change by half an hour (Lord Howe), and it takes the end of a gap at
    midnight for midnight (Santiago).
    """
    random = Random(4)
    for text in [expression(random) for _ in range(500)]:
        for name in ZONES:
            zone = ZoneInfo(name)
            schedule = parse_schedule(text, name)
            changes = clock_changes(schedule, START, START + YEAR)
            start = (random.choice(changes).at if changes else START) - random.randint(0, 30 * 3600)
            theirs = [
                int(due.timestamp()) for due in islice(CronSim(text, datetime.fromtimestamp(start, zone)), 12)
            ]
            due = ours(schedule, start, len(theirs))
            if due != theirs:
                assert name in ZONES[-2:], (text, name)
                assert "*" in (text[0], text.split()[1][0]), (text, name)
                assert due == on_the_wall(text, zone, start, due[-1]), (text, name)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        # croniter takes a range of one for `*`.
        ("0 9-9 * * *", "0 0 9 1-31 1-12 0-6"),
        ("0 3 1-1 * *", "0 0 3 1 1-12 0-6"),
        ("0 0 * jan-jan 7-7", "0 0 0 1-31 1 0"),
        ("5-5/7 0-0 * * *", "0 5 0 1-31 1-12 0-6"),
        ("0 0 * * mon-mon#2", "0 0 0 1-31 1-12 1 1#2"),
        # A `*` in a list leaves the numbers out of croniter's answer, or the `*`; the day rule looks at the first.
        ("*,10 0 * * *", "0 0-59 0 1-31 1-12 0-6 wild"),
        ("0 0 *,10 * 1", "0 0 0 1-31 1-12 1"),
        ("0 0 10,* * 1", "0 0 0 1-31 1-12 1 or"),
        # 7 is a Sunday, also as the end of a range with steps.
        ("0 0 * * 1-7/2", "0 0 0 1-31 1-12 0-1,3,5"),
        ("0 0 * * 4-7/3", "0 0 0 1-31 1-12 0,4"),
        ("0 0 * * 6-7#1", "0 0 0 1-31 1-12 0,6 0#1 6#1"),
        # Either day is enough, and Mondays in February exist; croniter wants a 30 February.
        ("0 0 30 2 1", "0 0 0 30 2 1 or"),
    ],
)
def test_what_croniter_reads_otherwise_than_crontab_5(text: str, canonical: str) -> None:
    assert parse_schedule(text).canonical == canonical


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 22-2 * * *", "'22-2' goes backwards; write two ranges"),
        ("0 0 * * fri-sun", "'fri-sun' goes backwards; write two ranges"),
        ("0 0 1-L * *", "a range cannot end at 'l'"),
        ("٣ * * * *", "a field cannot be read"),
        ("0 0 30 2 */2", "Day(s) [30] can never occur in month(s) [2]"),
        (
            "0 0 * * 1,5#2",
            "day-of-week field does not support mixing literal values and nth day of week syntax",
        ),
    ],
)
def test_what_croniter_takes_and_crontab_5_does_not(text: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        parse_schedule(text)

    assert str(error.value) == f"{text!r} is no schedule: {message}"
