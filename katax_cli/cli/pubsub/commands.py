"""`katax pubsub`: publish messages and watch them arrive."""

from __future__ import annotations

from typing import Annotated

import typer

from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.redis import REDIS
from katax_cli.cli.shell.scope import scope

group = Group()

HEADER = ("channel", "pattern", "message", "received_at")


@group.command("publish")
def publish(
    call: Invocation,
    channel: Annotated[str, typer.Argument(help="Channel, without the connection's prefix.")],
    message: Annotated[str, typer.Argument(help="JSON, or text; - for stdin, @file for a file.")],
    raw: Annotated[bool, typer.Option("--raw", help="Raw bytes, no JSON.")] = False,
) -> None:
    """Send a message and print how many received it."""
    from katax_cli.services.redis.pubsub import publish_raw
    from katax_cli.services.redis.values import to_stored

    data = call.input_bytes(message)
    if call.only_planned(channel=channel, receivers=0):
        return
    with scope(call, REDIS) as chosen:
        call.out.scalar(publish_raw(chosen.redis, channel, data if raw else to_stored(data)))


@group.command("subscribe")
def subscribe(
    call: Invocation,
    channels: Annotated[list[str], typer.Argument(help="Channels, or globs with --pattern.")],
    pattern: Annotated[bool, typer.Option("--pattern", help="The names are globs.")] = False,
    count: Annotated[int | None, typer.Option("--count", min=1, help="Number of messages; then end.")] = None,
) -> None:
    """Print messages as they arrive; reconnects by itself and notes gaps."""
    from katax_cli.cli.pubsub.views import message_row, print_messages

    with scope(call, REDIS, endless=True) as chosen:
        print_messages(
            call,
            chosen.redis,
            channels=[] if pattern else channels,
            patterns=channels if pattern else [],
            header=HEADER,
            row=message_row,
            count=count,
        )
