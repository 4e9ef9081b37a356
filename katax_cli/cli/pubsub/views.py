"""Messages as rows, one by one as they arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue

from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.redis import cell
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.redis.pubsub import Message, Subscription

Arrival = Message | BaseException


def message_row(message: Message, text: bool) -> tuple[object, ...]:
    """JSON as its value, else its text; what is none as base64 in JSON (not `text`)."""
    channel = cell(message.channel.encode("utf-8", "surrogateescape"), text=text)
    return (channel, message.pattern, message_value(message, text), message.received_at)


def message_value(message: Message, text: bool) -> object:
    shown = cell(message.data, text=text)
    return message.value if isinstance(shown, str) else shown


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
    arrivals = SimpleQueue[Arrival]()
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
        for message in _until(arrivals, count):
            _write(call, header, row(message, call.out.wants_text))
    finally:
        subscription.close()


def _write(call: Invocation, header: Sequence[str], cells: tuple[object, ...]) -> None:
    """One row at once: its reader waits for it. JSON is one object a line, as of everything that goes on."""
    if call.out.format in ("json", "jsonl"):
        call.out.action(dict(zip(header, cells, strict=True)))
        return
    call.out.rows(header, [[cells]])
    call.out.header = False


def _until(arrivals: SimpleQueue[Arrival], count: int | None) -> Iterator[Message]:
    while count is None or count > 0:
        arrived = arrivals.get()
        if isinstance(arrived, BaseException):
            raise arrived
        yield arrived
        count = None if count is None else count - 1
