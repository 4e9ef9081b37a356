"""Collections of one connection into another: documents in the order of their `_id`, counted at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b, sha256
from typing import Any
from uuid import uuid4

from katax_cli.core.text.duration import FOREVER
from katax_cli.engines.documents import CollectionFacts, Document, OutgoingDocument
from katax_cli.errors import ConfigError, KataxError, LockHeld, Refused
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.transfer.checkpoint import now_text
from katax_cli.services.transfer.copy import CopiedTable, CopyPlan
from katax_cli.services.transfer.copy_ledger import COPIES_TABLE
from katax_cli.services.transfer.documents.collections import Collections


@dataclass(frozen=True, slots=True)
class CollectionReport:
    """A collection before its first document: whether the target has it, about how many documents it has, the
    indexes that stay behind, and whether an earlier copy brought all of it."""

    facts: CollectionFacts
    is_there: bool
    rows_estimate: int | None
    indexes: tuple[str, ...] = ()
    is_in: bool = False


@dataclass(frozen=True, slots=True)
class _Position:
    """The document of the ledger: `last` holds the last `_id` in a list, empty before the first; running or done."""

    copied: int = 0
    last: tuple[Any, ...] = ()
    state: str = "running"


@dataclass(slots=True)
class DocumentCopy:
    """One copy. The source's connection is to be read-only. `progress` hears how many documents are in."""

    source: MongoDatabase
    target: MongoDatabase
    plan: CopyPlan
    progress: Callable[[int], object] = lambda _: None
    copied: int = 0

    def run(self, report: Callable[[Sequence[CollectionReport], Sequence[str]], bool]) -> list[CopiedTable]:
        """Copies, once `report` has heard of the collections, and of the names that are left out, and returns True.

        Each document as it is when it is read: MongoDB gives no snapshot of that length. Raises Refused for a
        collection of the target that holds other documents, and for a copy that stopped unless it may go on;
        KataxError for a document that the target refuses.
        """
        self.target.settings.refuse_read_only()
        here, there = Collections(self.source), Collections(self.target, primary=True)
        reports, left_out = self._reports(here, there)
        ledgers = [_Ledger(there, self.source, one.facts.name) for one in reports]
        positions = [self._position(there, one, ledger) for one, ledger in zip(reports, ledgers, strict=True)]
        reports = [
            replace(one, is_in=position is not None and position.state == "done")
            for one, position in zip(reports, positions, strict=True)
        ]
        if not report(reports, left_out):
            return []
        for one, ledger, position in zip(reports, ledgers, positions, strict=True):
            if position is None:
                position = ledger.begin()
                if not one.is_there and one.facts.options:
                    there.create(one.facts.name, one.facts.options)
            if position.state != "done":
                self._copy(here, there, one.facts.name, ledger, position)
        return [self._counted(here, there, one.facts.name) for one in reports]

    def _reports(self, here: Collections, there: Collections) -> tuple[list[CollectionReport], Sequence[str]]:
        found, existing = here.facts(), there.facts()
        estimates = {table.name: table.rows_estimate for table in self.source.tables(timeout=FOREVER)}
        names = list(dict.fromkeys(self.plan.tables))
        for name in names:
            facts = here.existing(name)
            if facts.kind != "collection":
                raise ConfigError(f"{name!r} is a {facts.kind}; only collections are copied, by their _id")
        chosen = names or [
            name
            for name in sorted(found)
            if found[name].kind == "collection" and name not in self.plan.skipped
        ]
        for name in chosen:
            if name in existing and existing[name].kind != "collection":
                raise ConfigError(
                    f"{name!r} of {self.target.name!r} is a {existing[name].kind}; it takes no copy"
                )
        reports = [
            CollectionReport(
                found[name],
                name in existing,
                estimates.get(name),
                tuple(fields for fields, all in here.indexes(name).items() for _ in all)[1:],
            )
            for name in chosen
        ]
        left_out = (
            [] if names else [f"{one.kind} {one.name}" for one in found.values() if one.kind != "collection"]
        )
        return reports, sorted(left_out)

    def _position(self, there: Collections, one: CollectionReport, ledger: _Ledger) -> _Position | None:
        """Where the copy of a collection goes on; None: from its beginning."""
        name, found = one.facts.name, ledger.find()
        holds = one.is_there and there.holds_any(name)
        if not holds:
            return None
        if found is None:
            raise Refused(
                f"{name!r} of {self.target.name!r} holds documents already; empty it, or name other collections"
            )
        if found.state == "running" and not self.plan.not_consistent:
            raise Refused(
                f"the copy of {name!r} stopped behind {found.copied:,} documents, and what changed before them since "
                "would be missed; go on with --not-consistent, or empty the collection and copy it anew"
            )
        return found

    def _copy(
        self, here: Collections, there: Collections, name: str, ledger: _Ledger, position: _Position
    ) -> None:
        wanted: Document = {} if not position.last else here.moves.after(position.last[0])
        with here.read(name, wanted, sorted=True) as batches:
            for batch in batches:
                if not batch:
                    continue
                refused = there.write(name, [OutgoingDocument(document.raw) for document in batch])
                if refused:
                    place, reason = refused[0]
                    shown = here.moves.shown(here.moves.last_id(batch[place].raw))
                    where = f"collection {name!r}, the document {shown}"
                    raise KataxError(f"{where}: {reason}; those before its batch are in")
                last = here.moves.last_id(batch[-1].raw)
                position = ledger.advance(_Position(position.copied + len(batch), (last,)))
                self.copied += len(batch)
                self.progress(self.copied)
        ledger.advance(replace(position, state="done"))

    def _counted(self, here: Collections, there: Collections, name: str) -> CopiedTable:
        counts = [side.count(name) for side in (here, there)]
        sums = [_checksum(side, name) if self.plan.checksums else None for side in (here, there)]
        return CopiedTable(name, counts[0], counts[1], sums[0], sums[1])


