"""The commands of `katax cache` that look at the server or run something: stats, doctor, remember, acl, cmd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.options import lifetime
from katax_cli.cli.shell.output import Manner
from katax_cli.cli.shell.redis import REDIS, answer_each, cache, harm_of_command
from katax_cli.cli.shell.scope import scope
from katax_cli.core.text.text import to_bytes

if TYPE_CHECKING:
    from katax_cli.services.cache.cache import Cache

group = Group()


@group.command("stats")
def stats(call: Invocation) -> ExitCode:
    """Show the server's counters: uptime, clients, memory, commands, hit rate."""
    if not call.is_glob:
        with cache(call) as values:
            call.out.action(values.stats())
        return ExitCode.DONE
    names: set[tuple[str, ...]] = set()

    def work(values: Cache) -> list[tuple[object, ...]]:
        counters = values.stats()
        names.add(tuple(counters))
        return [tuple(counters.values())]

    return answer_each(call, lambda: next(iter(names), ()), work)


@group.command("doctor")
def doctor(
    call: Invocation,
    sample: Annotated[int, typer.Option("--sample", min=1, help="Number of keys in the sample.")] = 10_000,
) -> ExitCode:
    """Look for keys without ttl, ttl cliffs, big keys, eviction and fragmentation in a sample of the keys."""
    from katax_cli.cli.cache.views import FINDING_HEADER
    from katax_cli.services.cache.doctor import examine

    looks = []

    def work(values: Cache) -> list[tuple[object, ...]]:
        findings, looked = examine(values, sample=sample)
        where = f"{values.redis.name}: " if call.is_glob else ""
        looks.append(f"{where}{len(findings)} findings in {looked} keys")
        return [(finding.check, finding.subject, finding.message) for finding in findings]

    code = answer_each(call, FINDING_HEADER, work, manner=Manner(below="message"))
    for look in sorted(looks):
        call.diagnostics.note(look)
    return code


@group.command("remember")
def remember(
    call: Invocation,
    key: Annotated[str, typer.Argument(help="Key, without the connection's prefix.")],
    command: Annotated[list[str], typer.Argument(metavar="-- CMD...", help="Prints the value.")],
    ttl: Annotated[str, typer.Option(metavar="DURATION|NAME", help="Lifetime of the value.")],
    beta: Annotated[
        float, typer.Option("--beta", help="Early refresh: 0 never, 1 usual, more earlier.")
    ] = 1.0,
    stale_if_error: Annotated[
        bool, typer.Option("--stale-if-error", help="Print the last value when CMD fails.")
    ] = False,
) -> int:
    """Print a cached value, or compute it by CMD: once for all concurrent callers."""
    from katax_cli.services.cache.remember import Remembering
    from katax_cli.services.processes.programs import or_status, output_of
    from katax_cli.services.redis.values import to_stored

    if call.only_planned(key=key, command=command):
        return ExitCode.DONE
    with cache(call, seconds=None) as values:
        wanted = Remembering(values, key, ttl=lifetime(ttl) or 0.0, beta=beta, stale_if_error=stale_if_error)
        data, status = or_status(
            lambda: wanted.get(lambda: to_stored(output_of(command))), call.diagnostics.note
        )
    if data is not None:
        call.out.stored(data)
    return status


@group.command("acl")
def acl(
    call: Invocation,
    groups: Annotated[list[str] | None, typer.Argument(metavar="[GROUP]...", help="Default: all.")] = None,
    user: Annotated[str, typer.Option("--user", help="Name of the user.")] = "katax",
    read_only: Annotated[bool, typer.Option("--read-only", help="For a read-only connection.")] = False,
) -> None:
    """Print the least ACL rule for the commands cache, session, limit, lock, pubsub and record; no round trip."""
    from katax_cli.services.redis.acl import GROUPS, least_rule

    with scope(call, REDIS) as chosen:
        settings = chosen.redis.settings
        cluster = settings.topology == "cluster"
        only_reads = read_only or settings.read_only
        rule = least_rule(user, settings.prefix, groups or GROUPS, read_only=only_reads, cluster=cluster)
    call.out.scalar(rule)


@group.command("cmd")
def cmd(
    call: Invocation,
    words: Annotated[list[str], typer.Argument(metavar="ARG...", help="Keys with their prefix.")],
) -> ExitCode:
    """Run any Redis command and print its reply; exit 1 for nil."""
    from katax_cli.cli.cache.views import reply_value

    if call.only_planned(command=words):
        return ExitCode.DONE
    with scope(call, REDIS) as chosen:
        command = [to_bytes(word) for word in words]
        reads = chosen.redis.engine.only_reads(command)
        if (harm := harm_of_command(words, reads=reads)) is not None:
            chosen.confirm(*harm)
        reply = chosen.redis.redis(*command)
    if reply is None:
        return ExitCode.NO
    call.out.scalar(reply_value(reply, text=call.out.format not in ("json", "jsonl")))
    return ExitCode.DONE
