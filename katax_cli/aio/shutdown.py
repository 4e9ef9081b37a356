"""Graceful shutdown of what tasks use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from katax_cli.aio.container import AsyncHook, AsyncKatax, plain_hook
from katax_cli.aio.database import AsyncDatabase
from katax_cli.core.resilience.shutdown import ShutdownReport
from katax_cli.core.text.duration import Duration
from katax_cli.engines.awaited.calls import call, in_thread
from katax_cli.services.program.shutdown import TIMEOUT, Log, ShutdownController

AsyncTarget = AsyncKatax | AsyncDatabase[Any] | list[AsyncKatax | AsyncDatabase[Any]]


async def graceful_shutdown(
    target: AsyncTarget,
    *,
    timeout: Duration = TIMEOUT,
    on_shutdown: AsyncHook | None = None,
    logger: Log | None = None,
) -> ShutdownReport:
    """Calls the hook, a coroutine function or a plain one, waits for what is in use, closes.

    Takes at most `timeout` seconds and raises no error of a step; what hangs is left behind and named.
    """
    targets = target if isinstance(target, list) else [target]
    loop = asyncio.get_running_loop()
    hook = None if on_shutdown is None else plain_hook(on_shutdown, lambda: loop)
    controller = ShutdownController(
        [each.wraps for each in targets], timeout=timeout, on_shutdown=hook, logger=logger
    )
    end: Callable[[], ShutdownReport] = controller.execute
    return await call(partial(in_thread, "katax-shutdown", end))
