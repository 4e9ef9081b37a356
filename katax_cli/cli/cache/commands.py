"""`katax cache`: a Redis cache by hand."""

from __future__ import annotations

from typing import Annotated

import typer

from katax_cli.cli.cache.keys import group as cache_keys
from katax_cli.cli.cache.server import group as cache_server
from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.options import lifetime
from katax_cli.cli.shell.redis import cache

group = Group()

Key = Annotated[str, typer.Argument(help="Key, without the connection's prefix.")]
Raw = Annotated[bool, typer.Option("--raw", help="Raw bytes, no JSON.")]
By = Annotated[int, typer.Option("--by", metavar="N", help="Amount.")]
Ttl = Annotated[
    str | None,
    typer.Option(metavar="DURATION|NAME", help="Lifetime: 30s, 5m, or short|medium|long|session|week."),
]


@group.command("get")
def get(call: Invocation, key: Key, raw: Raw = False) -> ExitCode:
    """Print the value of a key; exit 1 when there is none."""
    with cache(call) as values:
        data = values.get_raw(key)
    if data is None:
        return ExitCode.NO
    call.out.stored(data, raw=raw)
    return ExitCode.DONE


@group.command("set")
def set_(
    call: Invocation,
    key: Key,
    value: Annotated[str, typer.Argument(help="JSON, or text; - for stdin, @file for a file.")],
    ttl: Ttl = None,
    nx: Annotated[bool, typer.Option("--nx", help="Only if the key does not exist.")] = False,
    xx: Annotated[bool, typer.Option("--xx", help="Only if the key exists.")] = False,
    keep_ttl: Annotated[bool, typer.Option("--keep-ttl", help="Keep the key's lifetime.")] = False,
    raw: Raw = False,
) -> ExitCode:
    """Store a value; exit 1 when --nx or --xx forbade it."""
    from katax_cli.services.redis.values import to_stored

    data = call.input_bytes(value)
    only_if = {(True, False): "nx", (False, True): "xx", (False, False): None}.get((nx, xx), "both")
    if only_if == "both" or (keep_ttl and ttl is not None):
        raise typer.BadParameter("use one of --nx and --xx, and one of --ttl and --keep-ttl")
    if call.only_planned(key=key, stored=False):
        return ExitCode.DONE
    with cache(call) as values:
        stored = values.set_raw(
            key, data if raw else to_stored(data), lifetime(ttl), only_if=only_if, keep_ttl=keep_ttl
        )
    call.out.action({"key": key, "stored": stored})
    return ExitCode.DONE if stored else ExitCode.NO


@group.command("del")
def del_(call: Invocation, keys: Annotated[list[str], typer.Argument(help="Keys.")]) -> None:
    """Delete keys and print how many there were."""
    if call.only_planned(keys=keys, deleted=0):
        return
    with cache(call) as values:
        call.out.scalar(values.delete(*keys))


@group.command("exists")
def exists(call: Invocation, key: Key) -> ExitCode:
    """Check whether a key exists; exit 1 when it does not."""
    with cache(call) as values:
        found = values.exists(key)
    call.out.scalar(found)
    return ExitCode.DONE if found else ExitCode.NO


@group.command("ttl")
def ttl_(call: Invocation, key: Key) -> ExitCode:
    """Print the remaining seconds of a key, -1 for no expiry; exit 1 when there is none."""
    with cache(call) as values:
        seconds = values.ttl(key)
    if seconds == -2:
        return ExitCode.NO
    call.out.scalar(seconds)
    return ExitCode.DONE


@group.command("expire")
def expire(
    call: Invocation,
    key: Key,
    ttl: Annotated[str, typer.Argument(metavar="TTL", help="30s, 5m, or short|medium|long|session|week.")],
) -> ExitCode:
    """Set the lifetime of a key; exit 1 when there is none."""
    seconds = lifetime(ttl) or 0.0
    if call.only_planned(key=key, ttl_seconds=seconds):
        return ExitCode.DONE
    with cache(call) as values:
        found = values.expire(key, seconds)
    if found:
        call.out.action({"key": key, "ttl_seconds": seconds})
    return ExitCode.DONE if found else ExitCode.NO


@group.command("persist")
def persist(call: Invocation, key: Key) -> ExitCode:
    """Remove the expiry of a key; exit 1 when there is no such key or no expiry."""
    if call.only_planned(key=key, persisted=False):
        return ExitCode.DONE
    with cache(call) as values:
        done = values.persist(key)
    call.out.action({"key": key, "persisted": done})
    return ExitCode.DONE if done else ExitCode.NO


@group.command("incr")
def incr(call: Invocation, key: Key, by: By = 1) -> None:
    """Add to a counter, which starts at 0, and print its new value."""
    _count(call, key, by)


@group.command("decr")
def decr(call: Invocation, key: Key, by: By = 1) -> None:
    """Take from a counter and print its new value."""
    _count(call, key, -by)


def _count(call: Invocation, key: str, by: int) -> None:
    if call.only_planned(key=key, by=by):
        return
    with cache(call) as values:
        call.out.scalar(values.incr(key, by))


@group.command("mget")
def mget(call: Invocation, keys: Annotated[list[str], typer.Argument(help="Keys.")]) -> ExitCode:
    """Print the values of several keys; exit 1 when one of them is missing."""
    from katax_cli.cli.cache.views import VALUE_HEADER, value_row

    with cache(call) as values:
        found = values.mget_raw(keys)
    rows = [value_row(key, data, text=call.out.wants_text) for key, data in zip(keys, found, strict=True)]
    call.out.rows(VALUE_HEADER, [rows])
    return ExitCode.NO if None in found else ExitCode.DONE


@group.command("mset")
def mset(
    call: Invocation,
    pairs: Annotated[
        list[str], typer.Argument(metavar="K=V...", help="Pairs; or - or @file: one JSON object.")
    ],
    ttl: Ttl = None,
) -> None:
    """Store several values."""
    from katax_cli.cli.cache.views import pairs_to_store

    stored = pairs_to_store(call, pairs)
    if call.only_planned(stored=0, keys=sorted(stored)):
        return
    with cache(call) as values:
        values.mset_raw(stored, lifetime(ttl))
    call.out.action({"stored": len(stored)})


group.commands.update(cache_keys.commands)
group.commands.update(cache_server.commands)
