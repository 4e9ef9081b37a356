"""Numbers as glyphs on a terminal: ages, sparklines, bars. Pure, and readable without colours."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.text import Text

from katax_cli.core.text.text import printable
from katax_cli.snapshot import PoolStats

FADED = "dim"
GOOD, ODD, BAD, TREND = "green", "yellow", "red", "cyan"

_STATES = {
    "healthy": ("●", GOOD),
    "degraded": ("▲", ODD),
    "unhealthy": ("✖", BAD),
    "closed": ("●", GOOD),
    "half_open": ("▲", ODD),
    "open": ("✖", BAD),
    "forced_open": ("✖", BAD),
    "disabled": ("○", ODD),
    "ran": ("●", GOOD),
    "running": ("▶", ""),
    "skipped": ("○", ODD),
    "missed": ("▲", ODD),
    "failed": ("✖", BAD),
    "killed": ("✖", BAD),
    "info": ("·", ""),
    "warning": ("▲", ODD),
    "error": ("✖", BAD),
}
_BLOCKS = "▁▂▃▄▅▆▇█"
_FAILED = "×"
_FRESH = 10.0
_STEPS = ((86400.0, "d"), (3600.0, "h"), (60.0, "m"))


def said(text: str, style: str = "") -> Text:
    """Foreign text in one line, without control characters that a terminal would obey."""
    return Text(printable(text), style, overflow="ellipsis", no_wrap=True)


def state(word: str) -> Text:
    """A state's word behind its symbol, so that nothing depends on the colour."""
    symbol, style = _STATES.get(word, ("?", ""))
    return said(f"{symbol} {word}", style)


def symbol(word: str) -> Text:
    return Text(*_STATES.get(word, ("?", "")))


def span(seconds: float) -> str:
    """`7s`, `40s`, `12m`, `3h`: from ten seconds to a minute in steps of ten, so that a quiet screen stays quiet."""
    for size, unit in _STEPS:
        if seconds >= size:
            return f"{seconds // size:.0f}{unit}"
    return f"{seconds // 1 if seconds < _FRESH else seconds // 10 * 10:.0f}s"


def ago(moment: float | datetime | None, now: float) -> str:
    """The time since a moment, in words; empty for never."""
    return "" if moment is None else span(max(0.0, now - _seconds(moment)))


def until(moment: datetime | None, now: float) -> str:
    """In how long something is due, `due` when it should have begun; empty for never."""
    if moment is None:
        return ""
    left = _seconds(moment) - now
    return f"in {span(left)}" if left > 0 else "due"


def clock(moment: float) -> str:
    return datetime.fromtimestamp(moment).strftime("%H:%M:%S")


def is_fresh(moment: float | None, now: float) -> bool:
    return moment is not None and now - moment < 3 * _FRESH


def number(value: float | None) -> Text:
    """Three digits are enough to see a change, and do not flicker; right-aligned."""
    return Text("" if value is None else _digits(value), justify="right")


def _digits(value: float) -> str:
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    if abs(value) < 10:
        return f"{value:.2g}" if abs(value) >= 0.001 else "0"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (size if unit != 'k' else 1e3):.3g}{unit}"
    return f"{value:.0f}"


def alarming(count: int | None, style: str) -> Text:
    drawn = number(count)
    drawn.style = style if count else ""
    return drawn


def trail_cells(width: int) -> int:
    """The number of values of a sparkline that fit into a panel of this width."""
    return max(8, min(60, width // 8))


def spark(values: Sequence[float | None], width: int) -> Text:
    """The last `width` values as blocks between 0 and the largest of them; × where there is none."""
    shown = values[-width:]
    most = max((value for value in shown if value is not None), default=0.0)
    drawn = Text()
    for value in shown:
        if value is None:
            drawn.append(_FAILED, BAD)
        else:
            share = value / most if most > 0 else 0.0
            drawn.append(_block(share), TREND)
    return drawn


def pool_trail(samples: Sequence[PoolStats], width: int) -> Text:
    """The connections in use, of the pool's maximum; red where callers waited."""
    drawn = Text()
    for pool in samples[-width:]:
        share = pool.active / max(pool.max, pool.total, 1)
        drawn.append(_block(share), BAD if pool.waiting else TREND)
    return drawn


def pool_bar(pool: PoolStats, width: int) -> Text:
    """█ in use, ▒ idle, · not opened; as many cells for each connection as there is room for."""
    most = max(pool.max, pool.total, 1)
    active = _cells(pool.active, most, width)
    idle = min(width - active, _cells(pool.idle, most, width))
    style = BAD if pool.waiting else ODD if pool.max and pool.active >= pool.max else GOOD
    return Text.assemble(("█" * active, style), "▒" * idle, ("·" * (width - active - idle), FADED))


def _block(share: float) -> str:
    return _BLOCKS[min(len(_BLOCKS) - 1, int(share * len(_BLOCKS)))]


def _cells(part: int, whole: int, width: int) -> int:
    """At least one for what is not nothing."""
    return min(width, max(round(part * width / whole), 1)) if part > 0 else 0


def _seconds(moment: float | datetime) -> float:
    return moment.timestamp() if isinstance(moment, datetime) else moment
