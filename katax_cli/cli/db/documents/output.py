"""Documents as they are printed: as Extended JSON, or their fields as columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.output import OF_A_SERVER
from katax_cli.errors import KataxError

Batches = Iterable[Sequence[Mapping[str, Any]]]


def write_documents(
    call: Invocation, batches: Batches, codec: Any, *, canonical: bool, limit: int | None
) -> None:
    """Prints documents as they arrive: as Extended JSON, or their fields as columns."""
    cut = _Cut(batches, limit)
    if call.out.format in ("json", "jsonl"):
        names = call.out.columns
        call.out.documents(
            [codec.write(_picked(one, names), canonical=canonical) for one in batch] for batch in cut
        )
    else:
        columns = _FieldColumns(call, iter(cut), codec.cell)
        call.out.rows(columns.names, columns, OF_A_SERVER)
        columns.say_what_is_left_out()
    if cut.more:
        call.diagnostics.note(f"there are more documents than --limit {limit}")


@dataclass
class _Cut:
    """Batches up to a number of documents; `more` says whether there were others."""

    batches: Batches
    limit: int | None
    more: bool = False

    def __iter__(self) -> Iterator[Sequence[Mapping[str, Any]]]:
        left = self.limit
        for batch in self.batches:
            if left is not None and len(batch) > left:
                self.more = True
                yield batch[:left]
                return
            yield batch
            left = None if left is None else left - len(batch)


def fields_and_rows(
    documents: Sequence[Mapping[str, Any]], cell: Callable[[Any], Any]
) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """The fields of documents as columns, and a row for each."""
    names = tuple(dict.fromkeys(name for document in documents for name in document))
    return names, [tuple(cell(document.get(name)) for name in names) for document in documents]


@dataclass
class _FieldColumns:
    """Documents as rows. The columns are those that were asked for, else the fields of the first batch.

    What later documents have besides is left out for people, with a note; a file of it would be wrong: KataxError.
    """

    call: Invocation
    batches: Iterator[Sequence[Mapping[str, Any]]]
    cell: Callable[[Any], Any]
    left_out: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._first = next((batch for batch in self.batches if batch), [])
        asked = self.call.out.columns
        self.names = tuple(dict.fromkeys(asked or [name for one in self._first for name in one])) or ("_id",)
        self._known = None if asked else frozenset(self.names)

    def __iter__(self) -> Iterator[list[tuple[object, ...]]]:
        yield self._rows(self._first)
        for batch in self.batches:
            self._look_for_more(batch)
            yield self._rows(batch)

    def _rows(self, batch: Sequence[Mapping[str, Any]]) -> list[tuple[object, ...]]:
        return [tuple(self.cell(_value(one, name)) for name in self.names) for one in batch]

    def _look_for_more(self, batch: Sequence[Mapping[str, Any]]) -> None:
        if self._known is None:
            return
        self.left_out.update((name, None) for one in batch for name in one if name not in self._known)
        if self.left_out and self.call.out.format in ("csv", "tsv"):
            raise KataxError(
                f"a later document has the field {next(iter(self.left_out))!r}, which is no column of the header; "
                "name the columns with --columns, or use -f jsonl"
            )

    def say_what_is_left_out(self) -> None:
        if self.left_out:
            names = ", ".join(list(self.left_out)[:5])
            self.call.diagnostics.note(
                f"later documents have other fields, which are left out: {names}; "
                "name them with --columns, or use -f json"
            )


def _picked(document: Mapping[str, Any], names: Sequence[str]) -> Mapping[str, Any]:
    return {name: _value(document, name) for name in names} if names else document


def _value(document: Mapping[str, Any], name: str) -> Any:
    """The field, else what is at the path."""
    if name in document:
        return document[name]
    value: Any = document
    for step in name.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value
