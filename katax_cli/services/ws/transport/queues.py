"""The queues of one client, for reading and for handlers; both know their size."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from katax_cli.services.ws.values import MAX_HANDLING, MAX_HANDLING_BYTES, MAX_QUEUED, MAX_QUEUED_BYTES


class Outbox(asyncio.Queue[Any]):
    """The messages waiting for one client; knows their size, and whether its writer waits too."""

    bytes = 0
    _writer_waits = False

    @property
    def is_full(self) -> bool:
        return self.qsize() >= MAX_QUEUED or self.bytes >= MAX_QUEUED_BYTES

    @property
    def is_idle(self) -> bool:
        """True when all that was put in has been written."""
        return self._writer_waits and self.empty()

    async def get(self) -> Any:
        self._writer_waits = True
        try:
            return await super().get()
        finally:
            self._writer_waits = False

    def _put(self, item: Any) -> None:
        self.bytes += _size(item)
        super()._put(item)

    def _get(self) -> Any:
        item = super()._get()
        self.bytes -= _size(item)
        return item

    def discard(self) -> None:
        while not self.empty():
            self.get_nowait()
            self.task_done()


class Inbox:
    """The events of one client that wait for their handlers, and how much they were on the wire."""

    def __init__(self) -> None:
        self.events = 0
        self.bytes = 0
        self.arriving = 0
        self._freed = asyncio.Event()

    @property
    def is_full(self) -> bool:
        return self.events >= MAX_HANDLING or self.bytes >= MAX_HANDLING_BYTES

    def hold(self) -> int:
        """Counts the packet that has arrived; returns its size, for `release`."""
        size, self.arriving = self.arriving, 0
        self.events, self.bytes = self.events + 1, self.bytes + size
        return size

    def release(self, size: int) -> None:
        """It was handled."""
        self.events, self.bytes = self.events - 1, self.bytes - size
        self._freed.set()

    async def wait(self, seconds: float) -> None:
        """Returns when something was handled, or after `seconds`."""
        self._freed.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._freed.wait(), seconds)


def _size(item: Any) -> int:
    data = getattr(item, "data", None)
    return len(data) if isinstance(data, str | bytes) else 0
