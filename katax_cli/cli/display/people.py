"""Values of katax's own rows as people read them on a terminal: local short times, durations, sizes, ages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_UNITS = ("_ms", "_seconds", "_bytes")


def label(name: str) -> str:
    """The name of a column without the unit, which its cells have."""
    return next((name.removesuffix(unit) for unit in _UNITS if name.endswith(unit)), name)


def readable(name: str, value: object, *, age_at: datetime | None = None) -> str | None:
    """A cell of a column of this name; None for what is written alike everywhere. `age_at`: an age by then."""
    if isinstance(value, str) and (name.endswith("_at") or name == "timestamp"):
        value = _moment(value)
    if isinstance(value, datetime):
        return (
            local_time(value)
            if age_at is None
            else f"{duration((age_at - _aware(value)).total_seconds())} ago"
        )
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if name.endswith("_ms"):
        return duration(value / 1000)
    if name == "seconds" or name.endswith("_seconds"):
        return duration(value)
    return size(value) if name.endswith("_bytes") else None


def local_time(moment: datetime) -> str:
    """`2026-11-21 09:27:37` here; a time of another zone keeps its own clock, and says its offset."""
    if moment.tzinfo is None:
        return f"{moment:%Y-%m-%d %H:%M:%S}"
    here = moment.astimezone()
    if moment.tzinfo is UTC or moment.utcoffset() in (timedelta(0), here.utcoffset()):
        return f"{here:%Y-%m-%d %H:%M:%S}"
    return moment.isoformat(sep=" ", timespec="seconds")


def duration(seconds: float) -> str:
    """`0.14 ms`, `250 ms`, `6.1 s`, `5 min 3 s`, `2 h 5 min`, `3 d 4 h`."""
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    if seconds < 0.0095:
        text = f"{seconds * 1000:.2g} ms" if seconds else "0 s"
    elif seconds < 0.9995:
        text = f"{seconds * 1000:.0f} ms"
    elif seconds < 59.95:
        text = f"{seconds:.1f}".removesuffix(".0") + " s"
    else:
        text = _whole(round(seconds))
    return sign + text


def _whole(seconds: int) -> str:
    parts = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    at = next(at for at, (span, _) in enumerate(parts) if seconds >= span)
    (span, unit), (lesser, smaller) = parts[at : at + 2]
    rest = seconds % span // lesser
    return f"{seconds // span} {unit}" + (f" {rest} {smaller}" if rest else "")


def size(count: float) -> str:
    """`900 B`, `1.2 MB`: powers of 1000."""
    if abs(count) < 1000:
        return f"{count:g} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if abs(count) < 999.95:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} TB"


def _moment(text: str) -> datetime | str:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return text


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.astimezone()
