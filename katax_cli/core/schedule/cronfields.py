"""A cron expression as sets of numbers, and the days that they match. croniter parses and validates.

What croniter reads otherwise than crontab(5) is written so that both read it alike before croniter gets it (`9-9`,
which it takes for `*`; a `*` beside numbers; ranges of weekdays, which may end at 7), or is refused (ranges that go
backwards, `L` in a range, digits of other scripts).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from datetime import date, timedelta
from functools import lru_cache
from typing import NamedTuple

EPOCH_DAY = date(1970, 1, 1).toordinal()
YEARS = 41
"""29 February falls on each weekday within 40 years; what is not due in so many years never is."""
ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_SIXTY = tuple(range(60))
_LAST = 0
_MONTH, _WEEKDAY = 3, 4
"""Places of fields among five."""
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NAMES = {
    _MONTH: {name: number for number, name in enumerate(_MONTHS, 1)},
    _WEEKDAY: {name: number for number, name in enumerate(_WEEKDAYS)},
}
_ITEM = re.compile(r"(?:[*?]|[0-9a-z]+(?:-[0-9a-z]+)?)(?:/[0-9]+)?(?:#[0-9]+)?")
_RANGE = re.compile(r"(?P<low>[0-9a-z]+)-(?P<high>[0-9a-z]+)(?:/(?P<step>[0-9]+))?(?P<nth>#[0-9]+)?")


class Days(NamedTuple):
    """The matching days. `last`: also the last of a month; `nth`: weekday → which of the month (0: the last)."""

    months: tuple[int, ...]
    days: tuple[int, ...]
    last: bool
    weekdays: tuple[int, ...]
    nth: tuple[tuple[int, tuple[int, ...]], ...]
    either: bool


class Fields(NamedTuple):
    """A cron expression, expanded. `wild`: its time of day has a `*`. Sunday is 0."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: Days
    wild: bool


def parse_fields(text: str) -> Fields:
    """The expanded fields of a cron expression: five, or six with seconds first. Raises ValueError."""
    words = ALIASES.get(text, text).split()
    if len(words) not in (5, 6) or words[0].startswith("@"):
        raise ValueError(
            f"{text!r} is no schedule; write five fields, six with seconds first, @daily or @every 30s"
        )
    # Chance and hashes would differ between daemons; a nearest weekday is no day that crontab(5) knows.
    if any(word.lower().strip("0123456789(),-/") in ("r", "h", "w") for word in words):
        raise ValueError(f"{text!r} is no schedule: R, H and W are not supported")
    second, five = (words[0], words[1:]) if len(words) == 6 else ("0", words)
    either = not any(word[0] in "*?" for word in (five[2], five[4]))
    plain = [_plain(text, place, word.lower()) for place, word in enumerate(five)]
    # Days of the month and of the week that are alternatives need not go together: `30 2 1` is Mondays.
    (minutes, hours, dates, months, weekdays), nth = _expand(text, " ".join(plain), strict=not either)
    last = "l" in plain[2].split(",")
    days = Days(
        months=months or tuple(range(1, 13)),
        days=dates if dates or last else tuple(range(1, 32)),
        last=last,
        weekdays=weekdays or tuple(range(7)),
        nth=nth,
        either=either,
    )
    if not window(days, 0)[1]:
        raise ValueError(f"{text!r} is never due: no such day exists")
    seconds = _expand(text, f"{_plain(text, 0, second.lower())} * * * *", strict=True)[0][0]
    wild = any(word.startswith("*") for word in (second, *five[:2]))
    return Fields(seconds or _SIXTY, minutes or _SIXTY, hours or tuple(range(24)), days, wild)


def _plain(text: str, place: int, word: str) -> str:
    """A field as croniter and crontab(5) both read it. Raises ValueError."""
    items = [_plain_item(text, place, item) for item in word.split(",")]
    return "*" if "*" in items else ",".join(items)


