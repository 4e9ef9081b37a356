"""The parts of `katax db copy` and `diff` that are about two connections, reports and progress."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from katax_cli.cli.shell.confirm import refuse_unnamed
from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.journal import recorded
from katax_cli.cli.shell.progress import Progress
from katax_cli.cli.shell.scope import Scope
from katax_cli.cli.shell.target import TABLES
from katax_cli.errors import ConfigError, WrongEngine
from katax_cli.services.transfer.copy import OWN_TABLES, CopiedTable, Copy, CopyPlan, TableReport
from katax_cli.services.transfer.diff import Difference, DiffPlan, differences
from katax_cli.services.transfer.silence import SilenceWatch

if TYPE_CHECKING:
    from katax_cli.core.settings import ConnectionSettings
    from katax_cli.services.transfer.documents.copy import CollectionReport

MAPPING_HEADER = ("table", "column", "source_type", "target_type", "note")
COLLECTIONS_HEADER = ("collection", "documents", "note")
_IS_IN = "was in already, not copied again"
COPIED_HEADER = ("table", "source_rows", "target_rows", "source_checksum", "target_checksum", "same")


class Pair(NamedTuple):
    """The source, whose server is told to refuse writes, and the target, which may be of another profile."""

    source: Any
    target: Any
    scope: Scope

    @property
    def of_documents(self) -> bool:
        return bool(self.source.engine.name == "mongodb")


@contextmanager
def pair(call: Invocation, names: tuple[str, str], *, writes: bool) -> Iterator[Pair]:
    """Two connections, each NAME of the profile or PROFILE/NAME. Raises ConfigError for one that stands twice."""
    if call.connections:
        raise typer.BadParameter("the connections are named as SRC and DST, not by -c")
    with ExitStack() as stack:
        scopes = [stack.enter_context(_side(call, name)) for name in names]
        source, destination = (scope.one for scope in scopes)
        if scopes[0].profile.name == scopes[1].profile.name and source.name == destination.name:
            raise ConfigError(f"{source.name!r} stands on both sides; name another connection")
        _refuse_unlike(call, source, destination)
        settings = destination if writes else replace(destination, read_only=True)
        if writes:
            refuse_unnamed(call, scopes[1].profile)
        reading = scopes[0].runtime.open(replace(source, read_only=True))
        yield Pair(reading, scopes[1].runtime.open(settings), scopes[1])


def _refuse_unlike(call: Invocation, source: ConnectionSettings, target: ConnectionSettings) -> None:
    sides = [f"{side.name!r} ({side.type})" for side in (source, target)]
    if (source.type == "mongodb") != (target.type == "mongodb"):
        raise ConfigError(
            f"{call.command!r} does not work between {sides[0]} and {sides[1]}: documents are no rows, and which "
            "fields would be columns is yours to say; 'katax db export' writes either side to jsonl"
        )


@contextmanager
def _side(call: Invocation, name: str) -> Iterator[Scope]:
    profile, slash, connection = name.rpartition("/")
    with call.runtime(seconds=None, profile=profile or None) as runtime:
        settings = runtime.profile.connection(connection if slash else name)
        if settings.type not in TABLES.types:
            raise WrongEngine(settings.type, TABLES.lacks, wanted_by=call.command, works_on=TABLES.types)
        yield Scope(call, runtime, (settings,))


def run_copy(call: Invocation, names: tuple[str, str], plan: CopyPlan) -> ExitCode:
    """Reports the types, copies, and prints a row for each table; 1 when the rows of both sides are not the same."""
    with pair(call, names, writes=True) as sides:
        sides.target.settings.refuse_read_only()
        ledger = sides.scope.profile.migrate.table
        plan = replace(plan, skipped=plan.skipped | {ledger, f"{ledger}_lock"})
        copied = _copy_documents(call, sides, plan) if sides.of_documents else _copy_rows(call, sides, plan)
    if not call.shared.dry_run:
        call.out.rows(COPIED_HEADER, [[copied_row(table) for table in copied]])
    return ExitCode.DONE if all(table.same for table in copied) else ExitCode.NO


def _copy_rows(call: Invocation, sides: Pair, plan: CopyPlan) -> list[CopiedTable]:
    def report(tables: Sequence[TableReport]) -> bool:
        if call.shared.dry_run:
            call.out.rows(MAPPING_HEADER, [mapping_rows(tables)])
            return False
        for line in report_lines(tables):
            call.diagnostics.note(line)
        progress.about(_total(one.table.table.rows_estimate for one in tables))
        return True

    with recorded(sides.scope, sides.target.settings, f"copy from {sides.source.name}") as record:
        further = "; --not-consistent goes on behind them, but a table without a key begins anew"
        with Progress(call.diagnostics, "copied", "rows", None, further=further) as progress:
            watch = SilenceWatch(sides.source, sides.target, progress=progress, lasts=progress.what_lasts)
            with watch as told:
                work = Copy(sides.source, sides.target, plan, told)
                copied = work.run(report)
        record.rows = work.copied
    return copied


def _copy_documents(call: Invocation, sides: Pair, plan: CopyPlan) -> list[CopiedTable]:
    from katax_cli.services.transfer.documents.copy import DocumentCopy

    def report(collections: Sequence[CollectionReport], left_out: Sequence[str]) -> bool:
        if call.shared.dry_run:
            rows = [(one.facts.name, one.rows_estimate, collection_note(one)) for one in collections]
            call.out.rows(COLLECTIONS_HEADER, [rows])
            return False
        for one in collections:
            call.diagnostics.note(f"{one.facts.name}: {collection_note(one)}")
        if left_out:
            call.diagnostics.note(f"left out: {', '.join(left_out)}")
        progress.about(_total(one.rows_estimate for one in collections))
        return True

    with recorded(sides.scope, sides.target.settings, f"copy from {sides.source.name}") as record:
        further = "; --not-consistent goes on behind them"
        with Progress(call.diagnostics, "copied", "documents", None, further=further) as progress:
            work = DocumentCopy(sides.source, sides.target, plan, progress)
            copied = work.run(report)
        record.rows = work.copied
    return copied


def collection_note(report: CollectionReport) -> str:
    """A sentence on the fate of a collection: its own options, and the indexes that it does not take along."""
    if report.is_in:
        return _IS_IN
    if report.is_there:
        return "is there"
    options = f" with {', '.join(report.facts.options)}" if report.facts.options else ""
    behind = f"; left behind: the indexes {' '.join(report.indexes)}" if report.indexes else ""
    return f"is created{options}{behind}"


def _total(estimates: Iterable[int | None]) -> int | None:
    """The sum; None where one of them is not known."""
    known = list(estimates)
    return None if None in known else sum(filter(None, known))


def mapping_rows(tables: Sequence[TableReport]) -> list[tuple[object, ...]]:
    return [
        (one.table.table.name, column.name, column.source_type, column.target_type, column.note)
        for one in tables
        for column in one.columns
    ]


def report_lines(tables: Sequence[TableReport]) -> Iterator[str]:
    """Notes for a person before the first row: where types differ, what is left out."""
    for one in tables:
        name = one.table.table.name
        if one.is_in:
            yield f"{name}: {_IS_IN}"
            continue
        yield f"{name}: {'is there' if one.creation is None else 'is created, with its primary key only'}"
        for column in one.columns:
            if column.source_type != column.target_type or column.note:
                note = f" ({column.note})" if column.note else ""
                yield f"  {column.name}: {column.source_type} → {column.target_type}{note}"
        if one.table.generated:
            yield f"  left out, the server computes them: {', '.join(one.table.generated)}"


def copied_row(table: CopiedTable) -> tuple[object, ...]:
    return (
        table.table,
        table.source_rows,
        table.target_rows,
        table.source_checksum,
        table.target_checksum,
        table.same,
    )


def run_diff(call: Invocation, names: tuple[str, str], plan: DiffPlan) -> ExitCode:
    """Prints a row for each difference as it is found; 1 when there is one."""
    with pair(call, names, writes=False) as sides:
        migrations = sides.scope.profile.migrate.table
        plan = replace(plan, skipped=OWN_TABLES | {f"{migrations}_lock"}, migrations=migrations)
        if sides.of_documents:
            from katax_cli.services.transfer.documents.diff import document_differences

            found = document_differences(sides.source, sides.target, plan)
        else:
            found = differences(sides.source, sides.target, plan)
        watched = () if sides.of_documents else (sides.source, sides.target)
        with SilenceWatch(*watched, progress=lambda _: None, lasts=lambda: "nothing was changed"):
            count = call.out.rows(Difference._fields, ([difference] for difference in found))
    if not count:
        call.diagnostics.note("no differences")
    return ExitCode.NO if count else ExitCode.DONE
