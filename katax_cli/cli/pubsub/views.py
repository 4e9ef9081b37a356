"""Messages as rows, one by one as they arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from queue import Full, Queue
from threading import Event
from typing import Generic, TypeVar

from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.redis import cell
from katax_cli.core.text.text import to_bytes
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.redis.subscription import Message, Subscription

T = TypeVar("T")
_MOST_UNPRINTED = 1000
_LOOK_EVERY = 0.5


def message_row(message: Message, text: bool) -> tuple[object, ...]:
    """JSON as its value, else its text; what is none as base64 in JSON (not `text`)."""
    channel = cell(to_bytes(message.channel), text=text)
    return (channel, message.pattern, message_value(message, text), message.received_at)


def message_value(message: Message, text: bool) -> object:
    shown = cell(message.data, text=text)
    return message.value if isinstance(shown, str) else shown


class Unprinted(Generic[T]):
    """The arrivals of a thread that are not printed yet: a thousand at the most, then the thread waits."""

    def __init__(self) -> None:
        self._queue: Queue[T | BaseException] = Queue(_MOST_UNPRINTED)
        self._closed = Event()

    def put(self, arrived: T | BaseException) -> None:
        while not self._closed.is_set():
            with suppress(Full):
                self._queue.put(arrived, timeout=_LOOK_EVERY)
                return

    def close(self) -> None:
        """Ends the printing: lets the thread go on, and end."""
        self._closed.set()

    def taken(self, count: int | None) -> Iterator[T]:
        """Yields what arrives, up to `count`; raises an error that arrived."""
        while count is None or count > 0:
            arrived = self._queue.get()
            if isinstance(arrived, BaseException):
                raise arrived
            yield arrived
            count = None if count is None else count - 1


def print_messages(
    call: Invocation,
    database: RedisDatabase,
    *,
    channels: Sequence[str],
    patterns: Sequence[str],
    header: Sequence[str],
    row: Callable[[Message, bool], tuple[object, ...]],
    count: int | None,
) -> None:
    """Prints messages until there are `count` of them, or until Ctrl-C; gaps are reported on stderr."""
    arrivals = Unprinted[Message]()
    subscription = Subscription(
        database,
        on_message=arrivals.put,
        on_gap=lambda seconds: call.diagnostics.note(
            f"the connection was lost for {seconds:.1f} s; messages sent meanwhile are missing"
        ),
        on_end=arrivals.put,
    )
    subscription.start(channels=channels, patterns=patterns)
    call.diagnostics.note(f"subscribed to {', '.join([*channels, *patterns])}")
    try:
        for message in arrivals.taken(count):
            call.out.arrival(header, row(message, call.out.wants_text))
    finally:
        arrivals.close()
        subscription.close()
