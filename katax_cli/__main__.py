"""The `katax` process: signals in, exit status out."""

from __future__ import annotations

import gc
import signal
import sys
from types import FrameType


def main() -> None:
    """Runs the command line of this process and exits with its code."""
    # Imports make many objects and no garbage; at the default of 700 the collector looks dozens of times.
    gc.set_threshold(50_000)
    from katax_cli.cli import app

    def terminate(_signal: int, _frame: FrameType | None) -> None:
        app.Terminated.arrived = True
        raise app.Terminated

    signal.signal(signal.SIGTERM, terminate)
    sys.exit(app.main())


if __name__ == "__main__":
    main()