class _Ledger:
    """How far the copy of one collection came: one document of the target, saved behind each batch."""

    def __init__(self, there: Collections, source: MongoDatabase, name: str) -> None:
        settings = source.settings
        place = f"{settings.type} {settings.address} {settings.database}"
        self._there = there
        self._name = name
        self._id = sha256(f"{place}\n{name}".encode()).hexdigest()
        self._run = uuid4().hex
        self._taken = False

    def find(self) -> _Position | None:
        """How far the collection came; None when it was never begun."""
        found = self._there.fetch(COPIES_TABLE, {"_id": self._id})
        if found is None:
            return None
        return _Position(found["copied"], tuple(found["last"]), found["state"])

    def begin(self) -> _Position:
        """Makes the document, or sets it back to the beginning."""
        self._taken = True
        fields = self._fields(_Position())
        if not self._there.start(COPIES_TABLE, {"_id": self._id, "target": self._name, **fields}):
            self._there.save(COPIES_TABLE, {"_id": self._id}, {"$set": fields})
        return _Position()

    def advance(self, now: _Position) -> _Position:
        """Behind a batch; takes the document over with the first one. Raises LockHeld when another run took it over."""
        mine = {"_id": self._id, "run": self._run} if self._taken else {"_id": self._id, "state": "running"}
        if not self._there.save(COPIES_TABLE, mine, {"$set": self._fields(now)}):
            raise LockHeld(f"copy into {self._name}", holder="another run of the same copy")
        self._taken = True
        return now

    def _fields(self, now: _Position) -> Mapping[str, Any]:
        return {
            "copied": now.copied,
            "last": list(now.last),
            "state": now.state,
            "run": self._run,
            "updated_at": now_text(),
        }


def _checksum(side: Collections, name: str) -> str:
    """A sum over all documents, whatever their order."""
    total = 0
    for document in _documents(side, name):
        total += int.from_bytes(blake2b(document.raw, digest_size=8).digest(), "big")
    return f"{total % 2**64:016x}"


def _documents(side: Collections, name: str) -> Iterator[Any]:
    with side.read(name) as batches:
        for batch in batches:
            yield from batch
