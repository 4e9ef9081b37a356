"""PostgreSQL's intervals: months and days are no number of seconds, so they are kept beside Python's timedelta."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, Self

_WRITTEN = (
    r"(?:([-+]?\d+) years?\s*)?(?:([-+]?\d+) mons?\s*)?(?:([-+]?\d+) days?\s*)?"
    r"(?:(?P<sign>[-+]?)(?P<hours>\d+):(?P<minutes>\d\d):(?P<seconds>\d\d(?:\.\d+)?))?"
)


class Interval(timedelta):
    """A timedelta of 30 days a month and 365 a year, as psycopg counts, that knows what the server said (`iso`)."""

    iso: str

    def __new__(cls, length: timedelta, iso: str) -> Self:
        made = super().__new__(cls, length.days, length.seconds, length.microseconds)
        made.iso = iso
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return Interval, (timedelta(self.days, self.seconds, self.microseconds), self.iso)


def iso_interval(text: str) -> str:
    """`1 year 2 mons -3 days 04:05:06` as `P1Y2M-3DT4H5M6S`; what is written otherwise stays as it is."""
    match = re.fullmatch(_WRITTEN, text.strip(), re.ASCII)
    if match is None:
        return text
    date = "".join(
        f"{int(number)}{unit}" for number, unit in zip(match.groups()[:3], "YMD", strict=True) if number
    )
    time = _iso_time(match)
    return f"P{date}T{time}" if time else f"P{date}" if date else "PT0S"


def _iso_time(match: re.Match[str]) -> str:
    if match["hours"] is None:
        return ""
    sign = "-" if match["sign"] == "-" else ""
    seconds = match["seconds"].lstrip("0") or "0"
    seconds = f"0{seconds}" if seconds.startswith(".") else seconds
    seconds = seconds.rstrip("0").rstrip(".") if "." in seconds else seconds
    parts = ((str(int(match["hours"])), "H"), (str(int(match["minutes"])), "M"), (seconds, "S"))
    return "".join(f"{sign}{number}{unit}" for number, unit in parts if number != "0")
