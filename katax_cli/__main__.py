"""The `katax` process: signals in, exit status out."""

from __future__ import annotations

import gc
import os
import sys

# What is imported before `main` runs leaves Ctrl-C time to print a traceback, so all else is imported in it.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Never

_TAB = ["completion", "values", "--"]
"""What the completions of shells ask, at every TAB."""
_INTERRUPTED = 130
_MOMENT = 0.01
"""Seconds after which a finalizer has ended."""


def main() -> Never:
    """Runs the command line of this process and exits with its code."""
    try:
        _leave(_run())
    except KeyboardInterrupt:
        os._exit(_INTERRUPTED)


def _run() -> int:
    # Imports make many objects and no garbage: each look of the collector is in vain, dozens of them at the default.
    gc.set_threshold(200_000)
    _replace_closed_streams()
    import signal

    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        # Nothing has begun yet; raised in an import, KeyboardInterrupt can become another error, or be dropped.
        signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))
    if sys.argv[1:4] == _TAB:
        from katax_cli.cli.completion.values import print_values

        return print_values(sys.argv[4:])
    from katax_cli.cli import app

    def terminate(_signal: int, _frame: FrameType | None) -> None:
        app.Terminated.arrived = True
        raise app.Terminated

    def hang_up(number: int, frame: FrameType | None) -> None:
        # A shell sends it on, too: the second one would end what the first began. Programs do not inherit a handler.
        signal.signal(signal.SIGHUP, lambda *_: None)
        terminate(number, frame)

    def raise_again(dropped: sys.UnraisableHookArgs) -> None:
        handlers = {KeyboardInterrupt: signal.default_int_handler, app.Terminated: terminate}
        handler = handlers.get(dropped.exc_type)
        if handler is None:
            sys.__unraisablehook__(dropped)
        else:
            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, _MOMENT)

    signal.signal(signal.SIGTERM, terminate)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        # The terminal was closed; under `nohup` that is ignored.
        signal.signal(signal.SIGHUP, hang_up)
    # What a signal's handler raises in a finalizer, as each import has one, Python prints and drops.
    sys.unraisablehook = raise_again
    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return app.main()


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
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(code)


if __name__ == "__main__":
    main()
