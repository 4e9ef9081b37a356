"""`katax cache`: a Redis cache by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from katax_cli.cli.exits import ExitCode
from katax_cli.cli.group import Group
from katax_cli.cli.invocation import Invocation, Target
from katax_cli.cli.options import lifetime

if TYPE_CHECKING:
    from katax_cli.services.cache import Cache

group = Group()

REDIS = Target(types=("redis",), preferred="cache", lacks="cache commands")

Key = Annotated[str, typer.Argument(help="Key, without the connection's prefix.")]
Raw = Annotated[bool, typer.Option("--raw", help="Bytes as they are, no JSON.")]
Ttl = Annotated[
    str | None,
    typer.Option(metavar="DURATION|NAME", help="Lifetime: 30s, 5m, or short|medium|long|session|week."),
]


@contextmanager
def cache(call: Invocation) -> Iterator[Cache]:
    """The cache on the chosen connection."""
    from katax_cli.services.cache import Cache

    with call.runtime() as runtime:
        yield Cache(runtime.redis(call.settings(runtime, REDIS)))


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
    keep_ttl: Annotated[bool, typer.Option("--keep-ttl", help="Keep the lifetime that the key has.")] = False,
    raw: Raw = False,
) -> ExitCode:
    """Store a value; exit 1 when --nx or --xx forbade it."""
    from katax_cli.services.cache import to_stored

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
    """Say whether a key exists; exit 1 when it does not."""
    with cache(call) as values:
        found = values.exists(key)
    call.out.scalar(found)
    return ExitCode.DONE if found else ExitCode.NO


@group.command("ttl")
def ttl_(call: Invocation, key: Key) -> ExitCode:
    """Print the seconds that a key has to live, -1 for ever; exit 1 when there is none."""
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


@group.command("clear")
def clear(
    call: Invocation,
    pattern: Annotated[str, typer.Argument(help="Redis glob, without the prefix: 'temp:*'.")],
) -> None:
    """Delete all keys that match a pattern."""
    from katax_cli.cli.confirm import Tier, confirm
    from katax_cli.services.cache import Cache

    with call.runtime(seconds=None) as runtime:
        settings = call.settings(runtime, REDIS)
        values = Cache(runtime.redis(settings))
        matching = values.count(pattern)
        call.diagnostics.note(f"{matching} keys match {pattern!r}")
        if call.only_planned(pattern=pattern, matching=matching, deleted=0):
            return
        confirm(
            call,
            runtime.profile,
            settings,
            Tier.DESTRUCTIVE,
            f"delete {matching} keys that match {pattern!r}",
        )
        deleted = values.clear(pattern)
    call.out.action({"pattern": pattern, "matching": matching, "deleted": deleted})
