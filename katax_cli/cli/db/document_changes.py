"""`katax db insert|update|delete` on a collection of MongoDB."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from katax_cli.cli.db.build import given, usage
from katax_cli.cli.db.document_words import DocumentWords, FilterWords, words_of
from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.scope import Scope
from katax_cli.core.roles import Tier
from katax_cli.core.text.text import RawJson
from katax_cli.services.databases.builder.documents import change_of
from katax_cli.services.databases.builder.filters import collection_name, holds_for_all

if TYPE_CHECKING:
    from katax_cli.services.databases.mongodb import MongoDatabase


def insert(
    chosen: Scope, collection: str, pairs: Sequence[str], document: str | None, param: Sequence[str]
) -> ExitCode:
    """Inserts one document of words, or those of a JSON document, in their order."""
    call, database, words = chosen.call, chosen.documents, words_of(chosen, param)
    with usage():
        collection_name(collection)
        documents = _inserted(words, pairs, document)
        words.names.refuse_unused()
    if call.only_planned(connection=database.name, rows=len(documents), executed=False):
        return ExitCode.DONE
    chosen.one.refuse_read_only()
    ids = database.insert(collection, documents)
    shown = _shown(call, words)
    call.out.action({"rows_affected": len(ids), "ids": [shown(id) for id in ids]})
    return ExitCode.DONE


def update(
    chosen: Scope,
    collection: str,
    pairs: Sequence[str],
    document: str | None,
    filter: FilterWords,
    *,
    one: bool,
) -> ExitCode:
    """Changes the documents that match, or the first one; after confirmation where that is all of them."""
    words = words_of(chosen, filter.param)
    with usage():
        change = _change(words, pairs, document)

    def work(database: MongoDatabase, wanted: Mapping[str, Any]) -> Mapping[str, object]:
        result = database.update(collection, wanted, change, one=one)
        return {"rows_affected": result.matched, "modified": result.modified}

    return _change_matching(chosen, words, collection, filter, work, one=one, doing="changing")


def delete(chosen: Scope, collection: str, filter: FilterWords, *, one: bool) -> ExitCode:
    """Deletes the documents that match, or the first one; after confirmation where that is all of them."""

    def work(database: MongoDatabase, wanted: Mapping[str, Any]) -> Mapping[str, object]:
        return {"rows_affected": database.delete(collection, wanted, one=one)}

    words = words_of(chosen, filter.param)
    return _change_matching(chosen, words, collection, filter, work, one=one, doing="deleting")


def _change_matching(
    chosen: Scope,
    words: DocumentWords,
    collection: str,
    filter: FilterWords,
    work: Callable[[MongoDatabase, Mapping[str, Any]], Mapping[str, object]],
    *,
    one: bool,
    doing: str,
) -> ExitCode:
    call, database = chosen.call, chosen.documents
    with usage():
        collection_name(collection)
        wanted = words.filter(filter)
        words.names.refuse_unused()
    if call.shared.dry_run:
        matching = database.count(collection, wanted)
        rows = min(matching, 1) if one else matching
        filter_text = RawJson(words.codec.write(wanted))
        call.only_planned(connections=[database.name], filter=filter_text, rows=rows, executed=False)
        return ExitCode.DONE
    chosen.one.refuse_read_only()
    if not one and holds_for_all(wanted):
        chosen.confirm(Tier.DESTRUCTIVE, f"{doing} every document of {collection!r}")
    call.out.action(work(database, wanted))
    return ExitCode.DONE


def _inserted(words: DocumentWords, pairs: Sequence[str], document: str | None) -> list[Mapping[str, Any]]:
    if document is None:
        dotted = next((pair for pair in pairs if "." in pair.partition("=")[0]), None)
        if dotted is not None:
            raise typer.BadParameter(f"{dotted!r} is a path; write --json for documents in documents")
        if not pairs:
            raise typer.BadParameter("give COL=VALUE words or --json")
        return [words.fields(given(pairs))]
    _refuse_both(pairs)
    expected = "an object, or an array of objects"
    value = words.json(document, "--json", (dict, list), expected)
    documents = value if isinstance(value, list) else [value]
    if not documents or not all(isinstance(one, dict) for one in documents):
        raise typer.BadParameter(f"--json is JSON of another kind; expected {expected}")
    return documents


def _change(words: DocumentWords, pairs: Sequence[str], document: str | None) -> Any:
    """Fields to set, operators, or a pipeline of stages."""
    if document is None:
        return change_of(words.fields(given(pairs)))
    _refuse_both(pairs)
    expected = "an object of fields or operators, or a pipeline"
    value = words.json(document, "--json", (dict, list), expected)
    if isinstance(value, dict):
        return change_of(value)
    if not value or not all(isinstance(stage, dict) for stage in value):
        raise typer.BadParameter(f"--json is JSON of another kind; expected {expected}")
    return value


def _refuse_both(pairs: Sequence[str]) -> None:
    if pairs:
        raise typer.BadParameter("give COL=VALUE words or --json, one of the two")


def _shown(call: Invocation, words: DocumentWords) -> Callable[[Any], object]:
    """A value for JSON, or for people."""
    if call.out.wants_text:
        return words.codec.cell  # type: ignore[no-any-return]
    return lambda value: RawJson(words.codec.write(value))
