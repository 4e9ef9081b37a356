"""Documents of a file into a collection, batch by batch, each once: by their `_id`, by a key, or by their line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

from katax_cli.engines.documents import OutgoingDocument
from katax_cli.errors import ConfigError, KataxError, Refused
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.transfer.ahead import ahead
from katax_cli.services.transfer.checkpoint import CLAIMED, ImportCheckpoint
from katax_cli.services.transfer.documents.checkpoint import DocumentCheckpoints
from katax_cli.services.transfer.documents.collections import Collections
from katax_cli.services.transfer.formats.chunks import Chunk
from katax_cli.services.transfer.formats.sources import RowFile
from katax_cli.services.transfer.load import ImportPlan, LoadedRows
from katax_cli.services.transfer.rejects import Rejects

_READ = 2**20
"""Bytes of a batch, behind which the checkpoint is saved."""
_AT_ONCE, _BYTES_AT_ONCE = 1_000, 2**23
"""Documents, and their bytes, that are sent in one go."""
BY_ID = ("_id",)


@dataclass(frozen=True, slots=True)
class _DocumentLine:
    line: int
    text: str
    document: OutgoingDocument


@dataclass(slots=True)
class DocumentImport:
    """One import. `progress` hears how many documents were dealt with."""

    database: MongoDatabase
    source: RowFile
    plan: ImportPlan
    progress: Callable[[int], object] = lambda _: None
    note: Callable[[str], object] = lambda _: None
    now: ImportCheckpoint = field(default_factory=ImportCheckpoint)

    def run(self) -> LoadedRows:
        """Imports the file, from where an earlier run of it stopped.

        Raises Refused for a collection into which another file went in part, LockHeld when the same import is under
        way, KataxError for more bad lines than allowed: what was sent by then stays.
        """
        self.database.settings.refuse_read_only()
        collections = Collections(self.database, primary=True)
        is_there = self._check(collections)
        checkpoints = DocumentCheckpoints(collections, digest=self.source.digest, target=self.plan.table)
        with checkpoints.leased():
            found = checkpoints.find()
            if self.plan.create and is_there and found is None:
                raise ConfigError(f"{self.plan.table!r} exists; leave out --create")
            if found is not None and found.state == "done" and not (self.plan.again or self.plan.replace):
                return LoadedRows(
                    self.plan.table, found.imported, found.rejected, finished_at=found.updated_at
                )
            earlier = self._begun(checkpoints, found)
            before = self.now.imported
            self._start(checkpoints)
            self._load(collections, checkpoints)
        written = self.now.imported - before
        return LoadedRows(self.plan.table, self.now.imported, self.now.rejected, earlier, written=written)

    @property
    def _key(self) -> tuple[str, ...]:
        return self.plan.key or BY_ID

    def _check(self, collections: Collections) -> bool:
        """True when the collection is there; else it comes into being with its first document."""
        name = self.plan.table
        facts = collections.facts().get(name)
        if facts is not None and facts.kind != "collection":
            raise ConfigError(f"{name!r} is a {facts.kind}; only a collection takes documents by their _id")
        unique = collections.unique_keys(name) if facts is not None else [frozenset(BY_ID)]
        if frozenset(self._key) not in unique:
            fields = ", ".join(self._key)
            raise ConfigError(
                f"{fields} is no unique key of {name!r}; make a unique index on it, or leave out --key: _id is one"
            )
        if facts is None:
            self.note(f"{name}: is created")
        return facts is not None

    def _begun(self, checkpoints: DocumentCheckpoints, found: ImportCheckpoint | None) -> int:
        """Takes the checkpoint up, or sets it to the beginning; returns how many lines an earlier run dealt with."""
        options = ", ".join(
            filter(
                None,
                (self.source.encoding, f"key {','.join(self._key)}", "replace" if self.plan.replace else ""),
            )
        )
        if found is not None and found.state == "running" and not self.plan.again:
            if found.options == options:
                self.now = found
                return found.imported + found.rejected
            if found.position > 0 and not self.plan.replace:
                raise Refused(
                    f"the import of this file into {self.plan.table!r} was begun with other options "
                    f"({found.options}); repeat those, or start anew with --replace"
                )
        other = checkpoints.unfinished()
        if other is not None and not (self.plan.again or self.plan.replace):
            raise Refused(
                f"another file went into {self.plan.table!r} up to its line {other.line - 1}, {other.imported} "
                "documents; finish it, or leave its documents there with --again"
            )
        self.now = checkpoints.claim(options)
        return 0

    def _start(self, checkpoints: DocumentCheckpoints) -> None:
        if self.now.position != CLAIMED:
            return
        if self.plan.replace:
            self.database.delete(self.plan.table, {}, timeout=float("inf"))
        self.now = checkpoints.save(replace(self.now, position=0))

    def _load(self, collections: Collections, checkpoints: DocumentCheckpoints) -> None:
        rejects = Rejects(self.plan.rejects, self.now.reject_bytes, self.now.rejected)
        chunks = self.source.lines(size=_READ, position=self.now.position, line=self.now.line)
        try:
            for chunk in ahead(chunks):
                checkpoints.turn()
                written = self._written(collections, checkpoints, chunk, rejects)
                self.now = checkpoints.save(
                    replace(
                        self.now,
                        position=chunk.end,
                        line=chunk.next_line,
                        imported=self.now.imported + written,
                        rejected=rejects.count,
                        reject_bytes=rejects.kept(),
                    )
                )
                self.progress(self.now.imported + self.now.rejected)
        finally:
            with suppress(OSError):
                rejects.close()
        self.now = checkpoints.save(replace(self.now, state="done"))

    def _written(
        self, collections: Collections, checkpoints: DocumentCheckpoints, chunk: Chunk, rejects: Rejects
    ) -> int:
        def refuse(line: int, reason: str, text: str) -> None:
            rejects.add(line, reason, text)
            if rejects.count > self.plan.max_errors:
                raise KataxError(self._stopped(line, reason, rejects))

        written = 0
        for part in _parts(self._documents(collections, checkpoints.start, chunk, refuse)):
            refused = collections.write(self.plan.table, [one.document for one in part], self._key)
            for place, reason in refused:
                refuse(part[place].line, reason, part[place].text)
            written += len(part) - len(refused)
        return written

    def _documents(
        self,
        collections: Collections,
        start: bytes,
        chunk: Chunk,
        refuse: Callable[[int, str, str], None],
    ) -> Iterator[_DocumentLine]:
        moves = collections.moves
        for line, data in enumerate(chunk.data.split(b"\n"), chunk.line):
            if not data.strip():
                continue
            try:
                text = data.decode()
                document = moves.parsed(text)
                missing = None if self._key == BY_ID else moves.missing_key(document, self._key)
                if missing is not None:
                    raise ValueError(f"has no single {missing}, its key")
                outgoing = moves.outgoing(document, moves.new_id(start, line))
            except ValueError as error:
                refuse(line, f"is no document: {error}", data.decode("utf-8", "replace"))
                continue
            yield _DocumentLine(line, text if self.plan.max_errors else "", outgoing)

    def _stopped(self, line: int, reason: str, rejects: Rejects) -> str:
        where = f"{self.source.name}, line {line}: {reason}"
        if self.plan.max_errors:
            most = self.plan.max_errors
            where = f"{rejects.count} lines were refused, more than --max-errors {most}; the last: {where}"
        sure = f"the lines up to {self.now.line - 1} are in, and some behind them may be"
        if self.now.position == 0:
            sure = "some of the lines before it may be in"
        return (
            f"{where}; {sure}, for MongoDB takes none back: mend the file and import it, or repeat with --max-errors "
            f"{rejects.count} or more"
        )


def _parts(documents: Iterator[_DocumentLine]) -> Iterator[list[_DocumentLine]]:
    """As many as are sent in one go."""
    part: list[_DocumentLine] = []
    size = 0
    for document in documents:
        part.append(document)
        size += len(document.document.raw)
        if len(part) >= _AT_ONCE or size >= _BYTES_AT_ONCE:
            yield part
            part, size = [], 0
    if part:
        yield part
