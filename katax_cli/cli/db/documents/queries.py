"""The parts of `katax db find`, `aggregate` and `command` that ask and answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from katax_cli.cli.db.build import usage
from katax_cli.cli.db.documents.changes import interrupted_is_unknown
from katax_cli.cli.db.documents.output import write_documents
from katax_cli.cli.db.documents.words import DocumentWords, FilterWords, words_of
from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.journal import recorded
from katax_cli.cli.shell.scope import Scope
from katax_cli.core.roles import Tier
from katax_cli.core.text.text import RawJson
from katax_cli.services.databases.builder.filters import collection_name
from katax_cli.services.databases.document_effects import (
    changes_documents,
    destructive_reason,
    is_ordinary,
    redacted,
    written_by,
)


def run_find(
    chosen: Scope,
    collection: str,
    filter: FilterWords,
    *,
    projection: str | None,
    sort: str | None,
    limit: int | None,
    offset: int,
    canonical: bool,
) -> ExitCode:
    """Streams the documents that match."""
    call, database, words = chosen.call, chosen.documents, words_of(chosen, filter.param)
    with usage():
        collection_name(collection)
        found = database.find(
            collection,
            words.filter(filter),
            projection=words.projection(projection),
            sort=words.sort(sort),
            skip=offset,
            # One more, to know whether there are more.
            limit=0 if limit is None else limit + 1,
        )
        words.names.refuse_unused()
    if call.only_planned(connections=[database.name], executed=False):
        return ExitCode.DONE
    with found as batches:
        write_documents(call, batches, words.codec, canonical=canonical, limit=limit)
    return ExitCode.DONE


def run_aggregate(
    chosen: Scope, collection: str, pipeline: str, *, limit: int | None, canonical: bool
) -> ExitCode:
    """Streams the documents of a pipeline; of one that stores them, says where."""
    call, database, words = chosen.call, chosen.documents, words_of(chosen)
    with usage():
        collection_name(collection)
        expected = 'an array of stages such as [{"$match": {}}]'
        stages = words.json(pipeline, "the pipeline", (list,), expected)
        if not all(isinstance(stage, dict) for stage in stages):
            raise ValueError(f"the pipeline is JSON of another kind; expected {expected}")
    spec = {"aggregate": collection, "pipeline": stages}
    if call.only_planned(connections=[database.name], executed=False):
        return ExitCode.DONE
    written = written_by(stages)
    if written is None:
        with database.aggregate(collection, stages) as batches:
            write_documents(call, batches, words.codec, canonical=canonical, limit=limit)
        return ExitCode.DONE
    with _agreed(chosen, spec, ""), database.aggregate(collection, stages) as batches:
        for _ in batches:
            pass
    call.out.action({"stage": written[0], "collection": written[1]})
    return ExitCode.DONE


def run_command(chosen: Scope, document: str, *, database: str | None, canonical: bool) -> ExitCode:
    """Runs one command and prints its answer."""
    call, words = chosen.call, words_of(chosen)
    with usage():
        spec = words.document(document, "the command")
        if not spec:
            raise ValueError('an empty object is no command; expected one such as {"ping": 1}')
    if call.only_planned(connections=[chosen.one.name], executed=False):
        return ExitCode.DONE
    with _agreed(chosen, spec, f" of database {database!r}" if database else ""):
        answer = chosen.documents.command(spec, database=database)
    _print(chosen, words, answer, canonical=canonical)
    return ExitCode.DONE


def _print(chosen: Scope, words: DocumentWords, answer: Mapping[str, Any], *, canonical: bool) -> None:
    call = chosen.call
    if call.out.wants_text:
        call.out.action({name: words.codec.cell(value) for name, value in answer.items()})
    else:
        call.out.action(
            {name: RawJson(words.codec.write(value, canonical=canonical)) for name, value in answer.items()}
        )
    cursor = answer.get("cursor")
    if isinstance(cursor, Mapping) and cursor.get("id"):
        call.diagnostics.note("there are more documents; 'katax db find' and 'aggregate' print all of them")


@contextmanager
def _agreed(chosen: Scope, spec: Mapping[str, Any], where: str) -> Iterator[None]:
    """Asks before data is lost that is not named, before a change of the server or on production; records a write."""
    if chosen.documents.engine.only_reads(spec):
        yield
        return
    with recorded(chosen, chosen.one, f"{redacted(spec)}{where}"):
        # A read-only connection refuses by itself, and says which part of the command.
        if not chosen.one.read_only:
            _confirm(chosen, spec, where)
        with interrupted_is_unknown(chosen.call, next(iter(spec))):
            yield


def _confirm(chosen: Scope, spec: Mapping[str, Any], where: str) -> None:
    reason = destructive_reason(spec)
    if reason is not None:
        chosen.confirm(Tier.DESTRUCTIVE, f"{reason}{where}")
    elif not is_ordinary(spec):
        chosen.confirm(Tier.DISRUPTIVE, f"the command {next(iter(spec))!r}{where}")
    elif changes_documents(spec):
        chosen.confirm(Tier.DISRUPTIVE, f"{redacted(spec)}{where}, which cannot be rolled back,")
