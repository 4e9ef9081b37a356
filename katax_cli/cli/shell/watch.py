"""`--watch`: the same answer again and again, drawn in place on a terminal, one after the other on a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Never

from katax_cli.cli.shell.invocation import Invocation
from katax_cli.core.clock import SYSTEM

Show = Callable[[bytes], object]


def watch(call: Invocation, *, every: float, work: Callable[[], bytes]) -> Never:
    """Runs `work` every so many seconds and shows what it returns, until Ctrl-C."""
    with _display(call) as show:
        while True:
            started = SYSTEM.monotonic()
            show(work())
            SYSTEM.sleep(max(0.0, every - (SYSTEM.monotonic() - started)))


@contextmanager
def _display(call: Invocation) -> Iterator[Show]:
    if call.streams.width is None or call.out.format != "table" or call.shared.output is not None:
        yield call.out.raw
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(no_color=not call.streams.color, highlight=False)
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        yield lambda data: live.update(
            Text.from_ansi(data.decode(), no_wrap=True, overflow="ellipsis"), refresh=True
        )