def _plain_item(text: str, place: int, item: str) -> str:
    if not _ITEM.fullmatch(item):
        raise ValueError(f"{text!r} is no schedule: a field cannot be read")
    match = _RANGE.fullmatch(item)
    if match is None:
        return item
    low, high = (_number(text, place, match[end]) for end in ("low", "high"))
    step, nth = int(match["step"] or 1), match["nth"] or ""
    if low > high:
        raise ValueError(f"{text!r} is no schedule: {item!r} goes backwards; write two ranges")
    if low == high:
        return f"{low}{nth}"
    if place == _WEEKDAY and high <= 7 and step:
        return ",".join(f"{day}{nth}" for day in range(low, high + 1, step))
    return item


def _number(text: str, place: int, word: str) -> int:
    names = _NAMES.get(place, {})
    if not word.isdigit() and word not in names:
        raise ValueError(f"{text!r} is no schedule: a range cannot end at {word!r}")
    return names[word] if word in names else int(word)


@lru_cache(maxsize=1024)
def _expand(
    text: str, five: str, *, strict: bool
) -> tuple[list[tuple[int, ...]], tuple[tuple[int, tuple[int, ...]], ...]]:
    """The values of each of five fields (empty: all of them), and of `5#2`; errors are about `text`."""
    from croniter import CroniterError, croniter

    try:
        expanded, nth = croniter.expand(five, strict=strict)
    except CroniterError as error:
        reason = (
            str(error)
            .partition("  Cron:")[0]
            .removeprefix(f"[{five}]")
            .removeprefix(" is not acceptable")
            .strip(" .,")
        )
        raise ValueError(f"{text!r} is no schedule: {reason or 'a field cannot be read'}") from None
    lists = [tuple(sorted({value for value in one if isinstance(value, int)})) for one in expanded]
    which = {day: tuple(sorted(_LAST if n == "l" else int(n) for n in ns)) for day, ns in nth.items()}
    return lists, tuple(sorted(which.items()))


def ranges(values: tuple[int, ...]) -> str:
    """`0-3,7` for 0, 1, 2, 3, 7."""
    runs: list[list[int]] = []
    for value in values:
        if runs and runs[-1][-1] == value - 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def window(days: Days, day: int) -> tuple[int, tuple[int, ...]]:
    """Matching days since the epoch, of which the next from `day` on is one, and from which day on that holds."""
    year = date.fromordinal(day + EPOCH_DAY).year
    for later in range(YEARS):
        days_of_year = _of_year(days, year + later)
        if days_of_year and days_of_year[-1] >= day:
            return min(day, date(year + later, 1, 1).toordinal() - EPOCH_DAY), days_of_year
    return day, ()


@lru_cache(maxsize=8192)
def _of_year(days: Days, year: int) -> tuple[int, ...]:
    first, last = date(year, 1, 1).toordinal(), date(year, 12, 31).toordinal()
    return tuple(
        each - EPOCH_DAY for each in range(first, last + 1) if _matches(days, date.fromordinal(each))
    )


def _matches(days: Days, day: date) -> bool:
    if day.month not in days.months:
        return False
    by_date = day.day in days.days or (days.last and (day + timedelta(days=1)).day == 1)
    weekday = day.isoweekday() % 7
    which = dict(days.nth).get(weekday)
    by_weekday = weekday in days.weekdays and (which is None or _is_nth(day, which))
    return by_date or by_weekday if days.either else by_date and by_weekday


def _is_nth(day: date, which: tuple[int, ...]) -> bool:
    last = (day + timedelta(days=7)).month != day.month
    return (day.day + 6) // 7 in which or (last and _LAST in which)


def days_between(days: Days, first: int, end: int) -> int:
    """Matching days in [first, end)."""
    total = 0
    for year in range(date.fromordinal(first + EPOCH_DAY).year, date.fromordinal(end + EPOCH_DAY).year + 1):
        days_of_year = _of_year(days, year)
        total += bisect_left(days_of_year, end) - bisect_left(days_of_year, first)
    return total
