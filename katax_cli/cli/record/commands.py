"""`katax record`: records of a resource on Redis, and their events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
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
CHANGE_HEADER = ("id", "event", "received_at")

Resource = Annotated[str, typer.Argument(help="Name of the resource, such as users.")]
Data = Annotated[str, typer.Argument(metavar="JSON", help="An object with an id; - for stdin, @file.")]
Id = Annotated[str, typer.Argument(help="Id of the record.")]
Field = Annotated[str, typer.Option("--field", metavar="F", help="Find by another field.")]
Ttl = Annotated[
    str | None, typer.Option(metavar="DURATION|DATE", help="Lifetime: 30s, short, or 2030-01-01T00:00:00Z.")
]
Where = Annotated[
    list[str] | None, typer.Option("--where", metavar="F=V", help="Field and value; repeated: and.")
]


@contextmanager
def store(call: Invocation, resource: str) -> Iterator[Records]:
    """The records of a resource on the chosen connection."""
    from katax_cli.services.redis.records import Records

    with scope(call, REDIS) as chosen:
        yield Records(resource, chosen.redis)


@group.command("create")
def create(
    call: Invocation,
    resource: Resource,
    data: Data,
    ttl: Ttl = None,
    generate_id: Annotated[
        bool, typer.Option("--generate-id", help="Give it a UUID (version 7) if it has no id.")
    ] = False,
) -> None:
    """Store a new record and print it; exit 1 when its id is taken."""
    _write(
        call,
        resource,
        data,
        ttl,
        lambda records: partial(records.create, generate_id=generate_id),
        needs_id=not generate_id,
    )


@group.command("update")
def update(call: Invocation, resource: Resource, data: Data, ttl: Ttl = None) -> None:
    """Merge fields into a record and print the whole; exit 1 when there is none. Keeps its lifetime unless given."""
    _write(call, resource, data, ttl, lambda records: records.update)


@group.command("save")
def save(call: Invocation, resource: Resource, data: Data, ttl: Ttl = None) -> None:
    """Store a record as a whole, new or not, and print it."""
    _write(call, resource, data, ttl, lambda records: records.save)


def _write(
    call: Invocation,
    resource: str,
    data: str,
    ttl: str | None,
    method: Callable[[Records], Any],
    *,
    needs_id: bool = True,
) -> None:
    from katax_cli.cli.record.views import moment_or_lifetime
    from katax_cli.services.redis.records import record_id

    record = json_object(call, data)
    until = moment_or_lifetime(ttl)
    id = record_id(record) if needs_id or record.get("id") is not None else None
    if call.only_planned(resource=resource, id=id):
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
    where: Where = None,
    page: Annotated[int, typer.Option("--page", min=0, help="From 0.")] = 0,
    size: Annotated[int, typer.Option("--size", min=1, help="Records per page.")] = 10,
) -> None:
    """Print a page of records: items and pager; with -f csv or tsv a row for each record."""
    from katax_cli.cli.record.views import criteria, record_rows

    wanted = criteria(where or [])
    with store(call, resource) as records:
        listed = records.list(wanted, page, size)
    items, pager = listed.items, listed.pager
    if call.out.format in ("table", "json", "jsonl"):
        call.out.scalar({"items": items, "pager": asdict(pager)})
    else:
        call.out.rows(*record_rows(items))
        call.diagnostics.note(f"page {pager.page}: {len(items)} of {pager.total} records")


@group.command("count")
def count(call: Invocation, resource: Resource, where: Where = None) -> None:
    """Print the number of records of a resource, or of those that have these values."""
    from katax_cli.cli.record.views import criteria

    wanted = criteria(where or [])
    with store(call, resource) as records:
        call.out.scalar(records.count(wanted))


@group.command("purge")
def purge(call: Invocation, resource: Resource, where: Where = None) -> None:
    """Delete all records of a resource, or those that have these values.

    Records of a resource whose name begins with this one's stay, as does what is no record.
    """
    from katax_cli.cli.record.views import criteria
    from katax_cli.cli.shell.progress import Progress
    from katax_cli.core.roles import Tier
    from katax_cli.services.redis.records import Records

    wanted = criteria(where or [])
    with scope(call, REDIS, seconds=None) as chosen:
        records = Records(resource, chosen.redis)
        matching = records.count(wanted)
        if call.only_planned(resource=resource, matching=matching, deleted=0):
            return
        what = f"delete {matching} records of {resource!r}" + (f" with {', '.join(where)}" if where else "")
        call.diagnostics.note(what)
        chosen.confirm(Tier.DESTRUCTIVE, what)
        with Progress(call.diagnostics, "deleted", "records", matching, unsure=True) as progress:
            deleted = records.purge(wanted or None, on_batch=progress)
    call.out.action({"resource": resource, "matching": matching, "deleted": deleted})


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
    from katax_cli.cli.pubsub.views import message_value, print_messages
    from katax_cli.services.redis.records import Records

    with scope(call, REDIS, endless=True) as chosen:
        channel = Records(resource, chosen.redis).channel(key)
        print_messages(
            call,
            chosen.redis,
            channels=[channel],
            patterns=[],
            header=EVENT_HEADER,
            row=lambda message, text: (key, message_value(message, text), message.received_at),
            count=count,
        )


@group.command("watch")
def watch(
    call: Invocation,
    resource: Resource,
    count: Annotated[int | None, typer.Option("--count", min=1, help="Number of events; then end.")] = None,
) -> None:
    """Print changes of records as they happen: saved, deleted, expired, evicted; missed after a lost connection.

    The server tells by its keyspace events, which 'notify-keyspace-events' turns on; exit 2 when it is off.
    """
    from katax_cli.cli.record.views import print_changes

    with scope(call, REDIS, endless=True) as chosen:
        print_changes(call, chosen.redis, resource, header=CHANGE_HEADER, count=count)
