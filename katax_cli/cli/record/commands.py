"""`katax record`: records of a resource on Redis, and their events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.json_argument import json_object
from katax_cli.cli.shell.redis import REDIS
from katax_cli.cli.shell.scope import scope

if TYPE_CHECKING:
    from katax_cli.services.redis.records import Records

group = Group()

EVENT_HEADER = ("key", "value", "received_at")

Resource = Annotated[str, typer.Argument(help="Name of the resource, such as users.")]
Data = Annotated[str, typer.Argument(metavar="JSON", help="An object with an id; - for stdin, @file.")]
Id = Annotated[str, typer.Argument(help="Id of the record.")]
Field = Annotated[str, typer.Option("--field", metavar="F", help="Find by another field.")]
Ttl = Annotated[
    str | None, typer.Option(metavar="DURATION|DATE", help="Lifetime: 30s, short, or 2030-01-01T00:00:00Z.")
]


@contextmanager
def store(call: Invocation, resource: str) -> Iterator[Records]:
    """The records of a resource on the chosen connection."""
    from katax_cli.services.redis.records import Records

    with scope(call, REDIS) as chosen:
        yield Records(resource, chosen.redis)


@group.command("create")
def create(call: Invocation, resource: Resource, data: Data, ttl: Ttl = None) -> None:
    """Store a new record and print it; exit 1 when its id is taken."""
    _write(call, resource, data, ttl, lambda records: records.create)


@group.command("update")
def update(call: Invocation, resource: Resource, data: Data, ttl: Ttl = None) -> None:
    """Merge fields into a record and print the whole; exit 1 when there is none. Keeps its lifetime unless given."""
    _write(call, resource, data, ttl, lambda records: records.update)


@group.command("save")
def save(call: Invocation, resource: Resource, data: Data, ttl: Ttl = None) -> None:
    """Store a record as a whole, new or not, and print it."""
    _write(call, resource, data, ttl, lambda records: records.save)


def _write(
    call: Invocation, resource: str, data: str, ttl: str | None, method: Callable[[Records], Any]
) -> None:
    from katax_cli.cli.record.views import moment_or_lifetime
    from katax_cli.services.redis.records import record_id

    record = json_object(call, data)
    until = moment_or_lifetime(ttl)
    if call.only_planned(resource=resource, id=record_id(record)):
        return
    with store(call, resource) as records:
        call.out.scalar(method(records)(record, ttl=until))


@group.command("get")
def get(call: Invocation, resource: Resource, value: Id, field: Field = "id") -> None:
    """Print a record; exit 1 when there is none."""
    with store(call, resource) as records:
        call.out.scalar(records.get(value, field))


@group.command("load")
def load(call: Invocation, resource: Resource, value: Id, field: Field = "id") -> None:
    """Print a record, or null when there is none."""
    with store(call, resource) as records:
        call.out.scalar(records.load(value, field))


@group.command("delete")
def delete(call: Invocation, resource: Resource, id: Id) -> None:
    """Delete a record and print it, or null when there is none."""
    if call.only_planned(resource=resource, id=id):
        return
    with store(call, resource) as records:
        call.out.scalar(records.delete(id))


@group.command("pick")
def pick(call: Invocation, resource: Resource, id: Id) -> None:
    """Delete a record and print it; exit 1 when there is none."""
    if call.only_planned(resource=resource, id=id):
        return
    with store(call, resource) as records:
        call.out.scalar(records.pick(id))


@group.command("list")
def list_(
    call: Invocation,
    resource: Resource,
    where: Annotated[
        list[str] | None, typer.Option("--where", metavar="F=V", help="Field and value; repeated: and.")
    ] = None,
    page: Annotated[int, typer.Option("--page", min=0, help="From 0.")] = 0,
    size: Annotated[int, typer.Option("--size", min=1, help="Records per page.")] = 10,
) -> None:
    """Print a page of records: items and pager; with -f csv or tsv a row for each record."""
    from katax_cli.cli.record.views import criteria, page_facts, pager_text, record_rows

    wanted = criteria(where or [])
    with store(call, resource) as records:
        page_of_records = records.list(wanted, page, size)
    if call.out.format in ("table", "json", "jsonl"):
        call.out.scalar(page_facts(page_of_records))
    else:
        call.out.rows(*record_rows(page_of_records.items))
        call.diagnostics.note(pager_text(page_of_records))


@group.command("key")
def key(
    call: Invocation,
    resource: Resource,
    id: Annotated[str | None, typer.Argument(help="Of a record.")] = None,
) -> None:
    """Print the key of a record on the server; no round trip."""
    with store(call, resource) as records:
        call.out.scalar(records.key(id))


@group.command("publish")
def publish(
    call: Invocation,
    resource: Resource,
    value: Annotated[str, typer.Argument(metavar="JSON", help="The event; - for stdin, @file for a file.")],
    key: Annotated[str | None, typer.Option("--key", metavar="K", help="Event of one key.")] = None,
) -> ExitCode:
    """Send an event and print how many received it."""
    from katax_cli.services.redis.values import decode, to_stored

    event = decode(to_stored(call.input_bytes(value)))
    if call.only_planned(resource=resource, receivers=0):
        return ExitCode.DONE
    with store(call, resource) as records:
        call.out.scalar(records.publish(event, key))
    return ExitCode.DONE


@group.command("subscribe")
def subscribe(
    call: Invocation,
    resource: Resource,
    key: Annotated[str | None, typer.Option("--key", metavar="K", help="Events of one key.")] = None,
    count: Annotated[int | None, typer.Option("--count", min=1, help="Number of events; then end.")] = None,
) -> None:
    """Print events as they arrive; reconnects by itself and notes gaps."""
    from katax_cli.cli.pubsub.views import print_messages
    from katax_cli.cli.record.views import event_row
    from katax_cli.services.redis.records import Records

    with scope(call, REDIS, endless=True) as chosen:
        channel = Records(resource, chosen.redis).channel(key)
        print_messages(
            call,
            chosen.redis,
            channels=[channel],
            patterns=[],
            header=EVENT_HEADER,
            row=lambda message, text: event_row(key, message, text),
            count=count,
        )
