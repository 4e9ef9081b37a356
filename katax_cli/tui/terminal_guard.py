"""Restores the terminal when the dashboard ends without doing so itself: killed, aborted, out of memory.

A process of its own waits for that, for a killed process can restore nothing. This file is also that process: it
imports the standard library only, so that it is small and starts at once.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

LEAVE = (
    b"\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1015l\x1b[?1006l"  # the mouse
    b"\x1b[?1004l\x1b[?2004l\x1b[?2048l\x1b[<u"  # focus, paste, size reports, keyboard protocol
    b"\x1b[?1049l\x1b[?25h\x1b[0m"  # the other screen, the cursor, colours
)
_LEFT_WELL = b"."


@contextmanager
def guarded() -> Iterator[None]:
    """While the block runs, a process of its own waits to restore the terminal on stdout."""
    modes = termios.tcgetattr(sys.stdout.fileno())
    with subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, repr(modes)],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # Neither Ctrl-C nor a signal to the dashboard's process group may end it.
        start_new_session=True,
    ) as guard:
        yield
        assert guard.stdin is not None
        # It may be gone: then there is nobody to tell.
        with suppress(BrokenPipeError):
            guard.stdin.write(_LEFT_WELL)
            guard.stdin.flush()


def wait_and_restore(modes: list[Any], terminal: int) -> None:
    """Waits on stdin for the word that all went well; at its end without that, restores the terminal."""
    if os.read(0, 1) == _LEFT_WELL:
        return
    os.write(terminal, LEAVE)
    local = termios.tcgetattr(terminal)[3]
    # A shell that took over has modes of its own; only those of the dashboard turn Ctrl-C off.
    if not local & termios.ISIG:
        termios.tcsetattr(terminal, termios.TCSANOW, modes)


if __name__ == "__main__":
    # The terminal may be closed by now.
    with suppress(OSError, termios.error):
        wait_and_restore(ast.literal_eval(sys.argv[1]), sys.stdout.fileno())
