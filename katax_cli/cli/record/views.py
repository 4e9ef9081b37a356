"""The arguments and rows of `katax record`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import typer

from katax_cli.cli.pubsub.views import Unprinted
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.options import lifetime
from katax_cli.cli.shell.redis import cell
from katax_cli.core.sql.conditions import parse_value
from katax_cli.core.text.text import to_bytes
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.redis.record_watch import RecordEvent, RecordWatch


def moment_or_lifetime(word: str | None) -> float | datetime | None:
    """A lifetime, or the moment of its end in ISO 8601."""
    if word is None:
        return None
    try:
        return datetime.fromisoformat(word) if "-" in word[1:] else lifetime(word)
    except ValueError as error:
        raise typer.BadParameter(f"{word!r} is no duration and no date; write 30s or 2030-01-01") from error


def criteria(pairs: Sequence[str]) -> dict[str, str]:
    """F=V words; values may be quoted, and have to be where they could be read as more than a value."""
    found = {}
    for pair in pairs:
        field, equals, value = pair.partition("=")
        if not (field and equals):
            raise typer.BadParameter(f"--where {field!r} has no value; write FIELD=VALUE")
        if field.rstrip()[-1:] in "!<>~":
            raise typer.BadParameter(f"--where {pair!r} compares; only FIELD=VALUE is supported")
        found[field] = _text(value)
    return found


def _text(word: str) -> str:
    try:
        value = parse_value(word)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return word if value.kind == "bound" else value.text


def record_rows(items: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[list[Any]]]]:
    """A column for each field that a record has, the id first, and one batch of rows."""
    fields = dict.fromkeys(["id", *(field for item in items for field in item)])
    return list(fields), [[[item.get(field) for field in fields] for item in items]]


def print_changes(
    call: Invocation, database: RedisDatabase, resource: str, *, header: Sequence[str], count: int | None
) -> None:
    """Prints changes until there are `count` of them, or until Ctrl-C."""
    arrivals = Unprinted[RecordEvent]()
    watch = RecordWatch(database, resource, on_event=arrivals.put, on_end=arrivals.put)
    watch.start()
    call.diagnostics.note(f"watching the records of {resource!r}")
    try:
        for event in arrivals.taken(count):
            if event.event == "missed":
                call.diagnostics.note("the connection was lost; changes made meanwhile are missing")
            id = None if event.id is None else cell(to_bytes(event.id), text=call.out.wants_text)
            call.out.arrival(header, (id, event.event, event.received_at))
    finally:
        arrivals.close()
        watch.close()
