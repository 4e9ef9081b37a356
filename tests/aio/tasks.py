"""Waiting in tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tests.waiting import SECONDS


async def eventually(condition: Callable[[], Awaitable[object]], seconds: float = SECONDS) -> None:
    """Returns when it holds; the test has failed when it does not in time."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)
