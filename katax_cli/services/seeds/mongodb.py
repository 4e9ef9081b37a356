"""Seeds of MongoDB: bulk upserts, each one safe to repeat, and the ledger's document after them.

Not in a transaction, which a standalone server has not: a seed that stops in its middle is pending and runs again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from katax_cli.core.clock import Clock, utc_text
from katax_cli.core.text.duration import FOREVER
from katax_cli.engines import registry
from katax_cli.errors import ConfigError, QueryError, RolledBack, SeedError
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.seeds.rows import check_keys, parse_rows
from katax_cli.services.seeds.values import (
    AppliedSeed,
    Counts,
    SeedFile,
    SeedOutcome,
    SeedRows,
    SeedWork,
    finished,
)

if TYPE_CHECKING:
    from random import Random

_BATCH = 100
"""Documents in one command; so few that an answer with all of them is one reply."""
Document = Mapping[str, Any]


class MongoSeedDb:
    """The argument of `seed(db)` on MongoDB. `counts` adds up the changes made by `upsert`."""

    def __init__(self, db: MongoDatabase, file: SeedFile) -> None:
        self._db = db
        self._file = file
        self.counts = Counts()

    @cached_property
    def random(self) -> Random:
        """Gives the same numbers at every run: its start is the name of the seed."""
        from random import Random

        return Random(self._file.stem)

    def command(self, spec: Document) -> Document:
        """Runs one database command. Raises QueryError also for a write that was refused in part."""
        return self._db.command(spec, timeout=FOREVER)

    def get_client(self) -> Any:
        """pymongo's own client."""
        return self._db.get_client()

    def upsert(
        self, collection: str, rows: Sequence[Document], *, key: str | Sequence[str] = "_id"
    ) -> Counts:
        """Inserts documents, or sets the fields of those that are there by their `key`.

        Raises SeedError for documents that the key does not tell apart.
        """
        names = _key(key)
        check_keys(f"seed {self._file.name}", rows, names, "row {}".format)
        before = self.counts
        for batch in _batches(rows):
            updates = [_update(row, names) for row in batch]
            answer = self.command({"update": collection, "updates": updates})
            self._count(len(answer.get("upserted", ())), int(answer.get("nModified", 0)))
        if before is self.counts:
            self._count(0, 0)
        return self.counts

    def _count(self, inserted: int, updated: int) -> None:
        new, changed = (self.counts.inserted or 0) + inserted, (self.counts.updated or 0) + updated
        self.counts = Counts(new, changed, new + changed)


class MongoSeeds:
    """The Store of MongoDB."""

    def __init__(self, db: MongoDatabase, table: str, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._name = table

    def entries(self) -> dict[str, AppliedSeed]:
        answer = self._db.command(
            {"find": self._name, "batchSize": 100_000}, timeout=FOREVER, safety=Safety.READ
        )
        documents = answer["cursor"]["firstBatch"]
        return {
            document["_id"]: AppliedSeed(
                document["_id"], document["checksum"], document["applied_at"], document["duration_ms"]
            )
            for document in documents
        }

    def work(self, file: SeedFile) -> SeedWork:
        if file.kind == "sql":
            raise ConfigError(
                f"seed {file.name} is SQL and {self._db.name!r} is mongodb; write .json, .csv or .py"
            )
        if file.kind == "py":
            from katax_cli.services.seeds.python import function_seed

            return function_seed(file, left="what came before it was applied")
        decode = registry.part(self._db.engine, "extended_json").read
        return _DocumentSeed(parse_rows(file, decode))

    def destructive(self, work: SeedWork) -> list[str]:
        return []

    def apply(self, file: SeedFile, work: SeedWork, *, again: bool) -> SeedOutcome:
        began = self._clock.monotonic()
        db = MongoSeedDb(self._db, file)
        try:
            counts = work(db)
        except RolledBack:
            raise
        except QueryError as error:
            raise SeedError(
                f"seed {file.name} failed: {error}; what came before it was applied, repair it and run it again"
            ) from error
        outcome = finished(file, "applied", counts, began, self._clock)
        self._record(db, file, outcome)
        return outcome

    def rehearse(self, wanted: Sequence[tuple[SeedFile, SeedWork]]) -> list[SeedOutcome]:
        """Counts what is there; code is not run, because nothing could undo it."""
        return [self._try(file, work) for file, work in wanted]

    def _try(self, file: SeedFile, work: SeedWork) -> SeedOutcome:
        began = self._clock.monotonic()
        counts = self._compared(work.rows, file) if isinstance(work, _DocumentSeed) else Counts()
        return finished(file, "would_apply", counts, began, self._clock)

    def _compared(self, rows: SeedRows, file: SeedFile) -> Counts:
        names = _key(rows.key)
        check_keys(f"seed {file.name}", rows.rows, names, rows.place)
        present = same = 0
        for batch in _batches(rows.rows):
            found = self._present(rows.table, batch, names)
            present += len(found)
            # A document matches as many rows as its key does: one.
            same += sum(any(_says(document, row) for row in batch) for document in found)
        inserted, updated = len(rows.rows) - present, present - same
        return Counts(inserted, updated, inserted + updated)

    def _present(self, collection: str, rows: Sequence[Document], key: Sequence[str]) -> Sequence[Document]:
        """The documents that rows would change."""
        [first, *others] = key
        query: Document = {"$or": [{name: row[name] for name in key} for row in rows]}
        if not others:
            query = {first: {"$in": [row[first] for row in rows]}}
        answer = self._db.command(
            {"find": collection, "filter": query, "batchSize": len(rows)},
            timeout=FOREVER,
            safety=Safety.READ,
        )
        documents: Sequence[Document] = answer["cursor"]["firstBatch"]
        return documents

    def _record(self, db: MongoSeedDb, file: SeedFile, outcome: SeedOutcome) -> None:
        fields = {
            "checksum": file.checksum,
            "applied_at": utc_text(self._clock),
            "duration_ms": outcome.duration_ms,
        }
        update = {"q": {"_id": file.name}, "u": {"$set": fields}, "upsert": True}
        db.command({"update": self._name, "updates": [update]})


class _DocumentSeed:
    def __init__(self, rows: SeedRows) -> None:
        self.rows = rows

    def __call__(self, on: MongoSeedDb) -> Counts:
        return on.upsert(self.rows.table, self.rows.rows, key=_key(self.rows.key))


def _key(key: str | Sequence[str]) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else tuple(key) or ("_id",)


def _update(row: Document, key: Sequence[str]) -> Document:
    identity = {name: row[name] for name in key}
    others = {name: value for name, value in row.items() if name not in identity}
    return {"q": identity, "u": {"$set": others} if others else {"$setOnInsert": identity}, "upsert": True}


def _says(document: Document, row: Document) -> bool:
    """True if the document has the row's fields already."""
    return all(name in document and document[name] == value for name, value in row.items())


def _batches(rows: Sequence[Document]) -> Iterator[Sequence[Document]]:
    for start in range(0, len(rows), _BATCH):
        yield rows[start : start + _BATCH]
