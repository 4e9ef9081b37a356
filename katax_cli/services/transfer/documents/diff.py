"""The differences between two MongoDB databases: collections, indexes, counts, on request the documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from katax_cli.core.text.duration import FOREVER
from katax_cli.engines.documents import CollectionFacts, Document, MovesDocuments
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.transfer.diff import Difference, DiffPlan
from katax_cli.services.transfer.documents.collections import Collections

_RANGE, _RANGE_BYTES = 1_000, 2**23
"""Documents of one range of `_id`, and their bytes, of which the source's are held."""


def document_differences(
    source: MongoDatabase, target: MongoDatabase, plan: DiffPlan
) -> Iterator[Difference]:
    """Compares two databases, which others may change meanwhile. Raises KataxError for a name that neither has."""
    sides = Collections(source), Collections(target)
    found = [side.facts() for side in sides]
    if not plan.tables:
        yield from _migrations(sides, plan.migrations)
    skipped = plan.skipped | {plan.migrations}
    for name in plan.tables or sorted((found[0].keys() | found[1].keys()) - skipped):
        facts = [facts.get(name) for facts in found]
        if facts[0] is None and facts[1] is None:
            sides[0].existing(name)
        if facts[0] is None or facts[1] is None:
            there = [None if one is None else "there" for one in facts]
            yield Difference("table", name, None, there[0], there[1])
            continue
        yield from _definition(sides, facts[0], facts[1])
        if facts[0].kind == facts[1].kind == "collection":
            yield from _contents(sides, name, rows=plan.rows)


def _migrations(sides: Sequence[Collections], ledger: str) -> Iterator[Difference]:
    applied = [_applied(side, ledger) for side in sides]
    for version in sorted(applied[0].keys() | applied[1].keys()):
        source, target = applied[0].get(version), applied[1].get(version)
        if source != target:
            yield Difference("migration", ledger, version, source, target)


def _applied(side: Collections, ledger: str) -> Mapping[str, str]:
    """Version → state and checksum, by katax's ledger."""
    filter = {"version": {"$exists": True}, "checksum": {"$exists": True}, "state": {"$ne": "text"}}
    with side.database.find(ledger, filter, timeout=FOREVER) as batches:
        return {
            str(one["version"]): f"{one['state']} {str(one['checksum'])[:12]}"
            for batch in batches
            for one in batch
        }


def _definition(
    sides: Sequence[Collections], source: CollectionFacts, target: CollectionFacts
) -> Iterator[Difference]:
    shown = sides[0].moves.shown
    if source.kind != target.kind:
        yield Difference("table", source.name, None, source.kind, target.kind)
    yield from _unlike("option", source.name, source.options, target.options, shown)
    if source.kind == target.kind == "collection":
        indexes = [
            {fields: _one_or_all(found, shown) for fields, found in side.indexes(source.name).items()}
            for side in sides
        ]
        yield from _unlike("index", source.name, indexes[0], indexes[1], shown)


def _one_or_all(indexes: Sequence[Document], shown: Callable[[Any], str]) -> Any:
    """The options of one index, or those of all that have the same fields, in an order of their own."""
    return indexes[0] if len(indexes) == 1 else sorted(indexes, key=shown)


def _unlike(kind: str, table: str, source: Document, target: Document, shown: Any) -> Iterator[Difference]:
    for name in sorted(source.keys() | target.keys()):
        sides = [shown(side[name]) if name in side else None for side in (source, target)]
        if sides[0] != sides[1]:
            yield Difference(kind, table, name, sides[0], sides[1])


def _contents(sides: Sequence[Collections], name: str, *, rows: bool) -> Iterator[Difference]:
    counts = [side.count(name) for side in sides]
    if counts[0] != counts[1]:
        yield Difference("rows", name, None, counts[0], counts[1])
    if not rows:
        return
    moves = sides[0].moves
    behind: list[Any] = []
    while True:
        rest = moves.after(behind[0]) if behind else {}
        source, goes_on = _beginning(sides[0], name, rest)
        filter = rest
        if goes_on:
            last = moves.last_id(source[-1])
            filter = moves.between(behind[0], last) if behind else moves.up_to(last)
            behind = [last]
        with sides[1].read(name, filter, sorted=True) as batches:
            yield from _range(moves, name, source, (document.raw for batch in batches for document in batch))
        if not goes_on:
            return


def _beginning(side: Collections, name: str, filter: Document) -> tuple[list[bytes], bool]:
    """The documents of one range, and whether there may be others behind them."""
    found: list[bytes] = []
    size = 0
    with side.read(name, filter, sorted=True, limit=_RANGE) as batches:
        for batch in batches:
            for document in batch:
                found.append(document.raw)
                size += len(document.raw)
                if size >= _RANGE_BYTES:
                    return found, True
    return found, len(found) == _RANGE


def _range(
    moves: MovesDocuments, name: str, source: Sequence[bytes], target: Iterable[bytes]
) -> Iterator[Difference]:
    """Holds the documents of the source only: the target may have any number between two of them."""
    left = {moves.shown(moves.last_id(raw)): raw for raw in source}
    for there in target:
        key = moves.shown(moves.last_id(there))
        here = left.pop(key, None)
        if here != there:
            yield Difference("row", name, key, *_values(moves, here, there))
    for key, here in left.items():
        yield Difference("row", name, key, *_values(moves, here, None))


def _values(moves: MovesDocuments, here: bytes | None, there: bytes | None) -> list[Mapping[str, Any] | None]:
    """The fields of each that the other one has not; all of both where only their order differs."""
    sides = [None if raw is None else moves.fields(raw) for raw in (here, there)]
    if sides[0] is None or sides[1] is None or sides[0] == sides[1]:
        return sides
    return [
        {field: value for field, value in side.items() if field not in other or other[field] != value}
        for side, other in ((sides[0], sides[1]), (sides[1], sides[0]))
    ]
