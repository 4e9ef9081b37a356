"""`--watch`: the same answer again and again, drawn in place on a terminal, one after the other on a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, Never, cast

from katax_cli.cli.shell.invocation import INTERACTIVE_SECONDS, Invocation
from katax_cli.cli.shell.scope import Scope, Target, scope
from katax_cli.core.clock import SYSTEM
from katax_cli.errors import ConfigError, Unavailable

_IN_MEMORY = 8 * 1024 * 1024
"""Bytes of one answer; a longer one waits in a temporary file until it is whole."""
_AT_ONCE = 65_536

Show = Callable[[Iterable[bytes]], object]


def watch(call: Invocation, *, every: float, work: Callable[[], Iterable[bytes]]) -> Never:
    """Runs `work` every so many seconds and shows the chunks that it returns, until Ctrl-C."""
    with _display(call) as show:
        while True:
            started = SYSTEM.monotonic()
            show(work())
            SYSTEM.sleep(max(0.0, every - (SYSTEM.monotonic() - started)))


def refuse_file(call: Invocation) -> None:
    """Raises ConfigError for `-o FILE`: it takes its name when the command succeeds, which a watch never does."""
    if call.shared.output not in (None, "-"):
        raise ConfigError("--watch does not end, so -o cannot write a whole file; redirect stdout")


def watch_answers(
    call: Invocation,
    target: Target,
    *,
    every: float,
    answer: Callable[[Scope, float], Sequence[str]],
) -> Never:
    """`answer(scope, seconds)` writes one answer to the scope's output, within so many seconds; returns notes on it.

    Each round has the time of one command. A server that is not available is shown, and asked again; any other error
    ends it. JSON is one value a line.
    """
    refuse_file(call)
    seconds = INTERACTIVE_SECONDS if call.shared.timeout is None else call.shared.timeout
    drawn = call.streams.width is not None and call.out.format == "table"
    with scope(call, target, endless=True) as chosen, SpooledTemporaryFile(_IN_MEMORY) as spool:
        # Notes of every round would bury the answers.
        hushed = replace(call.diagnostics, quiet=True)
        out = replace(call.out, stream=cast("BinaryIO", spool), pager=None, one_line=True, note=hushed.note)
        buffered = chosen._replace(call=call._replace(out=out, diagnostics=hushed))

        def look() -> Iterable[bytes]:
            spool.seek(0)
            spool.truncate()
            try:
                notes = answer(buffered, seconds)
            except Unavailable as error:
                return [_said(call, error, drawn=drawn)]
            if call.out.format == "table":
                spool.write("".join(f"{note}\n" for note in notes).encode())
            spool.seek(0)
            return iter(partial(spool.read, _AT_ONCE), b"")

        watch(call, every=every, work=look)


def _said(call: Invocation, error: Unavailable, *, drawn: bool) -> bytes:
    """An error in the place of an answer: drawn on a terminal, else on stderr."""
    if drawn:
        return f"katax: {error}\n".encode()
    call.diagnostics.failure(error)
    return b""


@contextmanager
def _display(call: Invocation) -> Iterator[Show]:
    if call.streams.width is None or call.out.format != "table" or call.shared.output is not None:
        yield lambda chunks: list(map(call.out.raw, chunks))
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(no_color=not call.streams.color, highlight=False)
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        yield lambda chunks: live.update(
            Text.from_ansi(b"".join(chunks).decode(), no_wrap=True, overflow="ellipsis"), refresh=True
        )
