"""The parts of `katax db export` and `import` that are about documents."""

from __future__ import annotations

from dataclasses import replace

from katax_cli.cli.db.build import usage
from katax_cli.cli.db.documents.words import words_of
from katax_cli.cli.shell.progress import Progress
from katax_cli.cli.shell.scope import Scope
from katax_cli.errors import ConfigError
from katax_cli.services.transfer.documents.export import check_format, export_documents
from katax_cli.services.transfer.formats.files import FileKind, compressed, kind_of
from katax_cli.services.transfer.formats.sources import RowFile


def export_collection(chosen: Scope, collection: str | None, filter: str | None, kind: FileKind) -> None:
    """Writes the documents as jsonl, unless another format was asked for: that is refused."""
    call = chosen.call
    if collection is None:
        raise ConfigError(
            f"--query is SQL, and {chosen.one.name!r} is mongodb; name a collection, and its documents with --filter"
        )
    is_named = call.shared.format is not None or kind_of(call.shared.output).format is not None
    check_format((kind.format or "csv") if is_named else "jsonl")
    with usage():
        wanted = {} if filter is None else words_of(chosen).document(filter, "--filter")
    database = chosen.runtime.documents(replace(chosen.one, read_only=True))
    progress = Progress(call.diagnostics, "exported", "documents", None, bar=call.out.width is None)
    with call.out.writing() as stream, compressed(stream, kind.compression) as packed, progress:
        count = export_documents(database, collection, wanted, packed, on_rows=progress)
    call.diagnostics.note(f"exported {count:,} documents")


def of_documents(source: RowFile, *, is_named: bool) -> RowFile:
    """The file as lines of documents, unless it is said to be something else: that is refused."""
    check_format((source.kind.format or "csv") if is_named else "jsonl")
    kind = FileKind("jsonl", source.kind.compression)
    # As it is where it can be: its digest is being made.
    return source if source.kind == kind else replace(source, kind=kind)


def how_documents_are_read(source: RowFile) -> str:
    """Encoding and form, in one line."""
    return f"reading {source.name}: jsonl, {source.encoding}; a document of Extended JSON in each line"
