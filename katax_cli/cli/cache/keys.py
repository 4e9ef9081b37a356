"""The commands of `katax cache` on many keys at once: scan, clear, invalidate, flush, export, import."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated

import typer

from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.redis import REDIS, answer_each, cache, cell
from katax_cli.cli.shell.scope import scope

if TYPE_CHECKING:
    from katax_cli.services.cache.cache import Cache

group = Group()

PATTERN_HELP = "Redis glob, without the prefix: 'temp:*'."
AnyPattern = Annotated[str, typer.Argument(help=PATTERN_HELP)]


@group.command("scan")
def scan(
    call: Invocation,
    pattern: AnyPattern = "*",
    limit: Annotated[int | None, typer.Option("--limit", min=0, help="Maximum number of keys.")] = None,
) -> ExitCode:
    """List the matching keys, each once, in the order of SCAN."""

    def found(values: Cache) -> Iterator[list[tuple[object]]]:
        batches = values.keys().distinct(pattern)
        if limit is not None:
            batches = iter([list(islice(chain.from_iterable(batches), limit))])
        return ([(cell(key, text=call.out.wants_text),) for key in batch] for batch in batches)

    if call.is_glob:
        return answer_each(
            call, ("key",), lambda values: list(chain.from_iterable(found(values))), seconds=None
        )
    with cache(call, seconds=None) as values:
        call.out.rows(("key",), found(values))
    return ExitCode.DONE


@group.command("clear")
def clear(call: Invocation, pattern: Annotated[str, typer.Argument(help=PATTERN_HELP)]) -> ExitCode:
    """Delete all keys that match a pattern; shows first what they are."""
    from katax_cli.cli.cache.purge import clear_each, preview
    from katax_cli.cli.cache.views import survey_facts
    from katax_cli.cli.shell.progress import Progress
    from katax_cli.core.roles import Tier
    from katax_cli.services.cache.cache import Cache

    if call.is_glob:
        return clear_each(call, pattern)
    with scope(call, REDIS, seconds=None) as chosen:
        values = Cache(chosen.redis)
        survey = preview(chosen, values, pattern)
        if call.only_planned(pattern=pattern, **survey_facts(survey), deleted=0):
            return ExitCode.DONE
        chosen.confirm(Tier.DESTRUCTIVE, f"delete {survey.count} keys that match {pattern!r}")
        total = None if survey.at_least else survey.matching
        with Progress(call.diagnostics, "deleted", "keys", total, unsure=True) as progress:
            deleted = values.clear(pattern, on_batch=progress)
    call.out.action({"pattern": pattern, **survey_facts(survey), "deleted": deleted})
    return ExitCode.DONE


@group.command("invalidate")
def invalidate(
    call: Invocation,
    resource: Annotated[str, typer.Argument(help="As in cache:RESOURCE:*.")],
    id: Annotated[str | None, typer.Argument(help="As in cache:RESOURCE:ID:*.")] = None,
) -> ExitCode:
    """Delete the cached entries of a resource: cache:RESOURCE:*, or cache:RESOURCE:ID:*."""
    from katax_cli.cli.shell.progress import Progress
    from katax_cli.services.cache.cache import invalidation_pattern

    pattern = invalidation_pattern(resource, id)
    if call.only_planned(pattern=pattern, deleted=0):
        return ExitCode.DONE
    if call.is_glob:
        header = ("pattern", "deleted")
        return answer_each(call, header, lambda values: [(pattern, values.clear(pattern))], seconds=None)
    progress = Progress(call.diagnostics, "deleted", "keys", None, unsure=True)
    with cache(call, seconds=None) as values, progress:
        deleted = values.clear(pattern, on_batch=progress)
    call.out.action({"pattern": pattern, "deleted": deleted})
    return ExitCode.DONE


@group.command("flush")
def flush(call: Invocation) -> None:
    """Delete every key under the connection's prefix; without a prefix, the whole database."""
    from katax_cli.cli.shell.progress import Progress
    from katax_cli.core.roles import Tier
    from katax_cli.services.cache.cache import Cache

    with scope(call, REDIS, seconds=None) as chosen:
        values, prefix = Cache(chosen.redis), chosen.one.prefix
        if prefix:
            survey = values.survey("*")
            matching, what = survey.matching, f"delete {survey.count} keys under {prefix!r}"
        else:
            matching = values.keys().size()
            what = f"flush a database of {matching} keys"
        if call.only_planned(matching=matching, deleted=0):
            return
        call.diagnostics.note(what)
        chosen.confirm(Tier.DESTRUCTIVE, what)
        with Progress(call.diagnostics, "deleted", "keys", matching, unsure=True) as progress:
            deleted = values.clear("*", on_batch=progress) if prefix else values.flush()
    call.out.action({"matching": matching, "deleted": matching if deleted is None else deleted})


@group.command("export")
def export(call: Invocation, pattern: AnyPattern = "*") -> None:
    """Write keys of all types with their lifetimes, one JSON object a line, for 'cache import'."""
    from katax_cli.cli.shell.progress import Progress
    from katax_cli.services.cache import copy

    exported = 0
    with (
        cache(call, seconds=None) as values,
        Progress(call.diagnostics, "exported", "keys", None, bar=call.out.width is None) as progress,
    ):
        progress.about(copy.estimate(values, pattern))
        for lines in copy.export(values, pattern):
            call.out.raw("".join(f"{line}\n" for line in lines).encode())
            exported += len(lines)
            progress(exported)
    call.diagnostics.note(f"exported {exported} keys")


@group.command("import")
def import_(
    call: Invocation,
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="Output of 'cache export'.")],
    replace: Annotated[bool, typer.Option("--replace", help="Replace keys that exist.")] = False,
) -> None:
    """Restore exported keys with their lifetimes; skips keys that exist."""
    from katax_cli.cli.cache.views import lines_of, replacing
    from katax_cli.cli.shell.progress import Progress
    from katax_cli.core.roles import Tier
    from katax_cli.services.cache import copy
    from katax_cli.services.cache.cache import Cache

    with call.input_file(file) as lines, scope(call, REDIS, seconds=None) as chosen:
        database = chosen.redis
        if call.shared.dry_run:
            call.only_planned(lines=sum(1 for _ in lines), imported=0)
            return
        count = lines_of(lines)
        if replace:
            chosen.confirm(Tier.DESTRUCTIVE, replacing(count))
        dealt_with = "imported" if replace else "imported or skipped"
        with Progress(call.diagnostics, dealt_with, "keys", count, unsure=True) as progress:
            done = copy.load(Cache(database), lines, replace=replace, on_batch=progress)
    call.out.action({"imported": done.imported, "skipped": done.skipped})
