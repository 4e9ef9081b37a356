"""Schedules of jobs: cron expressions, `@every`, and the effect of changes of the clock on them.

croniter parses and validates. `after` is arithmetic of our own over the expanded fields, with the policy of
Vixie cron: a schedule with a `*` in its time of day follows the wall clock (it skips hours that do not exist
and runs again in hours that repeat); any other runs once, the first time round in a repeated hour, and at the
end of the gap when its time does not exist. Times of one gap are one occurrence.

Days follow crontab(5): when day of month and day of week are both restricted, either is enough; a field that
begins with `*` restricts nothing by itself, so that both must match.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from datetime import tzinfo
from functools import lru_cache
from math import floor
from typing import Protocol

from katax_cli.core.schedule.cronfields import YEARS, Fields, days_between, parse_fields, ranges, window
from katax_cli.core.schedule.zones import OffsetSpan, changes, piece_at, zone
from katax_cli.core.text.duration import parse_duration

_DAY = 86400
_NONE = 255
_REBOOT = "@reboot"


class Schedule(Protocol):
    """The occurrences of a job. Instants are seconds since the epoch, occurrences whole ones."""

    @property
    def text(self) -> str: ...

    @property
    def zone(self) -> tzinfo: ...

    @property
    def canonical(self) -> str:
        """The meaning of the text; it changes when a library reads the text differently."""
        ...

    def after(self, instant: float) -> int | None:
        """The first occurrence later than `instant`; None when there is none."""
        ...

    def count(self, after: float, until: float) -> int:
        """Occurrences in (after, until]; takes no longer for more of them."""
        ...


def latest(schedule: Schedule, after: float, until: float) -> int | None:
    """The last occurrence in (after, until]."""
    width = 60.0
    while True:
        begin = max(after, until - width)
        moment = schedule.after(begin)
        if moment is not None and moment <= until:
            return _last_from(schedule, moment, until)
        if begin <= after:
            return None
        width *= 2


def _last_from(schedule: Schedule, moment: int, until: float) -> int:
    while (later := schedule.after(moment)) is not None and later <= until:
        moment = later
    return moment


def parse_schedule(text: str, timezone: str | None = None) -> Schedule:
    """The schedule that `text` says, in `timezone` (a name; default UTC) unless it begins with `CRON_TZ=`.

    Five fields, six with seconds first, `@daily` and its like, `@every 90s`, `@reboot`. Raises ValueError.
    """
    said, body = own_zone(text.strip())
    where = zone(said or timezone or "UTC")
    if body.startswith("@every"):
        return IntervalSchedule(text, where, _whole_seconds(body))
    if body == _REBOOT:
        return Never(text, where)
    return CronSchedule(text, where, parse_fields(body))


def own_zone(text: str) -> tuple[str | None, str]:
    """The zone that a `CRON_TZ=` before a schedule names, and the schedule without it."""
    for prefix in ("CRON_TZ=", "TZ="):
        if text.startswith(prefix):
            name, *rest = text.removeprefix(prefix).split(None, 1) or [""]
            return name, "".join(rest)
    return None, text


def _whole_seconds(text: str) -> int:
    said = text.removeprefix("@every").strip()
    seconds = sum(parse_duration(part) for part in _parts(said)) if said else 0.0
    if seconds < 1 or seconds != int(seconds):
        raise ValueError(f"{text!r} is no schedule; write whole seconds, 1 at least, as in @every 90s")
    return int(seconds)


def _parts(said: str) -> list[str]:
    """`1h30m` as `1h` and `30m`."""
    parts = [""]
    for previous, char in zip(" " + said, said, strict=False):
        if previous.isalpha() and not char.isalpha():
            parts.append("")
        parts[-1] += char
    return parts


@dataclass(frozen=True, slots=True)
class Never:
    """`@reboot`: never due; its job runs when the daemon starts."""

    text: str
    zone: tzinfo

    @property
    def canonical(self) -> str:
        return _REBOOT

    def after(self, instant: float) -> int | None:
        return None

    def count(self, after: float, until: float) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class IntervalSchedule:
    """Every so many seconds, counted from the epoch, so that all daemons agree."""

    text: str
    zone: tzinfo
    seconds: int

    @property
    def canonical(self) -> str:
        return f"@every {self.seconds}s"

    def after(self, instant: float) -> int:
        return (floor(instant) // self.seconds + 1) * self.seconds

    def count(self, after: float, until: float) -> int:
        return max(0, floor(until) // self.seconds - floor(after) // self.seconds)


class CronSchedule:
    """A cron expression in a time zone."""

    __slots__ = ("_hours", "_minutes", "_piece", "_seconds", "_window", "fields", "text", "zone")

    def __init__(self, text: str, where: tzinfo, fields: Fields) -> None:
        self.text = text
        self.zone = where
        self.fields = fields
        self._hours = _following(fields.hours, 24)
        self._minutes = _following(fields.minutes, 60)
        self._seconds = _following(fields.seconds, 60)
        self._piece = OffsetSpan(0, 0, 0, 0)
        self._window: tuple[int, tuple[int, ...]] = (0, ())

    @property
    def canonical(self) -> str:
        days = self.fields.days
        lists = (
            self.fields.seconds,
            self.fields.minutes,
            self.fields.hours,
            days.days,
            days.months,
            days.weekdays,
        )
        words = [ranges(values) for values in lists]
        nth = "".join(f" {day}#{','.join(map(str, which))}" for day, which in days.nth)
        flags = f"{' L' if days.last else ''}{nth}{' or' if days.either else ''}{' wild' if self.fields.wild else ''}"
        return " ".join(words) + flags

    def after(self, instant: float) -> int | None:
        second = floor(instant)
        piece = self._piece
        if not piece.start <= second < piece.end:
            piece = self._piece = piece_at(self.zone, second)
        local = max(second + piece.offset, self._first(piece) - 1)
        for _ in range(YEARS * 4):
            found = self._local_after(local)
            if found is None:
                return None
            due = found - piece.offset
            if due < piece.end:
                return max(due, piece.start)
            piece = piece_at(self.zone, piece.end)
            local = self._first(piece) - 1
        return None

    def count(self, after: float, until: float) -> int:
        low, high = floor(after), floor(until)
        total = 0
        while low < high:
            piece = piece_at(self.zone, low + 1)
            last = min(high, piece.end - 1)
            begin = low + 1 + piece.offset
            total += self._count_local(max(begin, self._first(piece)), last + piece.offset)
            if low < piece.start:
                total += self._in_gap(piece)
            low = last
        return total

    def in_change(self, piece: OffsetSpan) -> list[int]:
        """The local seconds of this schedule that a change of the clock leaves out or repeats."""
        low, high = sorted((piece.start + piece.before, piece.start + piece.offset))
        found, local = [], low - 1
        while (due := self._local_after(local)) is not None and due < high:
            found.append(due)
            local = due
        return found

    def _first(self, piece: OffsetSpan) -> int:
        """The first local second that counts in this piece.

        The wall clock shows `start + offset` then. What is due once counts on from where the last piece ended:
        over repeated seconds, and from the beginning of a gap.
        """
        return piece.start + (piece.offset if self.fields.wild else piece.before)

    def _in_gap(self, piece: OffsetSpan) -> int:
        """1 when something that fell into the gap before this piece is due at its start, and nothing else is."""
        begin, end = piece.start + piece.before, piece.start + piece.offset
        if self.fields.wild or end <= begin:
            return 0
        return int(self._count_local(begin, end - 1) > 0 and self._count_local(end, end) == 0)

    def _local_after(self, local: int) -> int | None:
        """The first matching local second later than `local`."""
        day, second = divmod(local, _DAY)
        begin, days = self._window
        if not days or not begin <= day <= days[-1]:
            begin, days = self._window = window(self.fields.days, day)
            if not days:
                return None
        at = bisect_left(days, day)
        if days[at] == day:
            later = self._time_after(second)
            if later is not None:
                return day * _DAY + later
            at += 1
        if at == len(days):
            begin, days = self._window = window(self.fields.days, day + 1)
            if not days:
                return None
            at = bisect_left(days, day + 1)
        return days[at] * _DAY + self._hours[0] * 3600 + self._minutes[0] * 60 + self._seconds[0]

    def _time_after(self, second: int) -> int | None:
        """The next second of the day later than `second`."""
        minute_of_day, second = divmod(second + 1, 60)
        hour, minute = divmod(minute_of_day, 60)
        if self._hours[hour] == hour:
            if self._minutes[minute] == minute:
                found = self._seconds[second]
                if found != _NONE:
                    return minute_of_day * 60 + found
                minute += 1
            found = self._minutes[minute]
            if found != _NONE:
                return hour * 3600 + found * 60 + self._seconds[0]
            hour += 1
        found = self._hours[hour]
        return None if found == _NONE else found * 3600 + self._minutes[0] * 60 + self._seconds[0]

    def _count_local(self, first: int, last: int) -> int:
        """Matching local seconds in [first, last]."""
        if last < first:
            return 0
        return self._count_before(last + 1, first // _DAY) - self._count_before(first, first // _DAY)

    def _count_before(self, local: int, from_day: int) -> int:
        """Matching local seconds from the beginning of `from_day` up to `local`."""
        day, second = divmod(local, _DAY)
        full = days_between(self.fields.days, from_day, day)
        today = days_between(self.fields.days, day, day + 1)
        hours, minutes, seconds = self.fields.hours, self.fields.minutes, self.fields.seconds
        each = len(hours) * len(minutes) * len(seconds)
        hour, rest = divmod(second, 3600)
        minute, second = divmod(rest, 60)
        partly = bisect_left(hours, hour) * len(minutes) * len(seconds)
        if hour in hours:
            partly += bisect_left(minutes, minute) * len(seconds)
            partly += bisect_left(seconds, second) if minute in minutes else 0
        return full * each + today * partly


@lru_cache(maxsize=4096)
def _following(values: tuple[int, ...], size: int) -> bytes:
    """For each number up to `size`: the least value that is not less, or 255."""
    return bytes(next((value for value in values if value >= number), _NONE) for number in range(size + 1))


@dataclass(frozen=True, slots=True)
class ClockChange:
    """The effect of one change of the clock on a schedule. Local times are those of a wall clock."""

    at: int
    before: int
    offset: int
    times: tuple[int, ...]
    effect: str


def clock_changes(schedule: Schedule, start: float, end: float) -> list[ClockChange]:
    """Every change of the clock in (start, end] with the local times that it leaves out or repeats."""
    found = []
    for piece in changes(schedule.zone, floor(start), floor(end)):
        times = tuple(schedule.in_change(piece)) if isinstance(schedule, CronSchedule) else ()
        found.append(
            ClockChange(piece.start, piece.before, piece.offset, times, _effect(schedule, piece, times))
        )
    return found


def _effect(schedule: Schedule, piece: OffsetSpan, times: tuple[int, ...]) -> str:
    if not isinstance(schedule, CronSchedule) or not times:
        return "nothing changes"
    if piece.offset > piece.before:
        return "skipped" if schedule.fields.wild else "run once, when the gap ends"
    return "run in both" if schedule.fields.wild else "run once, the first time"
