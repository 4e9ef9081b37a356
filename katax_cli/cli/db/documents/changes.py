"""`katax db insert|update|delete` on a collection of MongoDB."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import typer

from katax_cli.cli.db.build import SHOWN_ROWS, given, usage
from katax_cli.cli.db.documents.output import fields_and_rows
from katax_cli.cli.db.documents.words import DocumentWords, FilterWords, words_of
from katax_cli.cli.db.review import refuse_unasked, show_rows
from katax_cli.cli.shell.confirm import agreed, agrees
from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.journal import recorded
from katax_cli.cli.shell.scope import Scope
from katax_cli.core.interrupts import if_interrupted
from katax_cli.core.roles import Tier
from katax_cli.core.text.text import RawJson, counted
from katax_cli.errors import Refused
from katax_cli.services.databases.builder.documents import change_of
from katax_cli.services.databases.builder.filters import collection_name, holds_for_all

Filter = Mapping[str, Any]
SHOWN_IDS = 20


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
    with recorded(chosen, chosen.one, f"insert {collection} {{documents}}") as record:
        chosen.one.refuse_read_only()
        with interrupted_is_unknown(call, "insert"):
            ids = database.insert(collection, documents)
        record.rows = len(ids)
    call.out.action({"rows_affected": len(ids), **_shown_ids(words, ids)})
    return ExitCode.DONE


def update(
    chosen: Scope,
    collection: str,
    pairs: Sequence[str],
    document: str | None,
    filter: FilterWords,
    *,
    one: bool,
    max_rows: int | None,
) -> ExitCode:
    """Changes the documents that match, or the first one."""
    words = words_of(chosen, filter.param)
    with usage():
        change = _change(words, pairs, document)

    def send(wanted: Filter) -> dict[str, int]:
        result = chosen.documents.update(collection, wanted, change, one=one)
        return {"rows_affected": result.matched, "modified": result.modified}

    return _DocumentChange(chosen, words, collection, "update", one, max_rows).run(filter, send)


def delete(
    chosen: Scope, collection: str, filter: FilterWords, *, one: bool, max_rows: int | None
) -> ExitCode:
    """Deletes the documents that match, or the first one."""

    def send(wanted: Filter) -> dict[str, int]:
        return {"rows_affected": chosen.documents.delete(collection, wanted, one=one)}

    words = words_of(chosen, filter.param)
    return _DocumentChange(chosen, words, collection, "delete", one, max_rows).run(filter, send)


@dataclass(frozen=True)
class _DocumentChange:
    """An update or a delete. Nothing takes it back, so whatever is asked is asked before it is sent."""

    chosen: Scope
    words: DocumentWords
    collection: str
    verb: str
    one: bool
    max_rows: int | None

    def run(self, filter: FilterWords, send: Callable[[Filter], dict[str, int]]) -> ExitCode:
        """Says how many documents it changed; under --dry-run, how many it would change."""
        chosen = self.chosen
        with usage():
            collection_name(self.collection)
            wanted = self.words.filter(filter)
            self.words.names.refuse_unused()
        if chosen.call.shared.dry_run:
            shown = RawJson(self.words.codec.write(wanted))
            rows = self._count(wanted)
            chosen.call.only_planned(connections=[chosen.one.name], filter=shown, rows=rows, executed=False)
            return ExitCode.DONE
        statement = f"{self.verb} {self.collection} {{{', '.join(filter.named())}}}"
        with recorded(chosen, chosen.one, statement) as record:
            chosen.one.refuse_read_only()
            self._agree(wanted)
            with interrupted_is_unknown(chosen.call, self.verb):
                facts = send(wanted)
            record.rows = facts["rows_affected"]
        chosen.call.out.action(facts)
        return ExitCode.DONE

    def _agree(self, wanted: Filter) -> None:
        """Returns when it may be sent. Raises Refused."""
        chosen, call = self.chosen, self.chosen.call
        refuse_unasked(chosen, chosen.one, max_rows=self.max_rows)
        if self.max_rows is not None and (rows := self._count(wanted)) > self.max_rows:
            raise Refused(
                f"{self.verb} on {chosen.one.name!r} would change {counted(rows, 'document')}, --max-rows-affected is "
                f"{self.max_rows}; nothing was sent"
            )
        if not self.one and holds_for_all(wanted):
            doing = "changing" if self.verb == "update" else "deleting"
            chosen.confirm(Tier.DESTRUCTIVE, f"{doing} every document of {self.collection!r}")
        elif (
            chosen.profile.role == "prod"
            and call.streams.interactive
            and not agreed(call, chosen.profile, chosen.one)
        ):
            self._ask(wanted)

    def _ask(self, wanted: Filter) -> None:
        chosen, most = self.chosen, 1 if self.one else SHOWN_ROWS
        with chosen.documents.find(self.collection, wanted, limit=most) as batches:
            found = [document for batch in batches for document in batch]
        show_rows(chosen.call, *fields_and_rows(found, self.words.codec.cell))
        what = f"{self.verb} on {chosen.profile.name}/{chosen.one.name}"
        if not agrees(
            chosen.call,
            f"{what} changes {counted(self._count(wanted), 'document')} and cannot be rolled back; send it?",
        ):
            raise Refused(f"{what}: not confirmed; nothing was sent")

    def _count(self, wanted: Filter) -> int:
        rows = self.chosen.documents.count(self.collection, wanted)
        return min(rows, 1) if self.one else rows


@contextmanager
def interrupted_is_unknown(call: Invocation, what: str) -> Iterator[None]:
    """Says of a write that a signal ended what is known of it: nothing, for MongoDB rolls nothing back."""
    said = f"interrupted: the {what} may or may not have been applied, check before repeating it"
    with if_interrupted(lambda: call.diagnostics.note(said)):
        yield


def _inserted(words: DocumentWords, pairs: Sequence[str], document: str | None) -> list[Mapping[str, Any]]:
    if document is None:
        if not pairs:
            raise typer.BadParameter("give COL=VALUE words or --json")
        dotted = next((pair for pair in pairs if "." in pair.partition("=")[0]), None)
        if dotted is not None:
            raise typer.BadParameter(f"{dotted!r} is a path; write --json for documents in documents")
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


def _shown_ids(words: DocumentWords, ids: Sequence[Any]) -> dict[str, object]:
    """All of them in JSON; for people, as long as they can be read."""
    if not words.call.out.wants_text:
        return {"ids": RawJson(words.codec.write(ids))}
    return {"ids": [words.codec.cell(id) for id in ids]} if len(ids) <= SHOWN_IDS else {}
