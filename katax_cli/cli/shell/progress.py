"""How far long work has come: a bar on a terminal, elsewhere a line every two seconds; and what lasts of it when it is
interrupted."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self

from katax_cli.core.clock import SYSTEM, Clock

if TYPE_CHECKING:
    from katax_cli.cli.shell.diagnostics import Diagnostics

_BAR_AFTER = 1.0
_LINE_EVERY = 2.0


class Progress:
    """Called with the number done so far, from one thread. `bar`: False where the terminal is written to meanwhile.

    `total` is None where nobody knows it, or estimates it later (`about`). `unsure`: what is under way when it is
    interrupted may be done as well. `further` is how to go on then.
    """

    def __init__(
        self,
        diagnostics: Diagnostics,
        done: str,
        unit: str,
        total: int | None,
        *,
        bar: bool = True,
        unsure: bool = False,
        further: str = "",
        clock: Clock = SYSTEM,
    ) -> None:
        self._diagnostics = diagnostics
        self._done, self._unit, self._total = done, unit, total
        self._about = ""
        self._unsure, self._further = unsure, further
        self._clock = clock
        self._count = 0
        self._started = self._told = clock.monotonic()
        quiet = diagnostics.quiet or diagnostics.json
        self._wants_bar = bar and not quiet and diagnostics.stream.isatty()
        self._bar: _Bar | None = None
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        if self._wants_bar:
            self._timer = threading.Timer(_BAR_AFTER, self.show)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self.hide()
        if error is not None and not isinstance(error, Exception):
            self._diagnostics.note(f"interrupted: {self.what_lasts()}")

    def __call__(self, count: int) -> None:
        self._count = count
        if self._about and self._total is not None and count > self._total:
            self.about(None)
        now = self._clock.monotonic()
        if self._bar is not None:
            self._bar.update(count, self._rate(now))
        elif not self._wants_bar and now - self._told >= _LINE_EVERY:
            self._told = now
            self._diagnostics.note(self._line(now))

    def about(self, total: int | None) -> None:
        """Takes an estimate of the total, or a better one; None: there is none."""
        self._total, self._about = total, "about "
        if self._bar is not None:
            self._bar.total(total, self._about)

    def hide(self) -> None:
        """Removes the bar for good, so that results can be written."""
        with self._lock:
            self._wants_bar = False
            if self._timer is not None:
                self._timer.cancel()
            if self._bar is not None:
                self._bar.close()
                self._bar = None
                self._diagnostics.above.clear()

    def show(self) -> None:
        """Shows the bar, unless the work has ended."""
        with self._lock:
            if self._wants_bar and self._bar is None:
                self._bar = _Bar(self._diagnostics, self._unit)
                self._bar.total(self._total, self._about)
                self._bar.update(self._count, self._rate(self._clock.monotonic()))

    def _rate(self, now: float) -> float:
        return self._count / max(now - self._started, 0.001)

    def _line(self, now: float) -> str:
        rate = self._rate(now)
        if self._total is None:
            return f"{self._done} {self._count:,} {self._unit}, {rate:,.0f}/s"
        left = max(self._total - self._count, 0) / rate if rate else 0.0
        of = f"{self._count:,} of {self._about}{self._total:,} {self._unit}"
        return f"{self._done} {of}, {rate:,.0f}/s, {left:.0f} s left"

    def what_lasts(self) -> str:
        """`78,000 of 300,000 keys imported`, and how to go on."""
        of = "" if self._total is None else f" of {self._about}{self._total:,}"
        least = "at least " if self._unsure else ""
        return f"{least}{self._count:,}{of} {self._unit} {self._done}{self._further}"


class Parts:
    """One progress of several works, each told from its own thread."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    def told(self, name: str, count: int) -> None:
        """Hears how much of the work of this name is done."""
        with self._lock:
            self._counts[name] = count
            self.progress(sum(self._counts.values()))


class _Bar:
    """Rich's bar on stderr; notes are written above it meanwhile."""

    def __init__(self, diagnostics: Diagnostics, unit: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        console = Console(file=diagnostics.stream, highlight=False, markup=False, emoji=False)
        self._bars = Bars(
            BarColumn(),
            TextColumn("{task.completed:,.0f}{task.fields[of]} " + unit, markup=False),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task: Any = self._bars.add_task("", total=None, rate="", of="")
        self._bars.start()
        diagnostics.above.append(lambda text: console.print(text, soft_wrap=True))

    def total(self, total: int | None, about: str) -> None:
        self._bars.update(self._task, total=total, of="" if total is None else f"/{about}{total:,}")

    def update(self, count: int, rate: float) -> None:
        self._bars.update(self._task, completed=count, rate=f"{rate:,.0f}/s" if rate >= 1 else "")

    def close(self) -> None:
        self._bars.stop()
