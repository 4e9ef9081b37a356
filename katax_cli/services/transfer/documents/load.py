"""Documents of a file into a collection, batch by batch, each once: by their `_id`, by a key, or by their line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from katax_cli.core.text.duration import FOREVER
from katax_cli.engines.documents import OutgoingDocument
from katax_cli.errors import ConfigError
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.transfer.ahead import ahead
from katax_cli.services.transfer.checkpoint import CLAIMED
from katax_cli.services.transfer.documents.checkpoint import DocumentCheckpoints
from katax_cli.services.transfer.documents.collections import Collections
from katax_cli.services.transfer.formats.chunks import Chunk
from katax_cli.services.transfer.formats.readers import Reject
from katax_cli.services.transfer.import_run import ImportRun, LoadedRows
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


class DocumentImport(ImportRun[MongoDatabase]):
    """One import into a collection."""

    imported_things = "documents"
    refused_things = "lines"

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
            if (done := self.done_before(found)) is not None:
                return done
            options = self._options()
            if not self.goes_on(found, checkpoints, options):
                self.now = checkpoints.claim(options)
            began = self.now
            self._start(checkpoints)
            self._load(collections, checkpoints)
        return self.outcome(began)

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

    def _options(self) -> str:
        """The options by which documents would be read or written otherwise."""
        words = [self.source.encoding, f"key {','.join(self._key)}"]
        return ", ".join([*words, "replace"] if self.plan.replace else words)

    def _start(self, checkpoints: DocumentCheckpoints) -> None:
        if self.now.position != CLAIMED:
            return
        if self.plan.replace:
            self.database.delete(self.plan.table, {}, timeout=FOREVER)
        self.now = checkpoints.save(replace(self.now, position=0))

    def _load(self, collections: Collections, checkpoints: DocumentCheckpoints) -> None:
        rejects = Rejects(self.plan.rejects, self.now.reject_bytes, self.now.rejected)
        chunks = self.source.lines(size=_READ, position=self.now.position, line=self.now.line)
        try:
            for chunk in ahead(chunks):
                checkpoints.turn()
                written = self._written(collections, checkpoints, chunk, rejects)
                self.now = checkpoints.save(self.after(chunk.end, chunk.next_line, written, rejects))
                self.progress(self.now.imported + self.now.rejected)
        finally:
            with suppress(OSError):
                rejects.close()
        self.now = checkpoints.save(replace(self.now, state="done"))

    def _written(
        self, collections: Collections, checkpoints: DocumentCheckpoints, chunk: Chunk, rejects: Rejects
    ) -> int:
        refuse, written = self.refusing(rejects), 0
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
        refuse: Reject,
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

    def what_is_in(self, refused: int) -> str:
        sure = f"the lines up to {self.now.line - 1} are in, and some behind them may be"
        if self.now.position == 0:
            sure = "some of the lines before it may be in"
        return (
            f"{sure}, for MongoDB takes none back: mend the file and import it, or repeat with --max-errors "
            f"{refused} or more"
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
