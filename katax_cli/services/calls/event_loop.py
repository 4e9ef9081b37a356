"""Guarded calls block; on the thread of a running event loop they block every task of it."""

from __future__ import annotations

import logging
import sys

from katax_cli.core.waiting import task_waits

_log = logging.getLogger("katax")
_warned = False


def warn_of_blocking(connection: str) -> None:
    """Logs one warning for the process when an event loop runs on this thread."""
    global _warned
    # The variant that raises costs more than the rest of a guarded call. No loop runs here while another thread
    # still imports asyncio, which lacks the function then.
    running_loop = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    if running_loop is None or _warned or running_loop() is None or task_waits() is not None:
        return
    _warned = True
    _log.warning(
        "a call to %r blocks the running event loop, and with it every other task; "
        "make it in a thread, such as by asyncio.to_thread",
        connection,
    )
