"""The `katax` process: signals in, exit status out."""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import Never

_TAB = ["completion", "values", "--"]
"""What the completions of shells ask, at every TAB."""


def main() -> Never:
    """Runs the command line of this process and exits with its code."""
    # Imports make many objects and no garbage: each look of the collector is in vain, dozens of them at the default.
    gc.set_threshold(200_000)
    _replace_closed_streams()
    if sys.argv[1:4] == _TAB:
        from katax_cli.cli.completion.values import print_values

        _leave(print_values(sys.argv[4:]))
    from katax_cli.cli import app

    def terminate(_signal: int, _frame: FrameType | None) -> None:
        app.Terminated.arrived = True
        raise app.Terminated

    signal.signal(signal.SIGTERM, terminate)
    _leave(app.main())


def _replace_closed_streams() -> None:
    """Opens /dev/null for a stream that the caller closed (`>&-`): the next file or socket would get its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode)  # noqa: SIM115 - as long as the process
            os.set_inheritable(stream.fileno(), True)  # noqa: FBT003 - it has no name
            setattr(sys, name, stream)


def _leave(code: int) -> Never:
    """Ends the process at once: all is written and closed, and threads that were left behind may not hold it.

    Taking the interpreter apart would cost a short command a fifth of its time.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
